"""Waits for the outcomes of many calls in one thread, which gets each as it arrives.

Any thread may add calls and ring. `Waiter.wait` begins and ends a wait for each of its calls every
time; here, each call is waited for once, whatever their number.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.spool.wakeups.watching import Alarm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsqueue.spool.caller.waiter import Wait, Waiter

# Seconds of sleep while nothing is awaited. A ring ends it.
_LONG = 3600.0


class Arrival(NamedTuple):
    """A call that is not waited for any more."""

    invocation_id: str
    error: Exception | None
    """Why its outcome cannot be received; None if it has arrived."""


class Arrivals:
    """The calls whose outcomes a thread waits for.

    Args:
        waiter: returns the waiter of this process's client.
    """

    def __init__(self, waiter: Callable[[], Waiter]) -> None:
        self._waiter = waiter
        self._alarm = Alarm()
        self._arrived: deque[Arrival] = deque()
        self._waits: dict[str, Wait] = {}
        self._until = 0.0

    def add(self, invocation_id: str) -> None:
        """Wait for a call. From any thread.

        Raises:
            RuntimeError: no result can be received any more.
        """
        waiter = self._waiter()
        begun: list[Wait] = []
        wait = waiter.begin(invocation_id, partial(self._wake, invocation_id, begun))
        begun.append(wait)
        self._waits[invocation_id] = wait
        if wait.over:  # perhaps before it was noted here
            self._waits.pop(invocation_id, None)
        # In this order: the thread first shows how long it may sleep, and then finds out.
        if time.monotonic() + waiter.until_poll < self._until:
            self._alarm.set()

    def _wake(self, invocation_id: str, begun: list[Wait]) -> None:
        self._arrived.append(Arrival(invocation_id, begun[0].error if begun else None))
        self._alarm.set()

    def discard(self, invocation_id: str) -> None:
        """Wait no longer for a call. From any thread."""
        wait = self._waits.pop(invocation_id, None)
        if wait is not None:
            self._waiter().end(wait)

    def ring(self) -> None:
        """End the sleep of the waiting thread, or its next one. From any thread."""
        self._alarm.set()

    def take(self) -> Iterator[Arrival]:
        """The calls whose outcomes have arrived, or cannot be received any more."""
        while self._arrived:
            arrival = self._arrived.popleft()
            self._waits.pop(arrival.invocation_id, None)
            yield arrival

    def sleep(self) -> None:
        """Wait until a call is added or has arrived, or `ring` is called; it may return early."""
        self._until = float("inf")
        pause = self._waiter().until_poll if self._waits else _LONG
        if pause > 0:
            self._until = time.monotonic() + pause
            self._alarm.wait(pause)
        self._until = 0.0
        self._alarm.clear()
        if pause <= 0:
            self._waiter().poll()
