"""A folder of its own under the root, in which all probes work, and which goes when they end."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsqueue.spool.filesystem import Filesystem
from fsqueue.spool.layout import new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "doctor"
# An examination takes minutes at most. What is this old was left by one that was killed.
_LEFT_BEHIND = 3600.0
_ROUNDS = 50
_PAUSE = 0.1


class LenientFilesystem(Filesystem):
    """Where modes cannot be set the other probes go on; `basics.modes` tells."""

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
        if not os.path.lexists(folder):
            break
        time.sleep(_PAUSE)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(folder))


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
