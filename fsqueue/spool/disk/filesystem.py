"""The filesystem layer: only here does the protocol touch the spool's files or read a clock.

If a subclass defines `_call`, all system calls on files go through it. The faulty twin in
`fsqueue.testing` uses this to make a call fail, lose its reply, or end the process there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import time
from typing import TYPE_CHECKING, ClassVar, ParamSpec, TypeVar

from fsqueue.environment.streams import open_closed_streams
from fsqueue.spool.disk import link_records, reading, syscalls
from fsqueue.spool.disk.cached_folders import CachedFolders
from fsqueue.spool.disk.delegations import Delegations
from fsqueue.spool.disk.ownership import Ownership
from fsqueue.spool.disk.syscalls import NO_FILE, Handle, close

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from filelock import BaseFileLock

    from fsqueue.spool.disk.content import Buffer, Content, Cut

P = ParamSpec("P")
R = TypeVar("R")

# A try fails if another process removes the new folder at once: rare even once.
_TRIES = 100

# Errors of a path that leads nowhere: a folder on it is missing, a file, or a link to itself.
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NOTHING_TO_SETTLE = frozenset({errno.ENOENT, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
# In seconds, between listings. Server clocks tick at least a hundred times per second.
_TICKS = (0.0, 0.02, 0.05, 0.1)


class Filesystem(Delegations):
    """Operations on files. They raise the `OSError` of the system call.

    Args:
        remote: the spool is on a network filesystem, whose client caches listings.
        asks_at_open: its client asks the server each time a folder is opened.
        group: the id of the group that shares the spool; None if only its owner may use it.
        durable: once an operation has returned, its effect survives a power cut.
        ownership: how modes and groups are set.
    """

    monotonic: ClassVar[staticmethod[[], float]] = staticmethod(time.monotonic)
    """This host's monotonic clock, in seconds. Reading it cannot fail, so it does not need
    `_call`."""

    def __init__(
        self,
        *,
        remote: bool = False,
        asks_at_open: bool = False,
        group: int | None = None,
        durable: bool = False,
        ownership: type[Ownership] = Ownership,
    ) -> None:
        open_closed_streams()
        self.remote: bool = remote
        self._cached = CachedFolders(self.monotonic) if asks_at_open else None
        self.group: int | None = group
        self.durable: bool = durable
        self._own = ownership(group)
        bound = self._bound  # looked up once, since every task call takes most of these steps
        self._open_new = bound("create", self._own.open_new)
        self._write_all, self._close = bound("write", syscalls.write_all), bound("close", close)
        self._read_pieces = bound("read", reading.read_pieces)
        self._rename, self._link = bound("rename", os.rename), bound("link", os.link)
        self._utime = bound("utime", os.utime)
        self.unlink: Callable[[str], None] = bound("unlink", os.unlink)
        self.space: Callable[[str], tuple[int, int]] = bound("statvfs", syscalls.disk_space)
        """Bytes that a filesystem has in all, and that are free for this user."""

    def _bound(self, verb: str, function: Callable[P, R]) -> Callable[P, R]:
        """`function` through `_call`, or itself if no twin defines `_call`."""
        if type(self)._call is Filesystem._call:  # noqa: SLF001 - its own
            return function
        return functools.partial(self._call, verb, function)

    def create(self, path: str, chunks: Sequence[Buffer]) -> None:
        """Write a new file; a failure leaves nothing behind."""
        handle = Handle(path)
        try:
            self._open_new(path, handle, os.O_EXCL)
            try:
                self._write_all(handle, chunks)
                if self.durable:
                    self._call("fsync", os.fsync, handle)
            finally:
                # A network filesystem only reports a full disk here.
                self._close(handle)
        except BaseException:
            handle.close()
            if handle:
                with contextlib.suppress(OSError):
                    self.unlink(path)
            raise

    def create_link(self, path: str, text: str) -> None:
        """Make a record as a symbolic link; see `link_records`. The name must not exist."""
        self._call("symlink", link_records.make_link, path, text.encode())
        if self.durable:
            self._settle(path)

    def append(self, path: str, data: bytes | bytearray) -> None:
        """Append to a regular file of this process, or create it. A power cut may undo it."""
        handle = Handle(path)
        try:
            self._call("append", self._own.open_new, path, handle, os.O_APPEND | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(handle[0]).st_mode):
                raise FileExistsError(errno.EEXIST, "not a regular file", path)
            self._write_all(handle, [data])
            self._close(handle)
        finally:
            handle.close()

    def read(self, path: str, *, fresh: bool = False) -> bytes:
        """Read a small regular file; `EnvelopeError` for anything else. `fresh`: see `exists`."""
        if fresh:
            self._refresh(path)
        return self._call("read", reading.read_regular, path)

    def read_content(
        self, path: str, pieces: Cut, *, fresh: bool = False, link_first: bool = False
    ) -> Content:
        """Read a regular file of any size, or a `create_link`; `EnvelopeError` for anything else.

        Args:
            path: the file.
            pieces: divides files of more than 256 KiB. They are read only if the pieces add up to
                the file's length: a damaged or foreign file could use up all memory.
            fresh: see `exists`.
            link_first: the file is likely to be a link.
        """
        if fresh:
            self._refresh(path)
        return self._read_pieces(path, pieces, link_first=link_first)

    def read_link(self, path: str) -> bytes:
        """Read a `create_link`. Anything else raises `EnvelopeError`, or `OSError` (``EINVAL``)."""
        return self._call("read", link_records.read_link, path)

    def read_part(self, path: str, count: int, start: int = 0) -> bytes:
        """Read at most `count` bytes of a file or link; anything else raises `EnvelopeError`."""
        return self._call("read", reading.read_part, path, count, start)

    def extend(self, path: str, start: int, data: bytes) -> None:
        """Write `data` at offset `start` of a file and truncate it there; 0 replaces the file.

        Repeating it changes nothing. Anything but a regular file raises `EnvelopeError`.
        """
        handle = Handle(path)
        try:
            if start:
                self._call("open", syscalls.open_growing, path, handle)
            else:
                try:
                    self._open_new(path, handle, os.O_EXCL)
                except FileExistsError:
                    self.discard(path)
                    self._open_new(path, handle, os.O_EXCL)
            self._call("write", syscalls.write_at, handle, start, data)
            self._close(handle)
        finally:
            handle.close()

    def rename(self, source: str, target: str) -> None:
        """Move a file."""
        self._rename(source, target)
        if self.durable:
            self._settle(target, source)  # a power cut in between leaves two names, not none

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, which must not exist."""
        self._link(source, target, follow_symlinks=False)
        if self.durable:
            self._settle(target)

    def discard(self, path: str) -> None:
        """Remove a file, which may already be gone."""
        try:
            self.unlink(path)
        except FileNotFoundError:
            return

    def mkdir(self, path: str) -> None:
        """Create a folder, private to its owner or group."""
        self._call("mkdir", self._own.make_folder, path)
        if self.durable:
            self._settle(path)

    def make_folders(self, path: str, may_make: Callable[[str], bool] = lambda _: True) -> None:
        """Create a folder and its missing parents, even if others remove empty ones meanwhile.

        `may_make` returns whether a parent may be created; it is called before each attempt.
        """
        for _ in range(_TRIES):
            try:
                self.mkdir(path)
            except FileNotFoundError as error:
                missing, above = error, os.path.dirname(path)
                if may_make(above):
                    self.make_folders(above, may_make)
            except FileExistsError:
                return
            else:
                return
        raise missing

    def rmdir(self, path: str) -> bool:
        """Remove a folder if it is empty; False if it is not. A missing folder counts as removed.

        fsqueue removes folders only with `rmdir`, which the file server refuses if another process
        has just put a file there.
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

    def names(
        self,
        path: str,
        *,
        limit: int | None = None,
        fresh: bool = False,
        strict: bool = False,
        required: bool = False,
    ) -> list[str]:
        """List the names in a folder, in no order; a missing folder, or a link to one, has none.

        Args:
            path: the folder.
            limit: stop after this many names.
            fresh: show what is there now: see `CachedFolders`. On network filesystems other than
                NFS, the folder is touched first.
            strict: raise `NotADirectoryError` for a file or a link.
            required: raise `FileNotFoundError` if the folder is missing.
        """
        refresh = None
        try:
            if fresh and self.remote:
                if self._cached is None:
                    self._utime(path, follow_symlinks=False)
                else:
                    refresh = self._cached.refresh
            return self._call("listdir", syscalls.list_folder, path, limit, refresh)
        except FileNotFoundError:
            if required:
                raise
            return []
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            if strict:
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", path) from error
            return []

    def exists(self, path: str, *, fresh: bool = False) -> bool:
        """Whether a name exists. On NFS, an answer that is not `fresh` may be half a minute old."""
        if fresh:
            self._refresh(path)
        try:
            self._call("stat", os.lstat, path)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            return False
        return True

    def is_there(self, path: str) -> bool:
        """Whether a name really exists after renaming it failed with "no such file".

        Perhaps it was the target's folder that was missing, because another client removed it. A
        Linux NFS client then believes that the source is missing, too, until it lists the source's
        folder. On NFSv3 the touch before that listing must come in another tick of the server's
        clock. A listing alone is not enough: one that is still current comes from the client's
        cache.
        """
        if self.exists(path):
            return True
        folder, name = os.path.split(path)
        for pause in _TICKS if self.remote else ():
            time.sleep(pause)
            if self._cached is not None:
                self._refresh(path)
            if name in self.names(folder, fresh=True):
                return True
        return False

    def is_folder(self, path: str) -> bool | None:
        """Whether `path` is a folder, and not a link to one; None if it does not exist."""
        try:
            return stat.S_ISDIR(self._call("stat", os.lstat, path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def has_folder(self, path: str) -> bool:
        """Whether a folder exists. On a network filesystem, this asks the server."""
        try:
            if self._cached is not None:
                self._call("open", syscalls.open_folder, path)
                return True
            if self.remote:
                self._utime(path)
        except FileNotFoundError:
            return False
        return self.exists(path)

    def _refresh(self, path: str) -> None:
        """Touch a path's folder, so that a network filesystem's client drops its cached names."""
        if self.remote:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._utime(os.path.dirname(path))

    def link_count(self, path: str) -> int:
        """How many names the file at `path` has; 0 if it is gone."""
        try:
            return self._call("stat", os.lstat, path).st_nlink
        except FileNotFoundError:
            return 0

    def modified(self, path: str) -> float:
        """The modification time of a file or link, according to the server."""
        return self._call("fstat", reading.mtime if self.remote else reading.local_mtime, path)

    def touch(self, path: str) -> None:
        """Set a file's times to the file server's current time, creating the file if necessary."""
        try:
            self._utime(path, follow_symlinks=False)
        except FileNotFoundError:
            self._call("create", self._own.make_file, path)

    def set_time(self, path: str, when: float | None) -> None:
        """Set a file's times, in seconds since the epoch; None means the server's current time."""
        times = None if when is None else (when, when)
        self._utime(path, times, follow_symlinks=False)

    def ring(self, path: str) -> None:
        """Touch a bell, which exists only if a process listens. Errors are harmless."""
        try:
            self._utime(path, follow_symlinks=False)
        except OSError:
            return

    def lock(self, path: str, *, existing: bool = False) -> BaseFileLock | None:
        """Take a file's lock without waiting; None if it is held or cannot be locked.

        Args:
            path: the file, which is created if it is missing.
            existing: do not create it.

        Raises:
            FileNotFoundError: the folder is missing, or the file if it must exist.
        """
        from filelock import Timeout

        try:
            return self._call(
                "lock", syscalls.take_lock, path, self._own.file_mode, existing=existing
            )
        except (Timeout, NotImplementedError):
            return None
        except OSError as error:
            no_locks = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES}
            if error.errno not in no_locks | NO_FILE:
                raise
            return None

    def status(self, path: str, *, follow: bool = True) -> os.stat_result:
        """The `stat` of a path; with `follow`, that of a link's target."""
        return self._call("stat", os.stat, path, follow_symlinks=follow)

    def _settle(self, *paths: str) -> None:
        """Make the change of each name survive a power cut."""
        for path in paths:
            try:
                self._call("fsync", syscalls.sync_folder, os.path.dirname(path))
            except OSError as error:
                # The folder may be gone. Some servers make names durable by themselves and do not
                # support this call.
                if error.errno not in _NOTHING_TO_SETTLE:
                    raise
