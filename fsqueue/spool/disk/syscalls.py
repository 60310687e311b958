"""The system calls behind `Filesystem`. Each function is one step of the protocol."""

from __future__ import annotations

import errno
import functools
import itertools
import operator
import os
import stat
from collections import deque
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from filelock import BaseFileLock

    from fsqueue.spool.disk.content import Buffer

# Up to this many bytes, joining the chunks is faster than writing them one by one.
_SMALL = 1 << 14

# Errors when opening something that is not a regular file.
NO_FILE = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR})

# Errors of filesystems without hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def links_unsupported(error: OSError) -> bool:
    """Whether a link failed because the filesystem does not support hard links."""
    return error.errno in _NO_LINKS


_run_through: Callable[[Iterable[None]], None] = deque[None](maxlen=0).extend


class Handle(list[int]):
    """A file descriptor, stored here by `open`. `close` may be called repeatedly.

    A signal handler can raise an exception between any two instructions of the main thread, for
    example after `os.open` and before its result is stored. So C code opens and stores the
    descriptor in a single instruction, and likewise takes and closes it. Call `close` in a
    ``finally`` block of a ``try`` that contains `open`.

    Args:
        path: the file, for messages.
    """

    __slots__ = ("close", "path")

    def __init__(self, path: str) -> None:
        self.path: str = path
        # A list's iterator also sees items that are stored later.
        self.close: functools.partial[None] = functools.partial(_run_through, map(os.close, self))

    def open(self, flags: int, mode: int = 0o777) -> int:
        """Open the file, and return the descriptor."""
        self.extend(map(os.open, (self.path,), (flags | os.O_CLOEXEC,), (mode,)))
        return self[0]

    def fileno(self) -> int:
        """The descriptor."""
        return self[0]


# For a descriptor that nothing is read from; not every system has it.
_NAME_ONLY: int = getattr(os, "O_PATH", os.O_RDONLY)

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


def _open_to_write(handle: Handle) -> int:
    return handle.open(os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)


def open_growing(path: str, handle: Handle) -> None:
    """Open a regular file that has no other hard links, for writing."""
    try:
        found = os.fstat(_open_to_write(handle))
    except OSError as error:
        if error.errno in NO_FILE:
            raise EnvelopeError(f"{path} is not a regular file") from error
        raise
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise EnvelopeError(f"{path} is not a regular file, or has another name")


def write_at(handle: Handle, start: int, data: bytes) -> None:
    """Replace everything after the first `start` bytes of an open file with `data`."""
    os.ftruncate(handle[0], start)
    view = memoryview(data)
    while view:
        written = os.pwrite(handle[0], view, start)
        view, start = view[written:], start + written


# If a file is removed while a process has it open, an NFS client renames it to such a name and
# removes it later (nfs_sillyrename in the kernel's fs/nfs/dir.c).
_STILL_OPEN = ".nfs"


def list_folder(
    path: str, limit: int | None, refresh: Callable[[str, int], object] | None = None
) -> list[str]:
    """At most `limit` names in a folder; see `CachedFolders.refresh`."""
    try:
        return _list_opened(path, limit, refresh)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
    # Another NFS client removed the folder after it was opened; there may be a new one.
    return _list_opened(path, limit, refresh)


def _list_opened(
    path: str, limit: int | None, refresh: Callable[[str, int], object] | None
) -> list[str]:
    # A link to a folder points outside the spool, where fsqueue must not move or remove files.
    handle = Handle(path)
    try:
        number = handle.open(os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if refresh is not None:
            refresh(path, number)
        if limit is None:
            names = os.listdir(number)
        else:
            with os.scandir(number) as entries:
                names = [entry.name for entry in itertools.islice(entries, limit)]
        return [name for name in names if not name.startswith(_STILL_OPEN)]
    finally:
        handle.close()


def open_folder(path: str) -> None:
    """Open and close a folder, which makes an NFS client ask the server."""
    handle = Handle(path)
    try:
        handle.open(os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    finally:
        handle.close()


def take_lock(path: str, mode: int, *, existing: bool) -> BaseFileLock:
    """Take the lock of a file without waiting; see `Filesystem.lock`."""
    from filelock import FileLock

    if not existing:
        # FileLock would create a missing folder, even in the bare mount point while the shared
        # directory is not mounted.
        os.stat(os.path.dirname(path))
        lock = FileLock(path, mode=mode, thread_local=False, fallback_to_soft=False)
        lock.acquire(timeout=0)
        return lock
    handle = Handle(path)  # while it is open, no other file gets its inode number
    try:
        found = os.fstat(handle.open(_NAME_ONLY))
        lock = FileLock(path, mode=mode, thread_local=False, fallback_to_soft=False)
        lock.acquire(timeout=0)
        try:
            _check_still_there(path, found.st_ino)
        except BaseException:
            lock.release()
            raise
    finally:
        handle.close()
    return lock


def _check_still_there(path: str, number: int) -> None:
    """Remove a lock that FileLock recreated after its owner had removed it."""
    if os.stat(path).st_ino != number:
        os.unlink(path)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def recall_delegation(path: str) -> None:
    """Wait until no other client holds a delegation of a file.

    An NFSv4 server grants delegations to clients that read a file. Opening the file for writing
    recalls them, and blocks nothing else.
    """
    handle = Handle(path)
    try:
        _open_to_write(handle)
    finally:
        handle.close()


def disk_space(path: str) -> tuple[int, int]:
    """A filesystem's total bytes, and those free for this user."""
    found = os.statvfs(path)
    return found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail
