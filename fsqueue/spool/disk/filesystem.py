"""The one place where the protocol touches files of the spool or reads a clock.

Every system call passes `Filesystem._call`, so that a faulty twin (`fsqueue.testing`) can
fail it, lose its answer, or end the process there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from fsqueue.environment.streams import open_closed_streams
from fsqueue.spool.disk.syscalls import (
    NO_FILE,
    list_folder,
    mtime,
    open_growing,
    read_part,
    read_pieces,
    read_regular,
    sync_folder,
    take_lock,
    write_all,
    write_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from filelock import BaseFileLock

    from fsqueue.spool.disk.content import Buffer, Content, Piece

P = ParamSpec("P")
R = TypeVar("R")

_OWN_FILE, _OWN_FOLDER = 0o600, 0o700
# Set-group-ID: what is made in such a folder belongs to the folder's group.
_GROUP_FILE, _GROUP_FOLDER = 0o660, 0o2770

# What an NFS client makes of a file that is removed while a process has it open (nfs_sillyrename
# in the kernel's fs/nfs/dir.c); it removes it itself.
_STILL_OPEN = ".nfs"

# Each try ends with a folder made that somebody removed again in between: rare even once.
_TRIES = 100

# What a filesystem answers when it has no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

# A path does not lead anywhere: a folder on it is missing, a file, or a link to itself.
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

_NOTHING_TO_SETTLE = frozenset({errno.ENOENT, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

# Pauses before repeated looks, in seconds: servers' clocks tick a hundred times a second or more.
_TICKS = (0.0, 0.02, 0.05, 0.1)


def links_unsupported(error: OSError) -> bool:
    """Whether a failed `link` says that this filesystem has no hard links."""
    return error.errno in _NO_LINKS


class Filesystem:
    """Verbs over system calls; errors are the plain `OSError` of the call.

    Args:
        remote: the spool lies on a network filesystem, whose client caches listings.
        group: number of the group that shares the spool; None keeps it to its owner.
        durable: what a call has done survives a power cut, once it has returned.
    """

    def __init__(
        self, *, remote: bool = False, group: int | None = None, durable: bool = False
    ) -> None:
        open_closed_streams()
        self.remote, self.group, self.durable = remote, group, durable
        self._file_mode = _OWN_FILE if group is None else _GROUP_FILE
        self._folder_mode = _OWN_FOLDER if group is None else _GROUP_FOLDER

    def _call(self, verb: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        del verb  # the name under which a faulty twin counts and chooses
        return function(*args, **kwargs)

    def create(self, path: str, chunks: Sequence[Buffer]) -> None:
        """Write a new file; on failure nothing is left behind."""
        handle = self._call("create", self._open_new, path, os.O_EXCL)
        try:
            try:
                self._call("write", write_all, handle, chunks)
                if self.durable:
                    self._call("fsync", os.fsync, handle)
            finally:
                # A network filesystem reports a full disk only here.
                self._call("close", os.close, handle)
        except OSError:
            with contextlib.suppress(OSError):
                self.unlink(path)
            raise

    def append(self, path: str, data: bytes | bytearray) -> None:
        """Add to the end of a regular file, making it if need be; of one writer's files only.

        A power cut may undo it, whatever `durable` says.
        """
        handle = self._call("append", self._open_new, path, os.O_APPEND | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FileExistsError(errno.EEXIST, "not a regular file", path)
            self._call("write", write_all, handle, [data])
        finally:
            self._call("close", os.close, handle)

    def read(self, path: str, *, fresh: bool = False) -> bytes:
        """Content of a small regular file; anything else there is an `EnvelopeError`.

        Args:
            path: the file.
            fresh: do not take "no such file" from a network filesystem's cache.
        """
        if fresh:
            self._refresh(path)
        return self._call("read", read_regular, path)

    def read_content(
        self, path: str, pieces: Callable[[bytes, str], Sequence[Piece]], *, fresh: bool = False
    ) -> Content:
        """Content of a regular file of any size; anything else there is an `EnvelopeError`.

        Args:
            path: the file.
            pieces: tells from a file's first bytes, and its path, the pieces to read it in. It
                is asked for a file of more than 256 KiB, which is read only if these are its
                length: otherwise a damaged or foreign one could take all memory.
            fresh: do not take "no such file" from a network filesystem's cache.
        """
        if fresh:
            self._refresh(path)
        return self._call("read", read_pieces, path, pieces)

    def read_part(self, path: str, count: int, start: int = 0) -> bytes:
        """So many bytes of a regular file at most; anything else there is an `EnvelopeError`."""
        return self._call("read", read_part, path, count, start)

    def extend(self, path: str, start: int, data: bytes) -> None:
        """Let a file end with `data`, after its first `start` bytes; with 0 it is made anew.

        Repeated, it changes nothing. What was not made so, like a link, is an `EnvelopeError`.
        """
        if start:
            handle = self._call("open", open_growing, path)
        else:
            try:
                handle = self._call("create", self._open_new, path, os.O_EXCL)
            except FileExistsError:
                self.discard(path)
                handle = self._call("create", self._open_new, path, os.O_EXCL)
        try:
            self._call("write", write_at, handle, start, data)
        finally:
            self._call("close", os.close, handle)

    def rename(self, source: str, target: str) -> None:
        """Move a file."""
        self._call("rename", os.rename, source, target)
        # First where the file is now: a power cut in between leaves two names, not none.
        self._settle(target)
        self._settle(source)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, which must not exist."""
        self._call("link", os.link, source, target, follow_symlinks=False)
        self._settle(target)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        self._call("unlink", os.unlink, path)

    def discard(self, path: str) -> None:
        """Remove a file that may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            self.unlink(path)

    def mkdir(self, path: str) -> None:
        """Make a folder, private to its owner or group."""
        self._call("mkdir", self._make_folder, path)
        self._settle(path)

    def make_folders(self, path: str) -> None:
        """Make a folder and those above it where they are missing.

        Also if somebody removes those that are empty meanwhile.
        """
        for _ in range(_TRIES):
            try:
                self.mkdir(path)
            except FileNotFoundError as error:
                missing = error
                self.make_folders(os.path.dirname(path))
            except FileExistsError:
                return
            else:
                return
        raise missing

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

    def names(
        self,
        path: str,
        *,
        limit: int | None = None,
        fresh: bool = False,
        strict: bool = False,
        required: bool = False,
    ) -> list[str]:
        """Names in a folder, in no order; a missing folder has none, nor has a link to one.

        Args:
            path: the folder.
            limit: stop reading after so many names.
            fresh: on a network filesystem, touch the folder first. A listing taken in the
                same tick of an NFSv3 server's clock as a change stays cached as current for
                as long as nothing else changes; a touch ends that.
            strict: raise `NotADirectoryError` for a file or a link.
            required: raise `FileNotFoundError` if the folder is missing.
        """
        try:
            if fresh and self.remote:
                self._call("utime", os.utime, path, follow_symlinks=False)
            found = self._call("listdir", list_folder, path, limit)
            return [name for name in found if not name.startswith(_STILL_OPEN)]
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
        """Whether a name exists.

        Args:
            path: the name.
            fresh: on a network filesystem, ask the file server; if not, the answer may be half
                a minute old, whether it is yes or no.
        """
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
        """Whether a name exists, for certain, after a rename of it was told "no such file".

        If it was the target's folder that another client had removed, a Linux NFS client takes the
        source for gone all the same, and keeps that in its cache until it lists the source's
        folder. On NFSv3 the touch before that must come in another tick of the server's clock.
        """
        if self.exists(path):
            return True
        folder, name = os.path.split(path)
        for pause in _TICKS if self.remote else ():
            time.sleep(pause)
            if name in self.names(folder, fresh=True):
                return True
        return False

    def is_folder(self, path: str) -> bool | None:
        """Whether it is a folder and not a link to one; None if nothing is there."""
        try:
            return stat.S_ISDIR(self._call("stat", os.lstat, path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def has_folder(self, path: str) -> bool:
        """Whether a folder exists, by the file server's word: it is touched first."""
        try:
            if self.remote:
                self._call("utime", os.utime, path)
        except FileNotFoundError:
            return False
        return self.exists(path)

    def _refresh(self, path: str) -> None:
        """Make a network filesystem's client forget what it knows of names beside `path`.

        It keeps them until it sees that their folder has changed, which a touch makes it see.
        """
        if self.remote:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._call("utime", os.utime, os.path.dirname(path))

    def recall(self, path: str) -> None:
        """Wait until no other client of a network filesystem may hold a file in its cache.

        An NFSv4 server lets clients that have read a file do so (a delegation), and only takes it
        back from a dead one when that one's lease with the server ends. A rename waits for that
        too, and holds up every other rename of this host; opening for writing waits alone.
        """
        if not self.remote:
            return
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with contextlib.suppress(OSError):  # the moves that follow will tell
            os.close(self._call("open", os.open, path, flags))

    def let_go(self, path: str) -> None:
        """Give a file that this host has read back to the server, should it be kept in the cache.

        What `recall` waits for on another host, done by this one while it lives: a Linux NFS client
        gives a delegation back before it sets a file's mode (nfs4_proc_setattr in the kernel's
        fs/nfs). The mode stays what it is. A courtesy: errors do not matter.
        """
        if not self.remote:
            return
        with contextlib.suppress(OSError):
            # By the cache, which will do: a file's type and mode do not change.
            mode = self._call("stat", os.lstat, path).st_mode
            if stat.S_ISREG(mode):
                self._call("chmod", os.chmod, path, stat.S_IMODE(mode))

    def link_count(self, path: str) -> int:
        """How many names the file at `path` has; 0 if it is gone."""
        try:
            return self._call("stat", os.lstat, path).st_nlink
        except FileNotFoundError:
            return 0

    def modified(self, path: str) -> float:
        """A file's time of change by the file server's clock, in seconds since the epoch.

        The server is asked; a plain stat is answered from a cache. A link is an `EnvelopeError`.
        """
        return self._call("fstat", mtime, path)

    def touch(self, path: str) -> None:
        """Set a file's times to the file server's now, making the file if need be."""
        try:
            self._call("utime", os.utime, path, follow_symlinks=False)
        except FileNotFoundError:
            os.close(self._call("create", self._open_new, path))

    def set_time(self, path: str, when: float | None) -> None:
        """Set a file's times, in seconds since the epoch; None is the file server's now."""
        times = None if when is None else (when, when)
        self._call("utime", os.utime, path, times, follow_symlinks=False)

    def ring(self, path: str) -> None:
        """Touch a bell that may not exist: without a listener there is none.

        Nobody relies on bells. So no error of one may look like an error of what it tells about,
        which has happened by then.
        """
        with contextlib.suppress(OSError):
            self._call("utime", os.utime, path, follow_symlinks=False)

    def lock(self, path: str) -> BaseFileLock | None:
        """Take the lock of a file without waiting; None if it cannot be had.

        Somebody holds it, or this filesystem has no locks, or what stands there has none.

        Raises:
            FileNotFoundError: its folder is missing.
        """
        from filelock import Timeout

        try:
            return self._call("lock", take_lock, path, self._file_mode)
        except (Timeout, NotImplementedError):
            return None
        except OSError as error:
            no_locks = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES}
            if error.errno not in no_locks | NO_FILE:
                raise
            return None

    def monotonic(self) -> float:
        """Seconds of this host's steady clock."""
        return self._call("clock", time.monotonic)

    def status(self, path: str, *, follow: bool = True) -> os.stat_result:
        """Owner, mode and times of what a path leads to, or of the link if it is one."""
        return self._call("stat", os.stat, path, follow_symlinks=follow)

    def space(self, path: str) -> tuple[int, int]:
        """Bytes that a filesystem has in all, and that are free for this user."""
        found = self._call("statvfs", os.statvfs, path)
        return found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail

    # -- who may read, and what survives ------------------------------------------------

    def _open_new(self, path: str, more: int = 0) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | more
        handle = os.open(path, flags, self._file_mode)
        try:
            self._fit(handle, self._file_mode)
        except OSError:
            os.close(handle)
            raise
        return handle

    def _make_folder(self, path: str) -> None:
        os.mkdir(path, self._folder_mode)
        self._fit(path, self._folder_mode)

    def _fit(self, made: int | str, mode: int) -> None:
        """Give what was just made its mode, whatever the umask, and its group."""
        found = os.stat(made)
        if self.group is not None and found.st_gid != self.group:
            os.chown(made, -1, self.group)
        if stat.S_IMODE(found.st_mode) != mode:
            os.chmod(made, mode)

    def _settle(self, path: str) -> None:
        """Let the change of a name survive a power cut."""
        if not self.durable:
            return
        try:
            self._call("fsync", sync_folder, os.path.dirname(path))
        except OSError as error:
            # A folder that was removed since has nothing left to lose. And some filesystems have
            # no such call: their servers keep names safe by themselves.
            if error.errno not in _NOTHING_TO_SETTLE:
                raise
