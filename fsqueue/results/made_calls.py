"""Abandons calls when their caller fails before it has their results.

A signal handler can raise an exception between any two instructions of the main thread, as Ctrl-C
does. So a caller records each call before it publishes it. When it catches an exception, it
abandons all recorded calls, whether or not they reached the spool.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from fsqueue.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from fsqueue.results.pending_result import PendingResult

log: logging.Logger = logging.getLogger(__name__)

P = TypeVar("P")

# The most outcomes that are left in the mailbox: each makes its listings longer.
_MOST_LEFT = 512


def abandon_all(made: Iterable[PendingResult], *, stop: bool = False) -> None:
    """Abandon calls after an error. Further errors are only logged, so the caller sees the first.

    Args:
        made: the calls.
        stop: stop the bodies that are running.
    """
    for each in made:
        try:
            each.abandon(stop=stop)
        except (OSError, SpoolError) as error:
            log.warning("%s, which its caller gave up, cannot be withdrawn: %s", each.id, error)


def published(publish: Callable[[list[PendingResult]], P]) -> P:
    """Publish calls, and abandon them if that fails.

    Args:
        publish: notes each call in the list before it publishes it.
    """
    made: list[PendingResult] = []
    try:
        return publish(made)
    except BaseException:
        abandon_all(made)
        raise


class Receiving:
    """A block that publishes calls and waits for their outcomes, and abandons them if it fails.

    On a file server, the outcomes of a fan-out stay in the mailbox until the last one has come:
    while workers add others, each removal costs a request more. If the process dies, they expire
    with its mailbox, like results that it has not collected.

    Attributes:
        made: the calls, noted before they are published.
    """

    def __init__(self) -> None:
        self.made: list[PendingResult] = []
        self._stop: bool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del kind, traceback
        if error is not None:
            # If the shared directory failed, the call was not published, or nothing can be stopped.
            stop = not isinstance(error, OSError) if self._stop is None else self._stop
            abandon_all(self.made, stop=stop and not isinstance(error, SpoolError))
        for each in self.made:
            each.clear()

    def content(self, pending_result: PendingResult, deadline: float | None) -> Any:
        """Wait for the outcome of a call of the block.

        If an exception interrupts the wait, the running bodies are stopped too. A later exception,
        such as one that a body raised, does not stop the bodies of the other calls.

        Raises:
            TimeoutError: the deadline, on the monotonic clock, has passed.
        """
        if self._stop is None and 1 < len(self.made) <= _MOST_LEFT:
            self._leave_outcomes(remote=pending_result.store.fs.remote)
        self._stop = True
        content = pending_result.fetch(deadline)
        self._stop = False
        if content is None:
            raise pending_result.overdue()
        return content

    def _leave_outcomes(self, *, remote: bool) -> None:
        for each in self.made:
            each.leaves = remote


class Droppable(Protocol):
    """Calls that can be abandoned."""

    def abandon(self, *, stop: bool = False) -> None:
        """Abandon the calls."""


D = TypeVar("D", bound=Droppable)


class Submission(Generic[D]):
    """Calls that one thread publishes while another thread may give them up.

    Each thread records what it has done before it checks what the other one has done. So whichever
    comes second abandons the calls.

    Args:
        submit: publishes the calls.
    """

    def __init__(self, submit: Callable[[], D]) -> None:
        self._submit = submit
        self._made: D | None = None
        self._given_up = self._stop = False

    def make(self) -> D:
        """Publish the calls."""
        self._made = made = self._submit()
        if self._given_up:
            made.abandon(stop=self._stop)
        return made

    def give_up(self, *, stop: bool = False) -> None:
        """Abandon the calls now, or as soon as they are published.

        Args:
            stop: stop the bodies that are running.
        """
        self._stop, self._given_up = stop, True
        if self._made is not None:
            self._made.abandon(stop=stop)
