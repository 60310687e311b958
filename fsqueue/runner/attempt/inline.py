"""Bodies that run inline, where they are called, with ``dev_mode_force_sync_tasks``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from fsqueue.runner.attempt.context import CurrentInvocation, inline
from fsqueue.runner.output.capture import capturing
from fsqueue.runner.output.reporting import Captured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.spool.features.body_reports import Progress


class InlineReport:
    """The output and progress of an inline body.

    Attributes:
        progress: the latest report; None if there is none.
    """

    def __init__(self) -> None:
        self._captured = Captured()
        self._output = b""
        self.progress: Progress | None = None

    def add_output(self, text: str) -> None:
        """Keep text that the body prints."""
        self._captured.add(text)

    @property
    def output(self) -> str:
        """The output so far."""
        self._output += self._captured.take(last=True)
        return self._output.decode("utf-8", "replace")


class InlineCall:
    """An inline call: the arguments of its body, and the value that it returned.

    Attributes:
        args: the positional arguments.
        kwargs: the arguments by name.
        value: what the body returned, and then what the caller gets.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.value: Any = None


class InlineCurrent(CurrentInvocation):
    """The current invocation of an inline body."""

    def __init__(self, invocation_id: str, task: str, queue: str, report: InlineReport) -> None:
        self.id: str = invocation_id
        self.task: str = task
        self.queue: str = queue
        self.attempt: int = 1
        self.retries: int = 0
        self._report = report

    @property
    def devices(self) -> tuple[str, ...]:
        """Always empty: no worker lends GPUs to an inline body."""
        return ()

    @property
    def remaining(self) -> float | None:
        """None: inline bodies have no time limit."""
        return None

    @property
    def cancelled(self) -> bool:
        """False: no handle of the call exists before it has ended."""
        return False

    def _show(self, progress: Progress) -> None:
        self._report.progress = progress


@contextlib.contextmanager
def running_inline(here: InlineCurrent, report: InlineReport, *, capture: bool) -> Iterator[None]:
    """Make `here` the current invocation in the block.

    Args:
        here: the invocation.
        report: receives the progress of its body.
        capture: also capture the output of the body into the report.
    """
    token = inline.set(here)
    try:
        with capturing(report) if capture else contextlib.nullcontext():
            yield
    finally:
        inline.reset(token)
