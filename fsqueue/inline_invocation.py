"""Invocations that ran in the calling thread, with ``dev_mode_force_sync_tasks``."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeVar

from fsqueue.invocation import Invocation, deadline_of
from fsqueue.references import given
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from fsqueue.results.made_calls import Receiving
    from fsqueue.runner.attempt.inline import InlineReport
    from fsqueue.spool.features.body_reports import Progress

R = TypeVar("R")


class InlineInvocation(Invocation[R]):
    """A call that ran in the calling thread, with ``dev_mode_force_sync_tasks``."""

    _numbers = itertools.count(1)

    def __init__(self, run: Callable[[str, InlineReport], R]) -> None:
        from fsqueue.runner.attempt.inline import InlineReport

        self.id: str = f"inline-{next(self._numbers)}"
        self._value: R | None = None
        self._error: BaseException | None = None
        self._report = InlineReport()
        try:
            self._value = run(self.id, self._report)
        except Exception as error:  # noqa: BLE001 - raised by `get`, as with a worker
            self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return given, (self.get(),)

    @property
    def status(self) -> State:
        """How the call ended."""
        return State.SUCCEEDED if self._error is None else State.FAILED

    @property
    def output(self) -> str:
        """What the body printed and logged, with the task option `capture_output`."""
        return self._report.output

    @property
    def reported(self) -> Progress | None:
        """The last progress that the body reported."""
        return self._report.progress

    def get(self, timeout: float | None = None) -> R:
        """The return value. Raises what the body raised."""
        deadline_of(timeout)
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def future(self) -> Future[R]:
        """A future that has its result."""
        from concurrent.futures import Future

        future: Future[R] = Future()
        if self._error is not None:
            future.set_exception(self._error)
        else:
            future.set_result(self._value)  # type: ignore[arg-type]
        return future

    def received(self, receiving: Receiving, deadline: float | None) -> R:
        """The return value. Raises what the body raised."""
        del receiving, deadline
        return self.get()

    async def async_result(self) -> R:
        """The return value. Raises what the body raised."""
        return self.get()

    def cancel(self) -> bool:
        """Always False: the call has ended."""
        return False

    def abandon(self, *, stop: bool = False) -> None:
        """Do nothing: the call has no file."""
