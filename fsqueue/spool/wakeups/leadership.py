"""Elects the one of a host's idle workers that listens for new calls: the leader.

The others rest, and a leader that resigns wakes one of them. They share a named pipe in the spool.
Its `flock` is the leadership, which the kernel frees when the leader dies. To wake another worker,
the leader writes a byte. The kernel wakes one waiting reader (EPOLLEXCLUSIVE), never one that is
suspended or dead. Correctness does not depend on this, because all workers poll as well: a lost
byte or a suspended leader only delays a call until the next poll.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING

from fsqueue.spool.wakeups.watching import watches

if TYPE_CHECKING:
    from collections.abc import Callable

_DRAIN = 1 << 16
_open: set[int] = set()


class Leadership:
    """One worker's part in the election.

    Args:
        path: the named pipe that all workers with the same queues share.
        on_call: called, in any waiting thread, when the leader wakes this worker while it rests.

    Attributes:
        works: whether this system can have a leader. If not, all workers listen.
        leads: whether this worker is the leader.
    """

    def __init__(self, path: str, on_call: Callable[[], object]) -> None:
        self._on_call = on_call
        self._handle = -1
        self._rests = False
        self.leads: bool = False
        with contextlib.suppress(OSError, ImportError, AttributeError):
            self._handle = _open_pipe(path)
            _open.add(self._handle)
        self.works: bool = self._handle >= 0

    def take(self) -> bool:
        """Become the leader unless another worker is; returns whether this worker leads."""
        import fcntl

        if not self.leads:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:
                pass  # locks do not work here: then all workers listen
            self.leads = True
        return True

    def resign(self, count: int = 1) -> None:
        """Resign, if this worker leads, and wake `count` resting workers."""
        import fcntl

        if self.leads:
            self.leads = False
            with contextlib.suppress(OSError):
                fcntl.flock(self._handle, fcntl.LOCK_UN)
        with contextlib.suppress(OSError):  # the pipe is full: nobody has read it for long
            os.write(self._handle, bytes(count))

    def rest(self) -> bool:
        """Rest from now on, until the leader wakes this worker.

        Returns:
            False if a wake-up is still unread: search once more instead of resting. Otherwise it
            could be that no worker finds the calls that came since this worker's last search.
        """
        if self._read(_DRAIN):
            return False
        self._rests = watches().add_pipe(self._handle, self._called)
        return self._rests

    def rise(self) -> None:
        """Stop resting."""
        if self._rests:
            self._rests = False
            watches().remove_pipe(self._handle)

    def _called(self) -> None:
        if self._read(1):
            self._on_call()

    def _read(self, size: int) -> bytes:
        try:
            return os.read(self._handle, size)
        except BlockingIOError:
            return b""  # another worker was faster

    def close(self) -> None:
        """Leave the election. If this worker leads, it wakes another one to lead."""
        if self.works:
            self.rise()
            if self.leads:
                self.resign()
            _open.discard(self._handle)
            os.close(self._handle)
            self.works = False


def _open_pipe(path: str) -> int:
    """Open the pipe for reading and writing, so that no end is missing; make it if need be."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        # Whoever may use the folder may use the pipe.
        mode = 0o600 | stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) & 0o060
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, mode)
            os.chmod(path, mode)  # whatever the umask is
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISFIFO(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileExistsError(path)
    return handle


def _forget_in_child() -> None:
    """A forked child must not keep its parent's leadership beyond its death."""
    while _open:
        os.close(_open.pop())


if sys.platform == "linux":
    os.register_at_fork(after_in_child=_forget_in_child)
