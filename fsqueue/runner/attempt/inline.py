"""Bodies that run where they are called, with ``dev_mode_force_sync_tasks``: without a file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from fsqueue.runner.attempt.capture import capturing
from fsqueue.runner.attempt.context import CurrentInvocation, inline
from fsqueue.runner.attempt.reporting import Captured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.spool.store.body_reports import Progress


class InlineReport:
    """What such a body says.

    Attributes:
        progress: the latest report; None if there was none.
    """

    def __init__(self) -> None:
        self._captured = Captured()
        self._output = b""
        self.progress: Progress | None = None

    def add_output(self, text: str) -> None:
        """Keep what the body prints."""
        self._captured.add(text)

    @property
    def output(self) -> str:
        """All that it has printed."""
        self._output += self._captured.take(last=True)
        return self._output.decode("utf-8", "replace")


class InlineEnd:
    """What such a body has returned.

    Attributes:
        value: its value.
    """

    value: Any = None


class InlineCurrent(CurrentInvocation):
    """The invocation of such a body, as the body sees it."""

    def __init__(self, invocation_id: str, task: str, queue: str, report: InlineReport) -> None:
        self.id, self.task, self.queue = invocation_id, task, queue
        self.attempt, self.retries = 1, 0
        self._report = report

    @property
    def remaining(self) -> float | None:
        """None: time limits are not kept here."""
        return None

    @property
    def cancelled(self) -> bool:
        """False: nobody gets to know of it before it has ended."""
        return False

    def _show(self, progress: Progress) -> None:
        self._report.progress = progress


@contextlib.contextmanager
def running_inline(here: InlineCurrent, report: InlineReport, *, capture: bool) -> Iterator[None]:
    """Within the block `here` is the current invocation.

    Args:
        here: the invocation.
        report: takes what its body says.
        capture: also what it prints.
    """
    token = inline.set(here)
    try:
        with capturing(report) if capture else contextlib.nullcontext():
            yield
    finally:
        inline.reset(token)
