"""The one place where fsqueue touches a disk or reads a clock.

Every system call passes `Filesystem._call`, so that a faulty twin (`fsqueue.testing`) can
fail it, lose its answer, or end the process there.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from fsqueue.errors import EnvelopeError, SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from filelock import BaseFileLock

P = ParamSpec("P")
R = TypeVar("R")

FILE_MODE = 0o600
FOLDER_MODE = 0o700

# Names of filesystem types whose changes are made by other machines too.  Sources: the Linux
# kernel's fs/ tree and the mount helpers of Lustre, BeeGFS, GPFS, PanFS, WekaFS and VAST.
REMOTE_TYPES = frozenset(
    [
        "nfs",
        "nfs4",
        "lustre",
        "beegfs",
        "beegfs_nodev",
        "gpfs",
        "panfs",
        "wekafs",
        "ceph",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "9p",
        "virtiofs",
        "orangefs",
        "pvfs2",
        "glusterfs",
        "ocfs2",
        "gfs2",
        "coda",
        "ncpfs",
        "afpfs",
        "webdav",
    ]
)

# What a filesystem answers when it has no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def links_unsupported(error: OSError) -> bool:
    """Whether a failed `link` says that this filesystem has no hard links."""
    return error.errno in _NO_LINKS


def filesystem_type(path: str) -> str:
    """Type of the filesystem that holds `path`, as the mount table spells it ('' if unknown)."""
    import psutil

    real = os.path.realpath(path)
    best, found = -1, ""
    for mount in psutil.disk_partitions(all=True):
        point = mount.mountpoint.rstrip("/")
        inside = real == point or real.startswith(point + "/")
        if inside and len(point) >= best:  # of two mounts on one point the later one is on top
            best, found = len(point), mount.fstype.lower()
    return found


def is_remote(path: str) -> bool:
    """Whether other machines may change the folder `path` without this kernel noticing."""
    kind = filesystem_type(path)
    return kind in REMOTE_TYPES or kind.startswith("fuse.")


class Filesystem:
    """Verbs over system calls; errors are the plain `OSError` of the call.

    Args:
        remote: the spool lies on a network filesystem, whose client caches listings.
    """

    def __init__(self, *, remote: bool = False) -> None:
        self.remote = remote

    def _call(self, verb: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        del verb  # the name under which a faulty twin counts and chooses
        return function(*args, **kwargs)

    def create(self, path: str, chunks: Sequence[bytes | memoryview]) -> None:
        """Write a new file; on failure nothing is left behind."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        handle = self._call("create", os.open, path, flags, FILE_MODE)
        try:
            try:
                self._call("write", _write_all, handle, chunks)
            finally:
                # A network filesystem reports a full disk only here.
                self._call("close", os.close, handle)
        except OSError:
            with contextlib.suppress(OSError):
                self.unlink(path)
            raise

    def read(self, path: str) -> bytes:
        """Content of a regular file; anything else there is an `EnvelopeError`."""
        return self._call("read", _read_regular, path)

    def rename(self, source: str, target: str) -> None:
        """Move a file."""
        self._call("rename", os.rename, source, target)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, which must not exist."""
        self._call("link", os.link, source, target)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        self._call("unlink", os.unlink, path)

    def discard(self, path: str) -> None:
        """Remove a file that may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            self.unlink(path)

    def mkdir(self, path: str) -> None:
        """Make a folder, private to its owner."""
        self._call("mkdir", os.mkdir, path, FOLDER_MODE)

    def make_folders(self, path: str) -> None:
        """Make a folder and those above it where they are missing."""
        try:
            self.mkdir(path)
        except FileExistsError:
            return
        except FileNotFoundError:
            self.make_folders(os.path.dirname(path))
            with contextlib.suppress(FileExistsError):
                self.mkdir(path)

    def make_private_folder(self, path: str) -> None:
        """Make a folder in a place where everybody may write, and check whose it is.

        Raises:
            SpoolError: somebody else made it, or others may write to it.
        """
        with contextlib.suppress(FileExistsError):
            self.mkdir(path)
        status = self._call("stat", os.lstat, path)
        private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
        if not private or status.st_uid != os.getuid():
            raise SpoolError(
                f"{path} is not a private folder of yours (owner {status.st_uid}, mode "
                f"{stat.filemode(status.st_mode)}): anybody who can write there could run code "
                "as you. Remove it, or set FSQUEUE__ROOT to a folder of your own."
            )

    def rmdir(self, path: str) -> bool:
        """Remove a folder if it is empty; False if it is in use. A missing one counts as removed.

        `rmdir` is the only way fsqueue removes folders: the file server itself refuses one
        that somebody has just put a file into.
        """
        try:
            self._call("rmdir", os.rmdir, path)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOTDIR}:
                return False
            raise
        return True

    def names(self, path: str, *, limit: int | None = None, fresh: bool = False) -> list[str]:
        """Names in a folder, in no order; a missing folder has none.

        Args:
            path: the folder.
            limit: stop reading after so many names.
            fresh: on a network filesystem, touch the folder first. A listing taken in the
                same tick of an NFSv3 server's clock as a change stays cached as current for
                as long as nothing else changes; a touch ends that.
        """
        try:
            if fresh and self.remote:
                self._call("utime", os.utime, path)
            return self._call("listdir", _list, path, limit)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, path: str) -> bool:
        """Whether a name exists; on a network filesystem the answer may be half a minute old."""
        try:
            self._call("stat", os.lstat, path)
        except FileNotFoundError:
            return False
        return True

    def link_count(self, path: str) -> int:
        """How many names the file at `path` has; 0 if it is gone."""
        try:
            return self._call("stat", os.lstat, path).st_nlink
        except FileNotFoundError:
            return 0

    def modified(self, path: str) -> float:
        """A file's time of change by the file server's clock, in seconds since the epoch.

        By open and fstat, which asks an NFS server; a plain stat is answered from a cache.
        """
        return self._call("fstat", _fstat_mtime, path)

    def touch(self, path: str) -> None:
        """Set a file's times to the file server's now, making the file if need be."""
        try:
            self._call("utime", os.utime, path)
        except FileNotFoundError:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            os.close(self._call("create", os.open, path, flags, FILE_MODE))

    def ring(self, path: str) -> None:
        """Touch a bell that may not exist: without a listener there is none.

        Nobody relies on bells. So no error of one may look like an error of what it tells about,
        which has happened by then.
        """
        with contextlib.suppress(OSError):
            self._call("utime", os.utime, path)

    def lock(self, path: str) -> BaseFileLock | None:
        """Take the lock of a file without waiting; None if it cannot be had.

        Either somebody holds it, or this filesystem has no locks.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(path, mode=FILE_MODE, thread_local=False, fallback_to_soft=False)
        try:
            self._call("lock", lock.acquire, timeout=0)
        except (Timeout, NotImplementedError):
            return None
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
            return None
        return lock

    def monotonic(self) -> float:
        """Seconds of this host's steady clock."""
        return self._call("clock", time.monotonic)


def _write_all(handle: int, chunks: Sequence[bytes | memoryview]) -> None:
    views = [memoryview(chunk).cast("B") for chunk in chunks if len(chunk)]
    while views:
        written = os.writev(handle, views[:64])
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


def _read_regular(path: str) -> bytes:
    # O_NONBLOCK so that a FIFO cannot hang the reader, O_NOFOLLOW so that a link leads nowhere.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise EnvelopeError(f"{path} is not a regular file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise EnvelopeError(f"{path} is not a regular file")
        with open(handle, "rb", buffering=0, closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def _list(path: str, limit: int | None) -> list[str]:
    if limit is None:
        return os.listdir(path)
    with os.scandir(path) as entries:
        return [entry.name for entry in itertools.islice(entries, limit)]


def _fstat_mtime(path: str) -> float:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)


class ServerClock:
    """The file server's clock, carried between two looks by this host's steady one.

    It is the only clock that all hosts of a spool share, and the only one written down.
    """

    def __init__(self, filesystem: Filesystem) -> None:
        self._fs = filesystem
        self._offset: float | None = None
        self._synced = 0.0

    def sync(self, path: str) -> None:
        """Touch the file `path`, which must be this process's own, and read its time."""
        self._fs.touch(path)
        before = self._fs.monotonic()
        self._offset = self._fs.modified(path) - before
        self._synced = before

    @property
    def age(self) -> float:
        """Seconds since the last sync."""
        return self._fs.monotonic() - self._synced if self._offset is not None else float("inf")

    def now(self) -> float:
        """Seconds since the epoch on the file server.

        Raises:
            SpoolError: never synced.
        """
        if self._offset is None:
            raise SpoolError("the file server's clock was not read yet")
        return self._offset + self._fs.monotonic()
