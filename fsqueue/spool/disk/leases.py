"""Read leases on files, through which Linux notifies a thread that another process wants to write.

On NFSv4, a client's kernel grants a lease while the file server has delegated the file to it. If
any other host changes the file, the server recalls the delegation, and the kernel breaks the lease.
This needs Linux 5.10 or later.

The kernel sends a signal to one thread, which blocks the signal and waits for it. So no handler is
needed, and other threads notice nothing. The signal and thread are properties of the open file, so
the application's own leases are not affected. Source: fcntl(2).
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.errors import FSQueueError
from fsqueue.spool.disk.syscalls import Handle

if TYPE_CHECKING:
    from collections.abc import Callable

_F_SETSIG, _F_SETOWN_EX, _F_OWNER_TID = 10, 15, 0
_F_SETLEASE, _F_GETLEASE = 1024, 1025
_OWNER = struct.Struct("ii")
_SIGNALS_IN_USE = frozenset({"SigBlk", "SigIgn", "SigCgt"})


class Told(NamedTuple):
    """The thread that the kernel notifies, and the signal that it uses."""

    thread: int
    """Its thread id in the kernel."""
    signal: int


def take_lease(path: str, told: Told, create: Callable[[str, Handle, int, int], object]) -> Handle:
    """Create an empty file with a read lease, which ends when the file is closed.

    The file is never open for writing: a Linux NFS client delays closing such a file, and gets no
    delegation of it until then. Its name is new anyway; to insist on that, by O_EXCL, would cost
    another request, as a Linux client sets the times of a file that it creates exclusively
    (nfs4_exclusive_attrset in the kernel's fs/nfs).

    Args:
        path: the file, with a new name.
        told: whom the kernel notifies.
        create: opens a file, creating it, as `Ownership.open_new`.

    Raises:
        BlockingIOError: no lease is available now: another process has the file open for writing,
            or the server has not delegated it.
        OSError: leases are not supported here.
    """
    try:
        return _leased(path, told, lambda new: create(path, new, os.O_NONBLOCK, os.O_RDONLY))
    except BlockingIOError:  # some servers do not delegate a file that is just being created
        return _leased(path, told, lambda made: made.open(os.O_RDONLY | os.O_NOFOLLOW))


def _leased(path: str, told: Told, open_file: Callable[[Handle], object]) -> Handle:
    handle = Handle(path)
    try:
        open_file(handle)
        number = handle[0]
        fcntl.fcntl(number, _F_SETSIG, told.signal)
        fcntl.fcntl(number, _F_SETOWN_EX, _OWNER.pack(_F_OWNER_TID, told.thread))
        fcntl.fcntl(number, _F_SETLEASE, fcntl.F_RDLCK)
    except BaseException:
        handle.close()
        raise
    return handle


def is_broken(handle: Handle) -> bool:
    """Whether another process is waiting for a lease to end, or the file was closed."""
    try:
        return fcntl.fcntl(handle[0], _F_GETLEASE) != fcntl.F_RDLCK
    except (IndexError, OSError):
        return True


def break_lease(path: str) -> None:
    """Notify the owner of a lease on a file, by setting the file's times.

    This returns once the server has the delegation back. If the owner's host is dead, that takes
    until the server gives it up. Removing or renaming the file instead would block its folder for
    that time.
    """
    os.utime(path, follow_symlinks=False)


def free_signal() -> int:
    """A real-time signal that this program neither handles, ignores nor blocks, so does not use.

    Raises:
        FSQueueError: the program uses all of them, or this system has none.
    """
    if sys.platform == "linux":
        used = 0
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in _SIGNALS_IN_USE:
                    used |= int(value, 16)
        for number in range(signal.SIGRTMAX, signal.SIGRTMIN, -1):
            if not used >> (number - 1) & 1:
                return number
    raise FSQueueError("no real-time signal is free for wake-ups by the file server")
