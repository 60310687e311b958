"""Linux's inotify: one descriptor, from which a process reads the names that appear in folders.

It is called through ctypes. The watchdog library is too slow: it delays the events that follow a
rename out of a folder for half a second, and reads the descriptor in a separate thread.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ATTRIB: Final = 0x4
"""The file was touched."""
ARRIVED: Final = 0x80 | 0x100
"""A name appeared in the folder: it was moved there, created or linked (IN_MOVED_TO, IN_CREATE)."""
ONLY_FOLDER: Final = 0x01000000
OVERFLOW: Final = 0x4000
"""Events were dropped, because no thread read them in time."""
GONE: Final = 0x8000
"""The watch has ended, because what it watched was removed (IN_IGNORED)."""

# Watch a link itself, and keep the events of an earlier watch of the same file.
_ALWAYS = 0x02000000 | 0x20000000
_EVENT = struct.Struct("iIII")
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


@functools.cache
def _libc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = _loaded()
    if not hasattr(libc, "inotify_init1"):
        return None
    libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return libc


@functools.cache
def _loaded() -> ctypes.CDLL:
    """The C library, loaded once: loading takes longer than adding a watch, and leaves a cycle."""
    return ctypes.CDLL(None, use_errno=True)


def _checked(call: Callable[..., int], *args: object) -> int:
    result = call(*args)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def open_inotify() -> int | None:
    """A new non-blocking descriptor; None if this system has no inotify.

    Raises:
        OSError: this user has too many descriptors.
    """
    libc = _libc()
    if libc is None:
        return None
    return _checked(libc.inotify_init1, os.O_NONBLOCK | os.O_CLOEXEC)


def add_watch(handle: int, path: str, mask: int) -> int:
    """Watch a file or folder; returns the watch's number, the same if it is already watched.

    Raises:
        OSError: it does not exist, or there are too many watches.
    """
    libc = _loaded()
    try:
        return _checked(libc.inotify_add_watch, handle, os.fsencode(path), mask | _ALWAYS)
    except OSError as error:
        error.filename = path
        raise


def remove_watch(handle: int, number: int) -> None:
    """Stop a watch, which may have already ended."""
    _loaded().inotify_rm_watch(handle, number)


def advice(error: Exception) -> str:
    """What to do about an error of this module; empty if that is unknown."""
    number = getattr(error, "errno", None)
    if number == errno.EMFILE:
        return (
            ". Each process that waits needs one inotify instance, and an open file: raise the "
            "sysctl fs.inotify.max_user_instances, or ulimit -n"
        )
    if number == errno.ENOSPC:
        return ". Raise the sysctl fs.inotify.max_user_watches"
    return ""


def events(data: bytes) -> list[tuple[int, int, str]]:
    """Parse the events that were read: the number of a watch, what happened, and a name."""
    found, at = [], 0
    while at < len(data):
        number, mask, _, length = _EVENT.unpack_from(data, at)
        name, at = at + _EVENT.size, at + _EVENT.size + length
        text = data[name:at].rstrip(b"\0").decode(_ENCODING, _ERRORS)  # as `os.fsdecode` does
        found.append((number, mask, text))
    return found
