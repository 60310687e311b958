"""Runs blocking functions beside the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

R = TypeVar("R")


class NoThreadError(RuntimeError):
    """This process may not have another thread."""


async def in_thread(
    function: Callable[..., R], /, *args: object, pool: ThreadPoolExecutor | None = None
) -> R:
    """Call a function in a thread of the event loop's pool, with this task's context variables.

    `asyncio.to_thread` leaves a call in the pool's queue when the pool cannot start a thread for
    it. Another thread makes that call later, and nobody knows of it. Here it is never made then.

    Args:
        function: the function.
        args: its arguments.
        pool: another pool.

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
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            future.set_exception(error)

    context = contextvars.copy_context()
    try:
        asyncio.get_running_loop().run_in_executor(pool, functools.partial(context.run, call))
    except RuntimeError as error:
        if future.cancel():
            raise NoThreadError(str(error)) from error
    return await asyncio.wrap_future(future)


async def in_thread_or_here(function: Callable[..., R], /, *args: object) -> R:
    """The same, and in the event loop's own thread if there can be no other one.

    For what takes a moment: it is better that other tasks wait than that this one fails.
    """
    try:
        return await in_thread(function, *args)
    except NoThreadError:
        return function(*args)
