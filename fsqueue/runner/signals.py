"""SIGTERM and Ctrl-C: the first one drains, the second one ends at once."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# timeout(1) and some batch systems signal a process and then its group, which it belongs to.
_ONE_SIGNAL = 0.1


@contextlib.contextmanager
def stop_on_signals(drain: Callable[[], None], abort: Callable[[int], None]) -> Iterator[None]:
    """Handle the signals while the block runs; outside of the main thread do nothing.

    A handler runs between any two instructions of the main thread, which may hold any lock
    there. So it only puts the signal into a queue that is made for this, and a thread acts.

    Args:
        drain: called on the first signal.
        abort: called on the second one with its number.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def handler(number: int, frame: FrameType | None) -> None:
        del frame
        received.put(number)

    def act() -> None:
        if received.get() is None:
            return
        drain()
        ignored_until = time.monotonic() + _ONE_SIGNAL
        while (number := received.get()) is not None:
            if time.monotonic() >= ignored_until:
                abort(number)

    thread = threading.Thread(target=act, name="fsqueue-signals", daemon=True)
    thread.start()
    previous = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, action in previous.items():
            signal.signal(number, action)
        received.put(None)
        thread.join()
