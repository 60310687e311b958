"""The one place where the protocol touches files of the spool or reads a clock.

All system calls on files pass through `Filesystem._call`, if a subclass defines it: the faulty twin
in `fsqueue.testing` can make a call fail, lose its reply, or end the process there.
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

# Each try makes a folder that another process removes again at once: rare even once.
_TRIES = 100

# A path does not lead anywhere: a folder on it is missing, a file, or a link to itself.
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NOTHING_TO_SETTLE = frozenset({errno.ENOENT, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
# Seconds between listings. Servers' clocks tick at least a hundred times a second.
_TICKS = (0.0, 0.02, 0.05, 0.1)


class Filesystem(Delegations):
    """Operations on files. They raise the `OSError` of the system call.

    Args:
        remote: the spool is on a network filesystem, whose client caches listings.
        asks_at_open: its client asks the server whenever a folder is opened.
        group: id of the group that shares the spool; None if only its owner may use it.
        durable: once an operation has returned, its effect survives a power cut.
        ownership: how modes and groups are set.
    """

    monotonic: ClassVar[staticmethod[[], float]] = staticmethod(time.monotonic)
    """This host's monotonic clock, in seconds. Reading it cannot fail, so it needs no `_call`."""

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
        bound = self._bound  # looked up once, as each call of a task takes most of these steps
        self._open_new = bound("create", self._own.open_new)
        self._write_all, self._close = bound("write", syscalls.write_all), bound("close", close)
        self._read_pieces = bound("read", reading.read_pieces)
        self._rename, self._link = bound("rename", os.rename), bound("link", os.link)
        self._utime = bound("utime", os.utime)
        self.unlink: Callable[[str], None] = bound("unlink", os.unlink)
        self.space: Callable[[str], tuple[int, int]] = bound("statvfs", syscalls.disk_space)
        """Bytes that a filesystem has in all, and that are free for this user."""

    def _bound(self, verb: str, function: Callable[P, R]) -> Callable[P, R]:
        """`_call` of one function; without a twin's `_call`, that is the function itself."""
        if type(self)._call is Filesystem._call:  # noqa: SLF001 - its own
            return function
        return functools.partial(self._call, verb, function)

    def create(self, path: str, chunks: Sequence[Buffer]) -> None:
        """Write a new file; on failure, nothing is left behind."""
        handle = Handle(path)
        try:
            self._open_new(path, handle, os.O_EXCL)
            try:
                self._write_all(handle, chunks)
                if self.durable:
                    self._call("fsync", os.fsync, handle)
            finally:
                # A network filesystem reports a full disk only here.
                self._close(handle)
        except BaseException:
            handle.close()
            if handle:
                with contextlib.suppress(OSError):
                    self.unlink(path)
            raise

    def create_link(self, path: str, text: str) -> None:
        """Make a record that is a symbolic link; see `link_records`. The name must not exist."""
        self._call("symlink", link_records.make_link, path, text.encode())
        if self.durable:
            self._settle(path)

    def append(self, path: str, data: bytes | bytearray) -> None:
        """Append to a regular file of this process, or make it. A power cut may undo it."""
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
            pieces: cuts files of more than 256 KiB. They are read only if the pieces add up to the
                file's length: a damaged or foreign file could take all memory.
            fresh: see `exists`.
            link_first: it is likely to be a link.
        """
        if fresh:
            self._refresh(path)
        return self._read_pieces(path, pieces, link_first=link_first)

    def read_part(self, path: str, count: int, start: int = 0) -> bytes:
        """Read at most `count` bytes of such a file; anything else raises `EnvelopeError`."""
        return self._call("read", reading.read_part, path, count, start)

    def extend(self, path: str, start: int, data: bytes) -> None:
        """Write `data` at offset `start` of a file and cut off the rest; at 0, replace the file.

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
        """Remove a file that may be gone already."""
        try:
            self.unlink(path)
        except FileNotFoundError:
            return

    def mkdir(self, path: str) -> None:
        """Make a folder, private to its owner or group."""
        self._call("mkdir", self._own.make_folder, path)
        if self.durable:
            self._settle(path)

    def make_folders(self, path: str, may_make: Callable[[str], bool] = lambda _: True) -> None:
        """Make a folder and its missing parents, even if empty ones are removed meanwhile.

        `may_make` returns whether a parent may be made; it is called before each attempt.
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

        fsqueue removes folders only by `rmdir`: the file server refuses it if another process has
        just put a file there.
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
            fresh: show what is there now: see `CachedFolders`. On other network filesystems than
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
        """Whether a name really exists, after a rename of it failed with "no such file".

        The target's folder may have been the missing one, removed by another client. A Linux NFS
        client then takes the source for missing, too, until it lists the source's folder. On NFSv3
        the touch before that listing must come in another tick of the server's clock. A listing
        alone is not enough: one that is still current comes from the client's cache.
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
        """Whether a folder exists. On a network filesystem, the server is asked."""
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
        """A file's or link's modification time, by the server."""
        return self._call("fstat", reading.mtime, path)

    def touch(self, path: str) -> None:
        """Set a file's times to the file server's present time, creating the file if necessary."""
        try:
            self._utime(path, follow_symlinks=False)
        except FileNotFoundError:
            self._call("create", self._own.make_file, path)

    def set_time(self, path: str, when: float | None) -> None:
        """Set a file's times, in seconds since the epoch; None means the server's present time."""
        times = None if when is None else (when, when)
        self._utime(path, times, follow_symlinks=False)

    def ring(self, path: str) -> None:
        """Touch a bell; it exists only if a process listens. Errors do no harm."""
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
            FileNotFoundError: the folder is missing, or the file that must exist.
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
        """The `stat` of a path; `follow` tells whether to follow a link."""
        return self._call("stat", os.stat, path, follow_symlinks=follow)

    def _settle(self, *paths: str) -> None:
        """Make the change of each name survive a power cut."""
        for path in paths:
            try:
                self._call("fsync", syscalls.sync_folder, os.path.dirname(path))
            except OSError as error:
                # The folder may be gone. Some servers keep names safe and have no such call.
                if error.errno not in _NOTHING_TO_SETTLE:
                    raise
