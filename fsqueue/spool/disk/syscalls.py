"""What `Filesystem` does within one call: each function stands for one step of the protocol."""

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

# What a record takes at most.
_LONGEST_RECORD = 1 << 20
# Longer files are read if they are as long as they say in their first line, which fits into this.
_UNASKED = 1 << 18
_FIRST_LINE = 1 << 11

# So little is quicker copied than written in pieces.
_SMALL = 1 << 14

# What stands in the place of a file, and cannot be opened as one.
NO_FILE = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR})


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
    """Let the names in a folder reach the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _open_to_look(path: str) -> int:
    # O_NONBLOCK so that a FIFO cannot hang the reader, O_NOFOLLOW so that a link leads nowhere.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno in NO_FILE:
            raise EnvelopeError(f"{path} is not a regular file") from error
        raise


def read_regular(path: str) -> bytes:
    """Content of a regular file that is no longer than a record."""
    handle, size = _open_regular(path)
    try:
        if size > _LONGEST_RECORD:
            _refuse(path, size, _LONGEST_RECORD)
        return _read_whole(handle, size)
    finally:
        os.close(handle)


def read_pieces(path: str, pieces: Callable[[bytes, str], Sequence[Piece]]) -> Content:
    """Content of a regular file; see `Filesystem.read_content`."""
    handle, size = _open_regular(path)
    try:
        if size <= _UNASKED:
            return [_read_whole(handle, size)]
        wanted = pieces(os.pread(handle, _FIRST_LINE, 0), path)
        due = sum(piece.size for piece in wanted)
        if size != due:
            _refuse(path, size, due)
        with open(handle, "rb", closefd=False) as file:
            content = [_read_piece(file, piece) for piece in wanted]
    except MemoryError as error:
        raise EnvelopeError(f"{path} needs more memory than there is") from error
    finally:
        os.close(handle)
    found = sum(map(len, content))
    if found != due:
        _refuse(path, found, due)
    return content


def _read_whole(handle: int, size: int) -> bytes:
    """All that a regular file holds: `size` bytes, unless that has just changed."""
    data = os.read(handle, size + 1)
    # A network filesystem may answer with less than there is.
    while len(data) != size and (more := os.read(handle, _UNASKED)):
        data += more
    return data


def _read_piece(file: BufferedReader, piece: Piece) -> bytes | bytearray:
    """What is longer than the file object's buffer is read to where it stays."""
    if not piece.writable:
        return file.read(piece.size)
    data = bytearray(piece.size)
    del data[file.readinto(data) :]
    return data


def _refuse(path: str, size: int, due: int) -> NoReturn:
    raise EnvelopeError(f"{path} is truncated or damaged: {size} bytes instead of {due}")


def _open_regular(path: str) -> tuple[int, int]:
    """A handle on a regular file, and its size."""
    handle = _open_to_look(path)
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise EnvelopeError(f"{path} is not a regular file")
    return handle, found.st_size


def open_growing(path: str) -> int:
    """Open a regular file with no other name, to write to it."""
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
    """Let an open file end with `data`, after its first `start` bytes."""
    os.ftruncate(handle, start)
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, start)
        view, start = view[written:], start + written


def read_part(path: str, count: int, start: int) -> bytes:
    """So many bytes of a regular file at most."""
    handle, _ = _open_regular(path)
    try:
        return os.pread(handle, count, start)
    finally:
        os.close(handle)


def list_folder(path: str, limit: int | None) -> list[str]:
    """Names in a folder, at most `limit`."""
    # A link to a folder leads out of the spool: what is there is not fsqueue's to move or remove.
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if limit is None:
            return os.listdir(handle)
        with os.scandir(handle) as entries:
            return [entry.name for entry in itertools.islice(entries, limit)]
    finally:
        os.close(handle)


def take_lock(path: str, mode: int) -> BaseFileLock:
    """Take the lock of a file without waiting; see `Filesystem.lock`."""
    from filelock import FileLock

    # FileLock makes the folder of a lock where it is missing: also in the bare mount point, while
    # the shared directory is not mounted.
    os.stat(os.path.dirname(path))
    lock = FileLock(path, mode=mode, thread_local=False, fallback_to_soft=False)
    lock.acquire(timeout=0)
    return lock


def mtime(path: str) -> float:
    """When a file was changed, by the word of its server and not of a cache.

    Opening it would make a network filesystem's client ask, too. But an NFSv4 server lets a
    client keep what it has opened (a delegation), and takes that back before the file may change:
    from a host that has died meanwhile only at the end of that one's lease with the server. For so
    long the owner of a beat could not touch it, because somebody who had looked at it is dead.
    """
    asked = _ask_server(path)
    if asked is not None:
        return asked
    try:
        return _mtime_of_opened(path)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
    return _mtime_of_opened(path)  # the client knows by now that what it remembered is gone


def _mtime_of_opened(path: str) -> float:
    handle = _open_to_look(path)
    try:
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)


_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_STATX_FORCE_SYNC = -100, 0x100, 0x2000
_STATX_TYPE, _STATX_MTIME = 0x1, 0x40
# Of struct statx in statx(2): its size, and where the mode and the time are.
_STATX_SIZE, _STATX_MODE, _STATX_TIME = 256, 28, 112
# No such call: a C library, a kernel or a sandbox that does not know it.
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


def _ask_server(path: str) -> float | None:
    """The time of a file, in a form in which no cache may answer; None where there is no such."""
    statx = _statx()
    if statx is None:
        return None
    import ctypes

    answer = ctypes.create_string_buffer(_STATX_SIZE)
    flags = _AT_STATX_FORCE_SYNC | _AT_SYMLINK_NOFOLLOW
    if statx(_AT_FDCWD, os.fsencode(path), flags, _STATX_TYPE | _STATX_MTIME, answer):
        code = ctypes.get_errno()
        # ESTALE: the name leads to another file by now, which opening it finds.
        if code in _NO_STATX or code == errno.ESTALE:
            return None
        raise OSError(code, os.strerror(code), path)
    (mode,) = struct.unpack_from("=H", answer, _STATX_MODE)
    if stat.S_ISLNK(mode):
        raise EnvelopeError(f"{path} is not a regular file")
    seconds, nanoseconds = struct.unpack_from("=qI", answer, _STATX_TIME)
    return float(seconds + nanoseconds * 1e-9)
