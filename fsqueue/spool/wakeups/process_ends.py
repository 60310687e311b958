"""Waits for the end of other processes of this machine, without reading /proc again and again.

The kernel offers a descriptor that becomes readable when a process ends (pidfd_open(2), Linux 5.3).
It is not available on other systems, under some seccomp filters, or with too many files open. Then
/proc is read four times a second.

A forked child inherits the descriptors, which does no harm.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import weakref
from typing import TYPE_CHECKING

from fsqueue.spool.disk.identity import is_gone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fsqueue.spool.disk.identity import Process

_LOOK_EVERY = 0.25
# The most descriptors to use. The usual limit is 1024, and the files of the spool need some.
_MOST = 256


class ProcessEnds:
    """The ends of some processes of this machine, for one thread that waits for them."""

    def __init__(self) -> None:
        self._watched: set[Process] = set()
        self._handles: dict[Process, int] = {}
        self._ended: set[Process] = set()
        self._woken = threading.Event()
        self._bell = -1
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):  # too many are open: `wait` does without
                self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                # Not before: a thread that still has this object may be about to wake it.
                weakref.finalize(self, os.close, self._bell).atexit = False

    def watch(self, processes: Iterable[Process]) -> None:
        """Watch these processes of this boot and PID namespace, and no others."""
        watched = set(processes)
        for process in self._handles.keys() - watched:
            os.close(self._handles.pop(process))
        self._ended &= watched
        for process in watched - self._watched if self._bell >= 0 else ():
            if len(self._handles) < _MOST:
                self._open(process)
        self._watched = watched

    def _open(self, process: Process) -> None:
        """Get a descriptor, if the kernel offers one.

        If another process already has the number, `is_gone` shows that the watched one has ended.
        If it ends later, the descriptor shows that.
        """
        try:
            handle = os.pidfd_open(process.pid)
        except OSError:
            return  # it is looked up in /proc, even if it has ended
        if is_gone(process):
            os.close(handle)
            self._ended.add(process)
        else:
            self._handles[process] = handle

    def ended(self) -> set[Process]:
        """The watched processes that have ended."""
        self._ended.update(filter(is_gone, self._unannounced()))
        return self._ended

    def _unannounced(self) -> set[Process]:
        return self._watched - self._handles.keys() - self._ended

    def wait(self, seconds: float) -> None:
        """Block until a process ends, `wake` is called, or `seconds` have passed.

        It returns early if processes without a descriptor must be looked up.
        """
        if self._unannounced():
            seconds = min(seconds, _LOOK_EVERY)
        if self._bell < 0:
            self._woken.wait(seconds)
            self._woken.clear()
            return
        poller = select.poll()
        for handle in (self._bell, *self._handles.values()):
            poller.register(handle, select.POLLIN)
        ready = {handle for handle, _ in poller.poll(seconds * 1000)}
        if self._bell in ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)
        for process in [each for each, handle in self._handles.items() if handle in ready]:
            # The descriptor stays readable until it is closed.
            os.close(self._handles.pop(process))
            self._ended.add(process)

    def wake(self) -> None:
        """End the wait, or the next one. From any thread."""
        if self._bell < 0:
            self._woken.set()
        else:
            os.eventfd_write(self._bell, 1)
