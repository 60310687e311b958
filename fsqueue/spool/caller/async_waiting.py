"""Waits for outcomes in an event loop, which listens to file events itself.

While one of its tasks waits, the loop watches the descriptor of the file events as a reader. The
polls that serve as a safety net run in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import weakref
from collections import Counter
from typing import TYPE_CHECKING

from fsqueue.common.offloading import in_thread_or_here, offload
from fsqueue.spool.caller.wait import Wait
from fsqueue.spool.wakeups.watching import watches

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.caller.waiter import Waiter


log: logging.Logger = logging.getLogger(__name__)


async def arrival(
    waiter: Waiter,
    invocation_id: str,
    pause: float | None,
    is_over: Callable[[], bool] | None,
) -> None:
    """Wait until an outcome has arrived, or for `pause` seconds.

    Args:
        pause: None: no limit.
        is_over: called in a thread after the wait has begun; returns whether it is unnecessary.

    Raises:
        RuntimeError: this process can no longer receive results.
        SpoolError: the outcome cannot be received.
    """
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def finish() -> None:
        if not over.done():
            over.set_result(None)

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(finish)

    if waiter.has_seen(invocation_id):
        waiter.forget(invocation_id)  # it can only be read once
        return
    listener = _listeners.get(loop) or _listeners.setdefault(loop, _Listener())
    wait = Wait(invocation_id, wake)
    waiter.begin(wait)
    listener.add(loop, waiter)
    try:
        if not over.done() and (is_over is None or not await in_thread_or_here(is_over)):
            await asyncio.wait([over], timeout=pause)
    finally:
        listener.remove(loop, waiter)
        waiter.end(wait)
    if wait.error is not None:
        raise wait.error


class _Listener:
    """Listens and polls in an event loop while tasks of it wait for outcomes."""

    def __init__(self) -> None:
        self._waits: Counter[Waiter] = Counter()
        self._handle: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._polling = False

    def add(self, loop: asyncio.AbstractEventLoop, waiter: Waiter) -> None:
        """Listen for a wait that has begun."""
        self._waits[waiter] += 1
        self._listen(loop)

    def remove(self, loop: asyncio.AbstractEventLoop, waiter: Waiter) -> None:
        """End the listening for one wait; stop after the last one."""
        self._waits[waiter] -= 1
        if self._waits[waiter] > 0:
            return
        del self._waits[waiter]
        if self._waits:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._handle is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.remove_reader(self._handle)
            self._handle = None

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        shared = watches()
        if self._handle is None and shared.handle is not None:
            with contextlib.suppress(NotImplementedError):  # this kind of loop only polls
                loop.add_reader(shared.handle, shared.take)
                self._handle = shared.handle
        if not self._polling:
            when = loop.time() + min(waiter.until_poll for waiter in self._waits)
            if self._timer is not None:
                if self._timer.when() <= when:
                    return
                self._timer.cancel()
            self._timer = loop.call_at(when, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        due = [waiter for waiter in self._waits if waiter.until_poll <= 0]
        if due:
            self._polling = True
            try:
                offload(functools.partial(self._poll, loop, due))
            except BaseException:
                self._polling = False
                raise
        elif self._waits:
            self._listen(loop)

    def _poll(self, loop: asyncio.AbstractEventLoop, due: list[Waiter]) -> None:
        """Poll, in a separate thread.

        This is not a task of the loop: if Ctrl-C strikes between two callbacks, the loop loses the
        wake-up of a task, and `asyncio.run` would wait for this one forever.
        """
        try:
            for waiter in due:
                waiter.poll()
        except Exception:
            # All tasks that wait rely on this.
            log.exception("cannot check for results, trying again")
        finally:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._polled, loop)

    def _polled(self, loop: asyncio.AbstractEventLoop) -> None:
        self._polling = False
        if self._waits:
            self._listen(loop)


_listeners: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Listener] = (
    weakref.WeakKeyDictionary()
)
