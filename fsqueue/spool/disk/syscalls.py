"""System calls behind `Filesystem`. Each function is one step of the protocol."""

from __future__ import annotations

import errno
import functools
import itertools
import operator
import os
import stat
import struct
import sys
from collections import deque
from typing import TYPE_CHECKING, NoReturn

from fsqueue.errors import EnvelopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
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


_run_through: Callable[[Iterable[None]], None] = deque[None](maxlen=0).extend


class Handle(list[int]):
    """A file descriptor, once `open` has stored it here. `close` may be called again.

    A signal handler can raise an exception between any two instructions of the main thread: also
    after `os.open`, before its result is stored. So C code both opens and stores, and both takes
    and closes, within one instruction. Call `close` in a ``finally`` block of a ``try`` that
    contains `open`.

    Args:
        path: the file, for messages.
    """

    __slots__ = ("close", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        # A list's iterator also finds what is stored later.
        self.close = functools.partial(_run_through, map(os.close, self))

    def open(self, flags: int, mode: int = 0o777) -> int:
        """Open the file, and return the descriptor."""
        self.extend(map(os.open, (self.path,), (flags | os.O_CLOEXEC,), (mode,)))
        return self[0]

    def fileno(self) -> int:
        """The descriptor."""
        return self[0]


close: Callable[[Handle], None] = operator.methodcaller("close")


def write_all(handle: Handle, chunks: Sequence[Buffer]) -> None:
    """Write all chunks to an open file."""
    number = handle[0]
    if sum(map(len, chunks)) <= _SMALL:
        whole = b"".join(chunks)
        rest = whole[os.write(number, whole) :]
        if not rest:
            return
        chunks = [rest]
    views = [memoryview(chunk).cast("B") for chunk in chunks if len(chunk)]
    while views:
        written = os.writev(number, views[:64])
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


def sync_folder(path: str) -> None:
    """Flush the names in a folder to the disk."""
    handle = Handle(path)
    try:
        os.fsync(handle.open(os.O_RDONLY | os.O_DIRECTORY))
    finally:
        handle.close()


def _open_to_read(handle: Handle, *, regular: bool = True) -> os.stat_result:
    """Open a file, which must be a regular one unless `regular` is False; returns its status."""
    # With O_NONBLOCK, a FIFO cannot block the reader. With O_NOFOLLOW, links are not followed.
    try:
        found = os.fstat(handle.open(os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
    except OSError as error:
        if error.errno in NO_FILE:
            raise EnvelopeError(f"{handle.path} is not a regular file") from error
        raise
    if regular and not stat.S_ISREG(found.st_mode):
        raise EnvelopeError(f"{handle.path} is not a regular file")
    return found


def read_regular(path: str) -> bytes:
    """The content of a regular file that is not longer than a record may be."""
    handle = Handle(path)
    try:
        size = _open_to_read(handle).st_size
        if size > _LONGEST_RECORD:
            _refuse(path, size, _LONGEST_RECORD)
        return _read_whole(handle[0], size)
    finally:
        handle.close()


def read_pieces(path: str, pieces: Callable[[bytes, str], Sequence[Piece]]) -> Content:
    """The content of a regular file; see `Filesystem.read_content`."""
    handle = Handle(path)
    try:
        size, number = _open_to_read(handle).st_size, handle[0]
        if size <= _UNCHECKED:
            return [_read_whole(number, size)]
        wanted = pieces(os.pread(number, _FIRST_LINE, 0), path)
        expected = sum(piece.size for piece in wanted)
        if size != expected:
            _refuse(path, size, expected)
        with open(number, "rb", closefd=False) as file:
            content = [_read_piece(file, piece) for piece in wanted]
    except MemoryError as error:
        raise EnvelopeError(f"{path} needs more memory than there is") from error
    finally:
        handle.close()
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


def _open_to_write(handle: Handle) -> int:
    return handle.open(os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def open_growing(path: str, handle: Handle) -> None:
    """Open a regular file without further links, to write to it."""
    try:
        found = os.fstat(_open_to_write(handle))
    except OSError as error:
        if error.errno in NO_FILE:
            raise EnvelopeError(f"{path} is not a regular file") from error
        raise
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise EnvelopeError(f"{path} is not a regular file, or has another name")


def write_at(handle: Handle, start: int, data: bytes) -> None:
    """Replace everything after the first `start` bytes of an open file by `data`."""
    os.ftruncate(handle[0], start)
    view = memoryview(data)
    while view:
        written = os.pwrite(handle[0], view, start)
        view, start = view[written:], start + written


def read_part(path: str, count: int, start: int) -> bytes:
    """At most `count` bytes of a regular file, from `start`."""
    handle = Handle(path)
    try:
        _open_to_read(handle)
        return os.pread(handle[0], count, start)
    finally:
        handle.close()


def list_folder(path: str, limit: int | None) -> list[str]:
    """Names in a folder, at most `limit`."""
    # A link to a folder leads out of the spool, and fsqueue must not move or remove files there.
    handle = Handle(path)
    try:
        number = handle.open(os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if limit is None:
            return os.listdir(number)
        with os.scandir(number) as entries:
            return [entry.name for entry in itertools.islice(entries, limit)]
    finally:
        handle.close()


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
    handle = Handle(path)
    try:
        _open_to_write(handle)
    finally:
        handle.close()


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
    handle = Handle(path)
    try:
        return _open_to_read(handle, regular=False).st_mtime
    finally:
        handle.close()


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
