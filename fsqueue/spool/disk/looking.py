"""A read-only filesystem layer for viewers, which also counts its operations.

This works on a read-only mount, on a copy of a spool and on a full disk. On a network filesystem,
other processes refresh the client's cache by touching a folder. Here `statx` does that: it asks the
server and writes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from fsqueue.errors import EnvelopeError
from fsqueue.spool.disk import reading
from fsqueue.spool.disk.clock import ServerClock
from fsqueue.spool.disk.filesystem import Filesystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from filelock import BaseFileLock

P = ParamSpec("P")
R = TypeVar("R")

_READING = frozenset({"read", "listdir", "stat", "fstat", "statvfs"})


class LookingFilesystem(Filesystem):
    """Reads files, and refuses every step that writes with `EROFS`.

    Attributes:
        operations: how many file operations it has performed.
    """

    operations: int = 0

    def _call(self, verb: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        if verb not in _READING:
            path = next((each for each in args if isinstance(each, str)), "")
            raise OSError(errno.EROFS, "this process only looks at the spool", path)
        self.operations += 1
        return function(*args, **kwargs)

    def names(
        self,
        path: str,
        *,
        limit: int | None = None,
        fresh: bool = False,
        strict: bool = False,
        required: bool = False,
    ) -> list[str]:
        """List a folder; see `Filesystem.names`."""
        writes = fresh and self._cached is None
        if writes:
            self._revalidate(path)
        return super().names(
            path, limit=limit, fresh=fresh and not writes, strict=strict, required=required
        )

    def has_folder(self, path: str) -> bool:
        """Whether a folder exists."""
        return bool(self.is_folder(path))

    def recall(self, path: str) -> None:
        """Do nothing: a viewer moves no files, so it need not wait for other clients."""

    def let_go(self, path: str) -> None:
        """Do nothing: this would set the file's mode."""

    def ring(self, path: str) -> None:
        """Do nothing: a viewer wakes no processes."""

    def lock(self, path: str, *, existing: bool = False) -> BaseFileLock | None:
        """Return None, as if the lock were held: trying it would open the file for writing."""

    def _refresh(self, path: str) -> None:
        self._revalidate(os.path.dirname(path))

    def _revalidate(self, folder: str) -> None:
        """Make a network filesystem's client drop its cache of a folder that has changed."""
        if self.remote:
            with contextlib.suppress(OSError, EnvelopeError):
                self._call("fstat", reading.mtime, folder)


class LookingClock(ServerClock):
    """An estimate of the file server's clock, for a process that writes nothing.

    On a local disk it is this host's clock. On a network filesystem that is only the first guess,
    since hosts' clocks need not agree. `sync` corrects it by watching a file that a worker touches.
    Once the file has a new time, the server's clock has reached that time. As long as the file did
    not have it yet, the clock had not passed it.
    """

    def __init__(self, filesystem: Filesystem) -> None:
        super().__init__(filesystem)
        self._least, self._most = float("-inf"), float("inf")
        self._seen: float | None = None
        self._looked = 0.0

    def sync(self, path: str) -> None:
        """Look at the time of the file `path`, which may be missing."""
        before = self._fs.monotonic()
        if self._fs.remote:
            self._bound(path, before)
        host = time.time() - before
        self._offset = max(self._least, min(host, self._most))
        self._synced = before

    def _bound(self, path: str, before: float) -> None:
        try:
            modified = self._fs.modified(path)
        except (OSError, EnvelopeError):
            return
        self._least = max(self._least, modified - self._fs.monotonic())
        if self._seen is not None and self._seen != modified:
            self._most = modified - self._looked
        self._seen, self._looked = modified, before
