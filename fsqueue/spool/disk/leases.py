"""Read leases on files, by which Linux tells a thread that another process wants to write.

On NFSv4 a client's kernel grants one while the file server has delegated the file to it. A change
of the file by any other host makes the server recall the delegation, and the kernel breaks the
lease. Linux 5.10 or later is needed for that.

The kernel tells it by a signal to one thread, which has it blocked and waits for it. So there is no
handler, and no other thread notices. Signal and thread belong to the open file, so leases of the
application keep theirs. Source: fcntl(2).
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
from typing import NamedTuple

from fsqueue.errors import FSQueueError
from fsqueue.spool.disk.syscalls import Handle

_F_SETSIG, _F_SETOWN_EX, _F_OWNER_TID = 10, 15, 0
_F_SETLEASE, _F_GETLEASE = 1024, 1025
_OWNER = struct.Struct("ii")
_SIGNALS_IN_USE = frozenset({"SigBlk", "SigIgn", "SigCgt"})


class Told(NamedTuple):
    """The thread that the kernel tells."""

    thread: int
    """Its number in the kernel."""
    signal: int


def take_lease(path: str, told: Told) -> Handle:
    """Open a file of one's own with a read lease, which ends when it is closed.

    Raises:
        BlockingIOError: there is no lease on it now: another process may write to the file, or the
            server has not delegated it.
        OSError: there are no leases here.
    """
    handle = Handle(path)
    try:
        number = handle.open(os.O_RDONLY | os.O_NOFOLLOW)
        fcntl.fcntl(number, _F_SETSIG, told.signal)
        fcntl.fcntl(number, _F_SETOWN_EX, _OWNER.pack(_F_OWNER_TID, told.thread))
        fcntl.fcntl(number, _F_SETLEASE, fcntl.F_RDLCK)
    except BaseException:
        handle.close()
        raise
    return handle


def is_broken(handle: Handle) -> bool:
    """Whether another process waits for a lease to end; also if the file was closed."""
    try:
        return fcntl.fcntl(handle[0], _F_GETLEASE) != fcntl.F_RDLCK
    except (IndexError, OSError):
        return True


def break_lease(path: str) -> None:
    """Let the owner of a lease on a file know, by setting the file's times.

    This returns when the server has the delegation back, which takes as long as the server waits
    for a dead host. To remove or rename the file instead would block its folder for as long.
    """
    os.utime(path, follow_symlinks=False)


def free_signal() -> int:
    """A real-time signal that this program neither handles, ignores nor blocks, so has no use for.

    Raises:
        FSQueueError: it uses all of them, or this system has none.
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
