"""Support for waiting for other calls within a body, cheap to import for callers."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_NOTHING = contextlib.nullcontext()


def not_blocking_a_loop() -> contextlib.AbstractContextManager[None]:
    """A block that waits. The event loop keeps running if the block is in a coroutine body."""
    # Imported only where bodies run. While another thread imports it, it has no names yet.
    event_loop = sys.modules.get("fsqueue.runner.event_loop.loop")
    aside = getattr(event_loop, "not_blocking_the_loop", None)
    return _NOTHING if aside is None else aside()


async def in_helper_thread(function: Callable[..., T], /, *args: object) -> T:
    """Run a call in a helper thread of the coroutine body that waits for it.

    Raises:
        NoThreadError: this process cannot start another thread.
        Exception: what the function raises.
    """
    from fsqueue.common.offloading import in_thread
    from fsqueue.runner.attempt.context import current

    execution = current.get()
    pool = None if execution is None else execution.helper_threads
    return await in_thread(function, *args, pool=pool)


def start_helper(function: Callable[[], object]) -> None:
    """Call a function in a helper thread of the body that the calling code belongs to.

    Raises:
        RuntimeError: this process cannot start another thread.
    """
    from fsqueue.runner.attempt.context import current

    execution = current.get()
    if execution is None:
        threading.Thread(target=function, name="fsqueue-helper", daemon=True).start()
    else:
        execution.helper_threads.submit(partial(contextvars.copy_context().run, function))
