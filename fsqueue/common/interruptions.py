"""Distinguishes exceptions raised by signal handlers from those of the interrupted code."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


def of_signal_handler(error: BaseException) -> bool:
    """Whether a signal handler raised an exception in the code that it interrupted.

    Python calls handlers in the main thread and passes them the interrupted frame, which comes just
    before the handler's own frame in the traceback. Python's handler of Ctrl-C has no frame.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    python_s = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if type(error) is KeyboardInterrupt and python_s:
        return True
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        before, at = at.tb_frame, at.tb_next
        if _was_given(at.tb_frame, before):
            return True
    return False


def _was_given(frame: FrameType, other: FrameType) -> bool:
    """Whether a function got another frame as an argument, including in ``*args``."""
    values = list(frame.f_locals.values())
    values += [part for value in values if type(value) is tuple for part in value]
    return any(value is other for value in values)
