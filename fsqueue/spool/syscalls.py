"""What `Filesystem` does within one call: each function stands for one step of the protocol."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# A longer file is read only if its own first bytes account for its length.
_UNASKED = 1 << 20
_BEGINNING = 128

# What stands in the place of a file, and cannot be opened as one.
NO_FILE = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR})


def write_all(handle: int, chunks: Sequence[bytes | memoryview]) -> None:
    """Write all chunks to an open file."""
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


def read_regular(path: str, length: Callable[[bytes, str], int] | None) -> bytes:
    """Content of a regular file; see `Filesystem.read`."""
    handle = _open_to_look(path)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise EnvelopeError(f"{path} is not a regular file")
        if found.st_size > _UNASKED:
            _check_length(handle, found.st_size, path, length)
        with open(handle, "rb", buffering=0, closefd=False) as file:
            return file.read()
    except MemoryError as error:
        raise EnvelopeError(f"{path} needs more memory than there is") from error
    finally:
        os.close(handle)


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


def read_beginning(path: str, count: int, start: int) -> bytes:
    """The first bytes of a regular file, or those from `start` on."""
    handle = _open_to_look(path)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise EnvelopeError(f"{path} is not a regular file")
        return os.pread(handle, count, start)
    finally:
        os.close(handle)


def _check_length(
    handle: int, size: int, path: str, length: Callable[[bytes, str], int] | None
) -> None:
    due = _UNASKED if length is None else length(os.pread(handle, _BEGINNING, 0), path)
    if size != due:
        raise EnvelopeError(f"{path} is truncated or damaged: {size} bytes instead of {due}")


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


def fstat_mtime(path: str) -> float:
    """When a file was changed, by the word of its server."""
    handle = _open_to_look(path)
    try:
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)
