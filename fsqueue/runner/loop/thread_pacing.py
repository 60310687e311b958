"""Decides how many threads of a worker to keep busy.

Because of the GIL, one thread is fastest for very short calls, and each further thread slows down
the others. Calls that wait for I/O, or for a slow file server, benefit from more threads.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Another thread joins after this many seconds, unless at least `_QUICK` calls ended in that time.
_RAMP = 0.002
_QUICK = 2
# While the threads keep up, the claim loop doubles the time between two checks, up to this maximum:
# each check costs a thread switch.
_LONGEST_RAMP = 0.008
# A thread leaves if calls have ended at that rate for this many seconds, and bodies have taken at
# most this share of the time.
_WINDOW = 0.01
_BODIES = 0.5


class ThreadPacer:
    """Paces the threads of one worker. Its methods may be called from any thread.

    Args:
        waits: each step of a call waits for a file server or a disk, so more threads are better.
    """

    def __init__(self, *, waits: bool) -> None:
        self._waits = waits
        self._ended = 0
        self._in_bodies = 0.0
        self._ramp = _RAMP
        self._window_start = time.monotonic()
        self._ended_before = 0

    def add(self, seconds: float) -> None:
        """Record a call that has ended, and the time that its body took."""
        self._ended += 1
        self._in_bodies += seconds

    def keeps_up(self, pause: Callable[[float], object], is_at_work: Callable[[], bool]) -> bool:
        """Give the threads a moment; True if they end calls faster than more threads would.

        Args:
            pause: waits for this many seconds, or until something has happened, such as the end of
                a call.
            is_at_work: whether at least one thread has a call.
        """
        ended, now = self._ended, time.monotonic()
        until = now + self._ramp
        while is_at_work() and (left := until - now) > 0:
            pause(left)
            now = time.monotonic()
        keep_up = (self._ended - ended) * _RAMP >= _QUICK * self._ramp
        self._ramp = min(2 * self._ramp, _LONGEST_RAMP) if keep_up else _RAMP
        return keep_up and is_at_work()

    def is_too_large(self, others: int) -> bool:
        """Whether the calling thread should leave its calls to the other threads.

        True at most once in `_WINDOW` seconds, so that threads leave one by one.

        Args:
            others: number of other threads that have a call.
        """
        now = time.monotonic()
        passed = now - self._window_start
        if self._waits or passed < _WINDOW:
            return False
        ended, in_bodies = self._ended - self._ended_before, self._in_bodies
        self._window_start, self._ended_before, self._in_bodies = now, self._ended, 0.0
        return others > 0 and ended * _RAMP >= _QUICK * passed and in_bodies <= _BODIES * passed
