"""The thread of this process that the kernel notifies when a lease is recalled.

It starts with the first token and then stays. It blocks all signals, so it takes none of those sent
to the process. The kernel notifies it with a signal of its own, for which it waits.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from fsqueue.errors import FSQueueError
from fsqueue.spool.disk.leases import Told, free_signal, is_broken

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.disk.syscalls import Handle

log: logging.Logger = logging.getLogger(__name__)


def available() -> bool:
    """Whether this process can have this thread. With gevent, it would become a greenlet."""
    gevent = sys.modules.get("gevent.monkey")
    return sys.platform == "linux" and not (gevent and gevent.is_module_patched("threading"))


class Recalls:
    """The leases of this process, and the thread that takes them. State changes in single steps.

    A signal handler may raise an exception in the main thread at any point. So that thread only
    appends to a queue, and everything that takes several steps happens in the thread of this class.
    """

    def __init__(self) -> None:
        self._jobs: deque[Callable[[Told], object]] = deque()
        self._held: dict[int, tuple[Handle, Callable[[], object]]] = {}
        self._started: dict[None, Told] = {}
        self._told: Told | None = None
        self._ident = 0

    def submit(self, job: Callable[[Told], object]) -> None:
        """Run a function in the thread, which starts if necessary.

        Args:
            job: it gets the thread's number and signal, for `leases.take_lease`.

        Raises:
            FSQueueError: this process can have no such thread.
        """
        self._jobs.append(job)
        if not self._started:
            told = Told(0, free_signal())
            if self._started.setdefault(None, told) is told:
                try:
                    _thread.start_new_thread(self._run, (told.signal,))
                except RuntimeError as error:
                    self._started.clear()
                    raise FSQueueError(
                        f"no thread for wake-ups by the file server: {error}"
                    ) from error
                except BaseException:  # of a signal handler
                    self._started.clear()
                    raise
        if self._told is not None:  # otherwise the thread is about to read the queue
            signal.pthread_kill(self._ident, self._told.signal)

    def hold(self, handle: Handle, on_recall: Callable[[], object]) -> None:
        """Call a function once the lease of an open file is recalled. In the thread only."""
        self._held[id(handle)] = handle, on_recall

    def drop(self, handle: Handle) -> None:
        """End a lease. From any thread."""
        self._held.pop(id(handle), None)
        handle.close()

    def _run(self, number: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._ident, told = threading.get_ident(), Told(threading.get_native_id(), number)
        self._told = told
        while True:
            while self._jobs:
                self._perform(lambda: self._jobs.popleft()(told))
            for handle, on_recall in list(self._held.values()):
                if is_broken(handle):
                    self.drop(handle)  # at once, because the ringing process waits for it
                    self._perform(on_recall)
            signal.sigwaitinfo({number})

    def _perform(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception:
            log.exception("a wake-up by the file server failed; polling finds what it announced")

    def forget(self) -> None:
        """Close the files, in a forked child. The parent keeps its leases."""
        for handle, _ in list(self._held.values()):
            handle.close()


_recalls = Recalls()


def recalls() -> Recalls:
    """The leases of this process. A forked child has its own."""
    return _recalls


def _begin_anew() -> None:
    global _recalls  # noqa: PLW0603 - the child has no such thread
    _recalls.forget()
    _recalls = Recalls()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_begin_anew)
