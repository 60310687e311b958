"""System calls behind `Filesystem`. Each function is one step of the protocol."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import stat
import struct
import sys
from typing import TYPE_CHECKING, NoReturn

from fsqueue.errors import EnvelopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import BufferedReader

    from filelock import BaseFileLock

    from fsqueue.spool.disk.content import Buffer, Content, Piece

# The most bytes of a record.
_LONGEST_RECORD = 1 << 20
# Larger files than this are read only if their first line, of at most the second size, names their
# length correctly.
_UNCHECKED = 1 << 18
_FIRST_LINE = 1 << 11

# Up to this many bytes, copying the chunks together is faster than writing them one by one.
_SMALL = 1 << 14

# Errors of opening something that is not a regular file.
NO_FILE = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR})

# Errors of filesystems without hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def links_unsupported(error: OSError) -> bool:
    """Whether a link failed because the filesystem has no hard links."""
    return error.errno in _NO_LINKS


def write_all(handle: int, chunks: Sequence[Buffer]) -> None:
    """Write all chunks to an open file."""
    if sum(map(len, chunks)) <= _SMALL:
        whole = b"".join(chunks)
        chunks = [whole[os.write(handle, whole) :]]
    views = [memoryview(chunk).cast("B") for chunk in chunks if len(chunk)]
    while views:
        written = os.writev(handle, views[:64])
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


def sync_folder(path: str) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _open_to_look(path: str) -> int:
    # With O_NONBLOCK, a FIFO cannot block the reader. With O_NOFOLLOW, links are not followed.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno in NO_FILE:
            raise EnvelopeError(f"{path} is not a regular file") from error
        raise


def read_regular(path: str) -> bytes:
    """The content of a regular file that is not longer than a record may be."""
    handle, size = _open_regular(path)
    try:
        if size > _LONGEST_RECORD:
            _refuse(path, size, _LONGEST_RECORD)
        return _read_whole(handle, size)
    finally:
        os.close(handle)


def read_pieces(path: str, pieces: Callable[[bytes, str], Sequence[Piece]]) -> Content:
    """The content of a regular file; see `Filesystem.read_content`."""
    handle, size = _open_regular(path)
    try:
        if size <= _UNCHECKED:
            return [_read_whole(handle, size)]
        wanted = pieces(os.pread(handle, _FIRST_LINE, 0), path)
        expected = sum(piece.size for piece in wanted)
        if size != expected:
            _refuse(path, size, expected)
        with open(handle, "rb", closefd=False) as file:
            content = [_read_piece(file, piece) for piece in wanted]
    except MemoryError as error:
        raise EnvelopeError(f"{path} needs more memory than there is") from error
    finally:
        os.close(handle)
    found = sum(map(len, content))
    if found != expected:
        _refuse(path, found, expected)
    return content


def _read_whole(handle: int, size: int) -> bytes:
    """The whole content of a file: `size` bytes, unless the size has just changed."""
    data = os.read(handle, size + 1)
    # A network filesystem may return less than was asked for.
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


def _open_regular(path: str) -> tuple[int, int]:
    """A handle on a regular file, and its size."""
    handle = _open_to_look(path)
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise EnvelopeError(f"{path} is not a regular file")
    return handle, found.st_size


def open_growing(path: str) -> int:
    """Open a regular file without further links, to write to it."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in NO_FILE:
            raise EnvelopeError(f"{path} is not a regular file") from error
        raise
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(handle)
        raise EnvelopeError(f"{path} is not a regular file, or has another name")
    return handle


def write_at(handle: int, start: int, data: bytes) -> None:
    """Replace everything after the first `start` bytes of an open file by `data`."""
    os.ftruncate(handle, start)
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, start)
        view, start = view[written:], start + written


def read_part(path: str, count: int, start: int) -> bytes:
    """At most `count` bytes of a regular file, from `start`."""
    handle, _ = _open_regular(path)
    try:
        return os.pread(handle, count, start)
    finally:
        os.close(handle)


def list_folder(path: str, limit: int | None) -> list[str]:
    """Names in a folder, at most `limit`."""
    # A link to a folder leads out of the spool, and fsqueue must not move or remove files there.
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if limit is None:
            return os.listdir(handle)
        with os.scandir(handle) as entries:
            return [entry.name for entry in itertools.islice(entries, limit)]
    finally:
        os.close(handle)


def take_lock(path: str, mode: int, *, existing: bool) -> BaseFileLock:
    """Take the lock of a file without waiting; see `Filesystem.lock`."""
    from filelock import FileLock

    # FileLock creates a lock's folder if it is missing, even in the bare mount point while the
    # shared directory is not mounted.
    os.stat(path if existing else os.path.dirname(path))
    lock = FileLock(path, mode=mode, thread_local=False, fallback_to_soft=False)
    lock.acquire(timeout=0)
    return lock


def recall_delegation(path: str) -> None:
    """Wait until no other client holds a delegation of a file.

    An NFSv4 server grants delegations to clients that have read a file. Opening the file for
    writing recalls them, and blocks nothing else.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK))


def disk_space(path: str) -> tuple[int, int]:
    """Bytes that a filesystem has in all, and that are free for this user."""
    found = os.statvfs(path)
    return found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail


def mtime(path: str, statx: Callable[[], Callable[..., int] | None] | None = None) -> float:
    """The modification time of a file, as its server reports it and not a cache.

    Opening the file would also make a network filesystem's client ask the server. But an NFSv4
    server may give a client that opens a file a delegation, which it recalls before the file may
    change. From a host that has died, it can do so only when that host's lease with the server
    ends. Until then, the owner of a beat could not touch it, just because an observer has died.

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
    handle = _open_to_look(path)
    try:
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)


_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_STATX_FORCE_SYNC = -100, 0x100, 0x2000
_STATX_TYPE, _STATX_MTIME = 0x1, 0x40
# The size of struct statx in statx(2), and the offsets of mode and time in it.
_STATX_SIZE, _STATX_MODE, _STATX_TIME = 256, 28, 112
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
    """The modification time of a file, asked so that no cache may answer; None if unsupported."""
    if statx is None:
        return None
    import ctypes

    answer = ctypes.create_string_buffer(_STATX_SIZE)
    flags = _AT_STATX_FORCE_SYNC | _AT_SYMLINK_NOFOLLOW
    if statx(_AT_FDCWD, os.fsencode(path), flags, _STATX_TYPE | _STATX_MTIME, answer):
        code = ctypes.get_errno()
        # ESTALE: the name now belongs to another file, which is found by opening it.
        if code in _NO_STATX or code == errno.ESTALE:
            return None
        raise OSError(code, os.strerror(code), path)
    (mode,) = struct.unpack_from("=H", answer, _STATX_MODE)
    if stat.S_ISLNK(mode):
        raise EnvelopeError(f"{path} is not a regular file")
    seconds, nanoseconds = struct.unpack_from("=qI", answer, _STATX_TIME)
    return float(seconds + nanoseconds * 1e-9)
