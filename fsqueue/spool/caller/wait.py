"""One wait for an outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
CLOSED: Final = (
    "the connection to the spool is closed, by app.close() or because the process is ending, so no "
    "result can be received. An atexit handler can make calls if it was registered after the "
    "first call: handlers run in reverse order, and fsqueue disconnects in one of them."
)


class Wait:
    """One wait for an outcome.

    Args:
        invocation_id: the call whose outcome is awaited.
        wake: called when the wait has ended, in any thread.

    Attributes:
        over: whether the outcome has arrived, or there is an error.
        error: why the outcome cannot be received.
    """

    __slots__ = ("error", "invocation_id", "over", "wake")

    def __init__(self, invocation_id: str, wake: Callable[[], object]) -> None:
        self.invocation_id: str = invocation_id
        self.wake: Callable[[], object] = wake
        self.over: bool = False
        self.error: Exception | None = None

    def end(self, error: Exception | None = None) -> None:
        """End the wait."""
        self.error, self.over = error, True
        self.wake()
