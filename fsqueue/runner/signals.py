"""SIGTERM and Ctrl-C: the first one drains for a while, the second one ends at once."""

from __future__ import annotations

import contextlib
import os
import select
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
def stop_on_signals(
    drain: Callable[[], None], abort: Callable[[int], None], *, grace: float
) -> Iterator[Callable[[], object]]:
    """Handle the signals while the block runs; outside of the main thread do nothing.

    Yields what does the same as a SIGTERM, to be called within the block.

    A handler runs between any two instructions of the main thread, which may hold any lock
    there. So it does nothing, and a thread that reads the signals from a pipe acts.

    Args:
        drain: called on the first signal.
        abort: called with the exit status: 128 + the number of a second signal, or 0 when the
            grace is over.
        grace: seconds after the first signal in which the block should end by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield drain
        return
    received, sent = os.pipe()
    os.set_blocking(sent, False)
    thread = threading.Thread(
        target=_act, args=(received, drain, abort, grace), name="fsqueue-signals", daemon=True
    )
    thread.start()
    # Python's own C handler writes to the pipe in whatever thread the kernel has chosen. A handler
    # in Python waits for the main thread, which does not wake up if another thread got the signal.
    former = signal.set_wakeup_fd(sent, warn_on_full_buffer=False)
    previous = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    try:
        yield lambda: os.write(sent, bytes([signal.SIGTERM]))
    finally:
        for number, action in previous.items():
            signal.signal(number, action)
        signal.set_wakeup_fd(former)
        os.write(sent, bytes([_END]))
        thread.join()
        os.close(received)
        os.close(sent)


def _act(pipe: int, drain: Callable[[], None], abort: Callable[[int], None], grace: float) -> None:
    if _next_signal(pipe, None) == _END:
        return
    drain()
    began = time.monotonic()
    while (number := _next_signal(pipe, began + grace)) != _END:
        if number is None:
            abort(0)
        elif time.monotonic() >= began + _ONE_SIGNAL:
            abort(128 + number)


def _next_signal(pipe: int, deadline: float | None) -> int | None:
    """The next signal that is for this module, or `_END`; others pass through the pipe too.

    None if there is none until the deadline.
    """
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([pipe], [], [], left)[0]:
            return None
        number = os.read(pipe, 1)[0]
        if number in {_END, *_SIGNALS}:
            return number
