"""How many threads of a worker are worth while.

They share one interpreter: for calls that take no time one thread is the quickest, and each more
slows down all. For calls that wait for something, or for a file server that does, more are better.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

# So long threads work before another one joins them, unless they end so many calls.
_RAMP = 0.002
_QUICK = 2
# While they go on so, whoever watches gives them twice the time, up to this: each look costs the
# threads a switch.
_LONGEST_RAMP = 0.008
# So long they must have ended calls that quickly, in bodies for this share of it at most, before
# one leaves.
_WINDOW = 0.01
_BODIES = 0.5


class ThreadPacer:
    """The threads of one worker that run calls. Its methods may be called from any thread.

    Args:
        waits: each step of a call waits for a file server or a disk.

    Attributes:
        ended: how many calls have ended.
    """

    def __init__(self, *, waits: bool) -> None:
        self._waits = waits
        self.ended = 0
        self._in_bodies = 0.0
        self._ramp = _RAMP
        self._window_start = time.monotonic()
        self._ended_before = 0

    def add(self, seconds: float) -> None:
        """A body has ended that took so long."""
        self._in_bodies += seconds

    def keeps_up(self, wake: threading.Event, is_at_work: Callable[[], bool]) -> bool:
        """Give the threads a moment; True if they end calls faster than more would.

        Args:
            wake: set when there may be news, such as an end; cleared here.
            is_at_work: whether one of them has something to do.
        """
        ended, now = self.ended, time.monotonic()
        until = now + self._ramp
        while is_at_work() and (left := until - now) > 0:
            wake.wait(left)
            wake.clear()
            now = time.monotonic()
        keep_up = (self.ended - ended) * _RAMP >= _QUICK * self._ramp
        self._ramp = min(2 * self._ramp, _LONGEST_RAMP) if keep_up else _RAMP
        return keep_up and is_at_work()

    def is_too_large(self, others: int) -> bool:
        """Whether the thread that asks should leave the calls to so many others.

        True once in `_WINDOW` at most, so that they leave one by one.
        """
        now = time.monotonic()
        passed = now - self._window_start
        if self._waits or passed < _WINDOW:
            return False
        ended, in_bodies = self.ended - self._ended_before, self._in_bodies
        self._window_start, self._ended_before, self._in_bodies = now, self.ended, 0.0
        return others > 0 and ended * _RAMP >= _QUICK * passed and in_bodies <= _BODIES * passed
