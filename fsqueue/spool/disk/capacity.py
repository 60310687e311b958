"""Explains write errors: what did not fit, where, and whether it can ever fit.

A full disk may have room again in a minute, when other users remove files. But a file that is
larger than the whole filesystem, or than the limit for one file, never fits, and retries would go
on forever.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING, Final

from fsqueue.errors import StorageError

if TYPE_CHECKING:
    from fsqueue.spool.disk.filesystem import Filesystem

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# Errors with which a filesystem refuses a file that is too large.
_NEVER: Final = frozenset({errno.EFBIG, errno.E2BIG, errno.EOVERFLOW, errno.EINVAL, errno.EMSGSIZE})
# Files smaller than this are never refused because of their size.
_SMALL: Final = 1 << 16
# A disk with less free space than this counts as full for all files. Only waiting helps.
_HARDLY_ANY: Final = 1 << 20
_MIB: Final = 1 << 20
# Writing this much takes far longer than asking the filesystem for its size.
_WORTH_ASKING: Final = 16 * _MIB


def check_size(fs: Filesystem, folder: str, size: int) -> None:
    """Refuse a large file that can never fit, before anything is written.

    Args:
        folder: the spool's folder, for the filesystem and the message.
        size: the file's size in bytes.

    Raises:
        StorageError: the file is larger than the filesystem, or than the limit for one file.
        OSError: the filesystem's size cannot be read.
    """
    if size < _HARDLY_ANY:
        return
    if size > _file_limit():
        raise _error(OSError(errno.EFBIG, os.strerror(errno.EFBIG)), folder, size, "", never=True)
    if size < _WORTH_ASKING:
        return
    total, free = fs.space(folder)
    if _is_beyond(size, total):
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise _error(full, folder, size, _room(total, free), never=True)


def explained(error: OSError, fs: Filesystem, folder: str, size: int) -> OSError:
    """A write error, with an explanation if the file's size is the reason.

    Args:
        error: the filesystem's error.
        folder: the spool's folder.
        size: the file's size in bytes.
    """
    if error.errno == errno.EFBIG or (error.errno in _NEVER and size > _SMALL):
        return _error(error, folder, size, "", never=True)
    if error.errno not in _FULL:
        return error
    try:
        total, free = fs.space(folder)
    except OSError:
        return error
    crowded = free < min(size, _HARDLY_ANY)  # the disk is full even without this file
    return _error(
        error, folder, size, _room(total, free), never=_is_beyond(size, total), alone=not crowded
    )


def _error(
    error: OSError, folder: str, size: int, room: str, *, never: bool, alone: bool = True
) -> StorageError:
    limit = _file_limit()
    if error.errno == errno.EFBIG and size > limit:
        room = f"; this process may write files of at most {_mib(limit)} (ulimit -f)"
    text = f"{error.strerror}: a file of {_mib(size)} does not fit into {folder}{room}"
    return StorageError(error.errno or 0, text, size=size, never=never, alone=alone)


def _is_beyond(size: int, total: int) -> bool:
    return 0 < total < size  # some filesystems report 0


def _room(total: int, free: int) -> str:
    return f", whose filesystem has {_mib(free)} of {_mib(total)} free"


def _mib(size: float) -> str:
    return f"{size} bytes" if size < _MIB else f"{size / _MIB:,.1f} MiB"


def _file_limit() -> float:
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft
