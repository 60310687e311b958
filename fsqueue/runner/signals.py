"""SIGTERM and Ctrl-C: the first one drains, the second one ends at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# timeout(1) and some batch systems signal a process and then its group, which it belongs to.
_ONE_SIGNAL = 0.1
_END = 0


@contextlib.contextmanager
def stop_on_signals(drain: Callable[[], None], abort: Callable[[int], None]) -> Iterator[None]:
    """Handle the signals while the block runs; outside of the main thread do nothing.

    A handler runs between any two instructions of the main thread, which may hold any lock
    there. So it does nothing, and a thread that reads the signals from a pipe acts.

    Args:
        drain: called on the first signal.
        abort: called on the second one with its number.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received, sent = os.pipe()
    os.set_blocking(sent, False)
    thread = threading.Thread(
        target=_act, args=(received, drain, abort), name="fsqueue-signals", daemon=True
    )
    thread.start()
    # Python's own C handler writes to the pipe in whatever thread the kernel has chosen. A handler
    # in Python waits for the main thread, which does not wake up if another thread got the signal.
    former = signal.set_wakeup_fd(sent, warn_on_full_buffer=False)
    previous = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, action in previous.items():
            signal.signal(number, action)
        signal.set_wakeup_fd(former)
        os.write(sent, bytes([_END]))
        thread.join()
        os.close(received)
        os.close(sent)


def _act(pipe: int, drain: Callable[[], None], abort: Callable[[int], None]) -> None:
    if _next_signal(pipe) == _END:
        return
    drain()
    ignored_until = time.monotonic() + _ONE_SIGNAL
    while (number := _next_signal(pipe)) != _END:
        if time.monotonic() >= ignored_until:
            abort(number)


def _next_signal(pipe: int) -> int:
    """The next signal that is for this module, or `_END`; others pass through the pipe too."""
    while True:
        number = os.read(pipe, 1)[0]
        if number in {_END, *_SIGNALS}:
            return number
