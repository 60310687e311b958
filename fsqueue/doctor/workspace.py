"""The workspace of an examination: a folder under the root, removed when the probes end."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.disk.ownership import Ownership
from fsqueue.spool.format.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
R = TypeVar("R")

FOLDER = "doctor"
# Seconds after which a workspace counts as left behind: an examination takes minutes at most.
_LEFT_BEHIND = 3600.0
_ROUNDS = 50
_PAUSE = 0.1


class _LenientOwnership(Ownership):
    """Ignores errors on setting modes and groups, which a probe reports."""

    def fit(self, made: int | str, mode: int) -> None:
        """Set the mode and the group of a new file or folder, if possible."""
        with contextlib.suppress(OSError):
            super().fit(made, mode)


@dataclass(slots=True)
class Stop:
    """A request to stop the examination, made by a signal."""

    wanted: bool = False


class LenientFilesystem(Filesystem):
    """A filesystem that ignores errors on setting modes; `basics.modes` reports them.

    Args:
        group: number of the group that shares the root.
        stop: once it is wanted, the next call in the main thread raises KeyboardInterrupt instead.
            It does so before the call, because an interrupt in the middle of `open` would leak an
            open file, whose folders an NFS client keeps until the process ends. It does so only
            once, because clearing up follows.
    """

    def __init__(self, *, group: int | None = None, stop: Stop | None = None) -> None:
        # Every filesystem is treated as a remote one; see `Workspace`.
        super().__init__(remote=True, group=group, ownership=_LenientOwnership)
        self._stop = stop or Stop()

    def _call(self, verb: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        # `close` must run in any case.
        main = threading.current_thread() is threading.main_thread()
        if self._stop.wanted and main and verb != "close":
            self._stop.wanted = False
            raise KeyboardInterrupt
        return super()._call(verb, function, *args, **kwargs)


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder in which the probes of one examination work.

    Args:
        fs: the filesystem. It treats every filesystem as a remote one, so that `fresh` answers
            come from the server and all others may come from a cache.
        root: the directory that is examined.
        token: name of the examination.
    """

    fs: Filesystem
    root: str
    token: str

    @property
    def folder(self) -> str:
        """Path of the workspace."""
        return f"{self.root}/{FOLDER}/{self.token}"

    def path(self, name: str) -> str:
        """The path of a name in the workspace."""
        return f"{self.folder}/{name}".rstrip("/")

    def make(self, name: str) -> str:
        """Make a folder in the workspace, unless it exists; returns its path.

        It does not make the folders above: a guest must not recreate a workspace that its owner has
        removed.
        """
        path = self.path(name)
        with contextlib.suppress(FileExistsError):
            self.fs.mkdir(path)
        return path


@contextlib.contextmanager
def workspace(root: str, fs: Filesystem) -> Iterator[Workspace]:
    """Make a workspace; at the end of the block, remove it with everything in it.

    Raises:
        OSError: the workspace cannot be made.
    """
    place = Workspace(fs, root, new_token())
    try:
        try:
            fs.make_folders(place.folder)
        except FileNotFoundError:  # another examination has just ended, and cleared up
            fs.make_folders(place.folder)
        sweep(place)
        yield place
    finally:
        remove(place.folder)


def sweep(place: Workspace) -> None:
    """Remove the workspaces of examinations that were killed long ago."""
    parent = os.path.dirname(place.folder)
    for name in place.fs.names(parent):
        path = f"{parent}/{name}"
        # By the file server's clock, which has just set the time of this workspace.
        with contextlib.suppress(OSError):
            age = place.fs.status(place.folder).st_mtime - place.fs.status(path).st_mtime
            if age > _LEFT_BEHIND:
                remove(path)


def remove(folder: str) -> None:
    """Remove a workspace, and the folder of all workspaces if it was the last."""
    # Repeated, because an NFS client keeps a removed file under another name until it is closed,
    # and another process may be making its last file just now. Rounds are counted rather than
    # timed, because one round may take long.
    for _ in range(_ROUNDS):
        with contextlib.suppress(OSError):
            _clear(folder)
        if _is_gone(folder):
            break
        time.sleep(_PAUSE)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(folder))


def _is_gone(folder: str) -> bool:
    try:
        os.lstat(folder)
    except FileNotFoundError:
        return True
    except OSError:  # unknown
        return False
    return False


def _clear(folder: str) -> None:
    """Remove a folder with everything in it, including what another host has just made there.

    `shutil.rmtree` lists folders from a cache, and so may leave files of other hosts.
    """
    os.utime(folder)
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        with contextlib.suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                _clear(entry.path)
            else:
                os.unlink(entry.path)
    os.rmdir(folder)
