"""A folder of its own under the root, in which all probes work, and which goes when they end."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.format.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
R = TypeVar("R")

FOLDER = "doctor"
# An examination takes minutes at most. What is this old was left by one that was killed.
_LEFT_BEHIND = 3600.0
_ROUNDS = 50
_PAUSE = 0.1


@dataclass(slots=True)
class Stop:
    """A wish to end the examination, as a signal makes it."""

    wanted: bool = False


class LenientFilesystem(Filesystem):
    """Where modes cannot be set the other probes go on; `basics.modes` tells.

    Args:
        group: number of the group that is to share the root.
        stop: once it is wanted, the next call in the main thread raises KeyboardInterrupt instead.
            Before a call, since one that comes in the middle of `open` leaves a file open that
            nobody knows of; and an NFS client keeps the folders of such a file until the process
            has ended. Once, since what follows is clearing up.
    """

    def __init__(self, *, group: int | None = None, stop: Stop | None = None) -> None:
        # Every filesystem is taken for a remote one: see `Workplace`.
        super().__init__(remote=True, group=group)
        self._stop = stop or Stop()

    def _call(self, verb: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        # `close` has to be made, whatever happens.
        main = threading.current_thread() is threading.main_thread()
        if self._stop.wanted and main and verb != "close":
            self._stop.wanted = False
            raise KeyboardInterrupt
        return super()._call(verb, function, *args, **kwargs)

    def _fit(self, made: int | str, mode: int) -> None:
        with contextlib.suppress(OSError):
            super()._fit(made, mode)


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where the probes of one examination work.

    Args:
        fs: verbs over system calls. It takes every filesystem for a remote one, so that
            `fresh` answers are asked for and the others are what a cache may say.
        root: the directory that is examined.
        token: names the examination.
    """

    fs: Filesystem
    root: str
    token: str

    @property
    def folder(self) -> str:
        """The examination's own folder."""
        return f"{self.root}/{FOLDER}/{self.token}"

    def path(self, name: str) -> str:
        """A path in the folder."""
        return f"{self.folder}/{name}".rstrip("/")

    def make(self, name: str) -> str:
        """Make a folder in the folder, unless it is there; returns its path.

        Not those above it: who works in another's workplace must not make that again.
        """
        path = self.path(name)
        with contextlib.suppress(FileExistsError):
            self.fs.mkdir(path)
        return path


@contextlib.contextmanager
def workplace(root: str, fs: Filesystem) -> Iterator[Workplace]:
    """Make a workplace, and remove it with all that is in it.

    Raises:
        OSError: it cannot be made.
    """
    place = Workplace(fs, root, new_token())
    try:
        try:
            fs.make_folders(place.folder)
        except FileNotFoundError:  # another examination has just ended, and cleared up
            fs.make_folders(place.folder)
        sweep(place)
        yield place
    finally:
        remove(place.folder)


def sweep(place: Workplace) -> None:
    """Remove what examinations have left that were killed long ago."""
    parent = os.path.dirname(place.folder)
    for name in place.fs.names(parent):
        path = f"{parent}/{name}"
        # By the file server's clock, which has just written the time of this workplace.
        with contextlib.suppress(OSError):
            age = place.fs.status(place.folder).st_mtime - place.fs.status(path).st_mtime
            if age > _LEFT_BEHIND:
                remove(path)


def remove(folder: str) -> None:
    """Remove a workplace, and the folder of all workplaces if it was the last."""
    # Again and again: an NFS client keeps a removed file under another name until it is closed, and
    # somebody else may be making his last one just now. By number, as one round may take long.
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
    except OSError:  # not told
        return False
    return False


def _clear(folder: str) -> None:
    """Remove a folder with all that is in it, what another host has just made there included.

    `shutil.rmtree` lists folders as a cache has them, and so may leave files of others.
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
