"""The current working directory, which may have been removed.

A job's scratch directory is often removed before its processes end. `os.getcwd()` then raises a
`FileNotFoundError` without a file name, which looks like an error of the caller.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

log: logging.Logger = logging.getLogger(__name__)

GONE = "the current directory was removed"


def workdir() -> Path | None:
    """The current directory; None if it was removed or cannot be named."""
    try:
        return Path.cwd()
    except OSError:
        return None


def absolute(path: str | os.PathLike[str]) -> str:
    """An absolute path, without ``.`` and ``..`` in it.

    Raises:
        ConfigError: the path is relative, and the current directory was removed.
    """
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise ConfigError(
            f"{os.fspath(path)!r} is a relative path, and {GONE}. Give an absolute path, or go to "
            "another directory first."
        ) from error


@contextlib.contextmanager
def in_existing_workdir() -> Iterator[None]:
    """A block in which the current directory exists: ``/`` if the real one was removed.

    multiprocessing passes the name of the directory to each new process, and fails without one. The
    new process stays in ``/``. This process goes back afterwards.
    """
    if workdir() is not None:
        yield
        return
    log.warning("the current directory was removed: a new process slot uses / instead")
    removed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir("/")
        yield
    finally:
        os.fchdir(removed)
        os.close(removed)
