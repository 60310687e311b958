"""Waiting for other calls within a body."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def not_blocking_a_loop() -> contextlib.AbstractContextManager[None]:
    """A block that waits, maybe in a coroutine body: the loop of the bodies goes on meanwhile."""
    event_loop = sys.modules.get("fsqueue.runner.event_loop.loop")  # imported where bodies run
    return contextlib.nullcontext() if event_loop is None else event_loop.not_blocking_the_loop()


async def in_helper_thread(function: Callable[..., T], /, *args: object) -> T:
    """Run another call for a coroutine that waits for it, in a thread of that coroutine's body.

    Raises:
        NoThreadError: this process may not have another thread.
        Exception: what the function raises.
    """
    from fsqueue.common.offloading import in_thread
    from fsqueue.runner.attempt.context import current

    execution = current.get()
    pool = None if execution is None else execution.helper_threads
    return await in_thread(function, *args, pool=pool)
