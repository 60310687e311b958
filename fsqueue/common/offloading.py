"""Runs functions in other threads: beside an event loop, and when the limit of threads is reached.

An event loop may run in the main thread, where a signal handler can raise an exception between any
two instructions. The standard library's pools and futures have locks that such an exception leaves
held: then their threads hang, and the process never ends. So this pool uses only what C code
does in one step: queues, deques and plain locks.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
import functools
import logging
import os
import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

log: logging.Logger = logging.getLogger(__name__)

R = TypeVar("R")

# As many threads as the event loop's own pool has on a small machine.
_MOST = 8
# Seconds for which a process that ends waits for functions that still run.
_PATIENCE = 10.0
# Pauses, in seconds, between attempts to start a thread.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


class NoThreadError(RuntimeError):
    """This process cannot start another thread."""


class _Job:
    """A function that a thread of the pool calls."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.run = function
        self.over = _thread.allocate_lock()
        self.over.acquire()


class Threads:
    """A pool of threads that call functions: as many as are busy at a time, but at most 8."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: deque[None] = deque()
        # One entry for each thread that waits. If an interrupted `submit` loses one, there is one
        # thread more.
        self._idle: deque[None] = deque()
        self._unfinished: dict[_Job, None] = {}
        self._ended = False

    def submit(self, function: Callable[[], object]) -> None:
        """Call a function in another thread.

        Raises:
            NoThreadError: there is no thread that could do so.
        """
        if self._ended:
            raise NoThreadError("its threads have ended")
        job = _Job(function)
        try:
            self._idle.pop()
        except IndexError:
            self._start()
        self._unfinished[job] = None
        self._jobs.put(job)

    def _start(self) -> None:
        if len(self._threads) >= _MOST:
            return
        try:
            _thread.start_new_thread(self._work, ())
        except RuntimeError as error:  # too many, or Python is ending
            if not self._threads:
                raise NoThreadError(str(error)) from error
        else:
            self._threads.append(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if not self._ended:
                    job.run()
            finally:
                self._unfinished.pop(job, None)
                job.over.release()
                del job
            self._idle.append(None)

    def end(self) -> None:
        """End the threads after their current functions. Queued functions are not called."""
        self._ended = True
        for _ in self._threads:
            self._jobs.put(None)

    def finish(self) -> None:
        """Wait until all functions have returned, for a limited time."""
        for job in list(self._unfinished):
            job.over.acquire(timeout=_PATIENCE)


_pool = Threads()


def _renew() -> None:
    global _pool  # noqa: PLW0603 - a forked child has no threads of its parent
    _pool = Threads()


os.register_at_fork(after_in_child=_renew)


def offload(function: Callable[[], object]) -> None:
    """Call a function in another thread, or in this one if there is no other."""
    try:
        _pool.submit(function)
    except NoThreadError:
        function()


def finish() -> None:
    """Wait for the functions that are being called, because the process is about to end."""
    _pool.finish()


async def in_thread(function: Callable[..., R], /, *args: object, pool: Threads | None = None) -> R:
    """Call a function in another thread, with this task's context variables.

    If the event loop's task is cancelled before the function was called, it is not called.

    Args:
        args: its arguments.
        pool: the pool to use in place of this module's own.

    Raises:
        NoThreadError: the function was not called.
        Exception: what the function raises.
    """
    loop = asyncio.get_running_loop()
    returned: asyncio.Future[R] = loop.create_future()

    def call() -> None:
        if returned.cancelled():
            return
        try:
            settle = functools.partial(_settle, returned.set_result, function(*args))
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            settle = functools.partial(_settle, returned.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(settle, returned)

    (pool or _pool).submit(functools.partial(contextvars.copy_context().run, call))
    return await returned


def _settle(settle: Callable[[Any], None], outcome: object, returned: asyncio.Future[Any]) -> None:
    if not returned.done():
        settle(outcome)


async def in_thread_or_here(function: Callable[..., R], /, *args: object) -> R:
    """Like `in_thread`, but call the function in the event loop's thread if there is no other.

    For short functions: it is better that other tasks wait than that this one fails.
    """
    try:
        return await in_thread(function, *args)
    except NoThreadError:
        return function(*args)


def when_threads_start(
    start: Callable[[], R], what: str, aborted: threading.Event | None = None
) -> R:
    """Start a thread for a body. Waits while this process has reached its limit of threads.

    Args:
        start: starts the thread; raises RuntimeError if that is impossible now.
        what: what has to wait for the thread, for the log.
        aborted: set when the worker must end immediately.

    Raises:
        RuntimeError: the worker ended before the thread could start.
    """
    aborted = aborted or threading.Event()
    pause = _FIRST_PAUSE
    while True:
        try:
            return start()
        except RuntimeError as error:
            log.warning("%s waits for another thread, trying again: %s", what, error)
            if aborted.wait(pause):
                raise
            pause = min(2 * pause, _LONGEST_PAUSE)
