"""Starts threads: beside an event loop, and where a process has reached its limit."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)

R = TypeVar("R")

# Pauses, in seconds, between attempts to start a thread.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


class NoThreadError(RuntimeError):
    """This process cannot start another thread."""


async def in_thread(
    function: Callable[..., R], /, *args: object, pool: ThreadPoolExecutor | None = None
) -> R:
    """Call a function in a thread of the event loop's pool, with this task's context variables.

    If the pool cannot start a thread, `asyncio.to_thread` leaves the call in the pool's queue, and
    another thread makes the call later, unnoticed. This function never makes the call in that case.

    Args:
        function: the function.
        args: its arguments.
        pool: the pool to use in place of the event loop's.

    Raises:
        NoThreadError: the function was not called.
        Exception: what the function raises.
    """
    future: Future[R] = Future()

    def call() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function(*args))
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            future.set_exception(error)

    context = contextvars.copy_context()
    try:
        asyncio.get_running_loop().run_in_executor(pool, functools.partial(context.run, call))
    except RuntimeError as error:
        if future.cancel():
            raise NoThreadError(str(error)) from error
    return await asyncio.wrap_future(future)


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
    """Start a thread for a body, which waits until this process may have another one.

    Args:
        start: starts the thread; raises RuntimeError if that is impossible now.
        what: what cannot go on without the thread, for the log.
        aborted: set when the worker is to end at once.

    Raises:
        RuntimeError: the worker ends meanwhile.
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
