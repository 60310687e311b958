"""Ends processes that a body has forked, before they continue as copies of the worker."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class EndForks:
    """A block in which a body runs. A process that the body has forked exits at its end.

    Otherwise the copy would publish a second result, and then claim the next call. It exits with
    the code that a script would have at this point, without running the worker's exit handlers.
    """

    def __enter__(self) -> None:
        self._pid = os.getpid()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if os.getpid() == self._pid:
            return
        code = 1
        try:
            code = _exit_code(error)
            for stream in (sys.stdout, sys.stderr, sys.__stdout__):
                with contextlib.suppress(OSError, ValueError):
                    if stream is not None:
                        stream.flush()
        finally:
            os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        traceback.print_exception(error, file=sys.__stderr__)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.__stderr__)
    return 1


_thread = threading.local()


def _hold_signals() -> None:
    """Delay signals to the fork, as from `Process.terminate`, until it has its own handlers."""
    _thread.ours = _handled_by_worker()
    _thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _thread.ours)


def _let_signals_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _thread.mask)


def _forget_handlers() -> None:
    """Reset the signal handlers of a forked process to the ordinary ones.

    The worker's handlers do nothing, because a thread handles its signals. The fork shares the
    wake-up descriptor of the worker, so a signal to the fork would stop the worker.
    """
    for number in _thread.ours:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)
    if _thread.ours:
        signal.set_wakeup_fd(-1)
    _let_signals_through()


def _handled_by_worker() -> list[int]:
    return [
        number
        for number in signal.valid_signals()
        if getattr(signal.getsignal(number), "__module__", "").startswith("fsqueue.runner")
    ]


os.register_at_fork(
    before=_hold_signals,
    after_in_parent=_let_signals_through,
    after_in_child=_forget_handlers,
)
