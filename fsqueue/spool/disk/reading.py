"""System calls that read the spool's files and their times. Each is one step of the protocol."""

from __future__ import annotations

import errno
import functools
import os
import stat
import struct
import sys
from typing import TYPE_CHECKING, NoReturn

from fsqueue.errors import EnvelopeError
from fsqueue.spool.disk.link_records import NO_LINK, read_link
from fsqueue.spool.disk.syscalls import NO_FILE, Handle

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader

    from fsqueue.spool.disk.content import Content, Cut, Piece

# The most bytes of a record.
_LONGEST_RECORD = 1 << 20
# Files larger than this are read only if their first line, of at most the second size, has their
# correct length.
_UNCHECKED = 1 << 18
_FIRST_LINE = 1 << 11


class _LinkFoundError(EnvelopeError):
    """There is a symbolic link in place of the file."""


def _open_to_read(handle: Handle, *, regular: bool = True) -> os.stat_result:
    """Open a file, which must be regular unless `regular` is False; returns its status."""
    # O_NONBLOCK keeps a FIFO from blocking the reader; O_NOFOLLOW refuses links.
    try:
        found = os.fstat(handle.open(os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
    except OSError as error:
        if error.errno in NO_FILE:
            kind = _LinkFoundError if error.errno == errno.ELOOP else EnvelopeError
            raise kind(f"{handle.path} is not a regular file") from error
        raise
    if regular and not stat.S_ISREG(found.st_mode):
        raise EnvelopeError(f"{handle.path} is not a regular file")
    return found


def read_regular(path: str) -> bytes:
    """The content of a regular file that is no longer than a record may be."""
    handle = Handle(path)
    try:
        size = _open_to_read(handle).st_size
        if size > _LONGEST_RECORD:
            _refuse(path, size, _LONGEST_RECORD)
        return _read_whole(handle[0], size)
    finally:
        handle.close()


def read_pieces(path: str, pieces: Cut, *, link_first: bool = False) -> Content:
    """The content of a regular file or of a link record; see `Filesystem.read_content`.

    Args:
        path: the file.
        pieces: see `Filesystem.read_content`.
        link_first: it is likely to be a link.
    """
    if link_first:
        try:
            return [read_link(path)]
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
    handle = Handle(path)
    try:
        size, number = _open_to_read(handle).st_size, handle[0]
        if size <= _UNCHECKED:
            return [_read_whole(number, size)]
        return _read_large(path, number, size, pieces)
    except _LinkFoundError as error:
        return [_read_link_instead(path, error)]
    except MemoryError as error:
        raise EnvelopeError(f"{path} needs more memory than there is") from error
    finally:
        handle.close()


def _read_large(path: str, number: int, size: int, pieces: Cut) -> Content:
    """The content of an open file, if its first line has its correct length."""
    wanted = pieces(os.pread(number, _FIRST_LINE, 0), path)
    expected = sum(piece.size for piece in wanted)
    if size != expected:
        _refuse(path, size, expected)
    with open(number, "rb", closefd=False) as file:
        content = [_read_piece(file, piece) for piece in wanted]
    found = sum(map(len, content))
    if found != expected:
        _refuse(path, found, expected)
    return content


def _read_link_instead(path: str, refused: _LinkFoundError) -> bytes:
    """The content of a link record, after opening it as a file was refused."""
    try:
        return read_link(path)
    except OSError as error:
        # There is a loop of links above it, or a file has just replaced it.
        if error.errno in NO_LINK | {errno.ELOOP}:
            raise refused from error
        raise


def _read_whole(handle: int, size: int) -> bytes:
    """The whole content of a file: `size` bytes unless the size has just changed."""
    data = os.read(handle, size + 1)
    # A network filesystem may return less than requested.
    while len(data) != size and (more := os.read(handle, _UNCHECKED)):
        data += more
    return data


def _read_piece(file: BufferedReader, piece: Piece) -> bytes | bytearray:
    """One piece of a file. A piece larger than the file object's buffer is read without a copy."""
    if not piece.writable:
        return file.read(piece.size)
    data = bytearray(piece.size)
    del data[file.readinto(data) :]
    return data


def _refuse(path: str, size: int, expected: int) -> NoReturn:
    raise EnvelopeError(f"{path} is truncated or damaged: {size} bytes instead of {expected}")


def read_part(path: str, count: int, start: int) -> bytes:
    """At most `count` bytes, from `start`, of a regular file or of a link record."""
    handle = Handle(path)
    try:
        left = max(0, _open_to_read(handle).st_size - start)
        # A buffer of `count` bytes for just a few bytes would fragment the heap.
        return os.pread(handle[0], min(count, left), start)
    except _LinkFoundError as error:
        return _read_link_instead(path, error)[start : start + count]
    finally:
        handle.close()


def local_mtime(path: str) -> float:
    """The modification time of a file or link on a local disk."""
    return os.lstat(path).st_mtime


def mtime(path: str, statx: Callable[[], Callable[..., int] | None] | None = None) -> float:
    """The modification time of a file or link, from its server and not from a cache.

    Opening the file would also make a network filesystem's client ask the server. But an NFSv4
    server may then grant that client a delegation, which it has to recall before the file can
    change. If the client's host has died, the recall takes until that host's lease with the server
    ends. Until then, a worker could not touch its own heartbeat file, just because an observer
    died.

    Args:
        path: the file.
        statx: returns the system call that asks the server, or None if there is none.
    """
    asked = _ask_server(path, (statx or _statx)())
    if asked is not None:
        return asked
    try:
        return _mtime_of_opened(path)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
    return _mtime_of_opened(path)  # the client has now dropped its outdated entry


def _mtime_of_opened(path: str) -> float:
    handle = Handle(path)
    try:
        return _open_to_read(handle, regular=False).st_mtime
    except _LinkFoundError:
        return os.lstat(path).st_mtime
    finally:
        handle.close()


_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_STATX_FORCE_SYNC = -100, 0x100, 0x2000
_STATX_MTIME = 0x40
# The size of struct statx in statx(2), and the offset of the time in it.
_STATX_SIZE, _STATX_TIME = 256, 112
# Errors if the kernel or a sandbox does not support the call.
_NO_STATX = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP})


@functools.cache
def _statx() -> Callable[..., int] | None:
    # Python has `os.statx` from 3.15 on.
    import ctypes

    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).statx
    except AttributeError:
        return None
    number = ctypes.c_int
    function.argtypes = [number, ctypes.c_char_p, number, ctypes.c_uint, ctypes.c_char_p]
    statx: Callable[..., int] = function
    return statx


def _ask_server(path: str, statx: Callable[..., int] | None) -> float | None:
    """Ask the server, bypassing caches, for a file's modification time; None if unsupported."""
    if statx is None:
        return None
    import ctypes

    answer = ctypes.create_string_buffer(_STATX_SIZE)
    flags = _AT_STATX_FORCE_SYNC | _AT_SYMLINK_NOFOLLOW
    if statx(_AT_FDCWD, os.fsencode(path), flags, _STATX_MTIME, answer):
        code = ctypes.get_errno()
        # ESTALE: the name now belongs to another file, which opening it finds.
        if code in _NO_STATX or code == errno.ESTALE:
            return None
        raise OSError(code, os.strerror(code), path)
    seconds, nanoseconds = struct.unpack_from("=qI", answer, _STATX_TIME)
    return float(seconds + nanoseconds * 1e-9)
