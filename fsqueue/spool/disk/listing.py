"""Lists a folder again only if it has changed, where that is known without a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsqueue.spool.disk.filesystem import Filesystem

# Longer than a clock tick of any filesystem, in seconds; FAT's is 2. A folder that changes twice in
# one tick has the same time after both changes.
_TICK = 2.5


class Listing:
    """The names in one folder, for a process that polls them.

    On a local filesystem, the folder's time shows whether the names have changed. On a network
    filesystem, the folder is listed each time, since the client caches the time, too.

    Args:
        path: the folder.
    """

    def __init__(self, fs: Filesystem, path: str) -> None:
        self._fs, self._path = fs, path
        self._names: list[str] = []
        self._modified: float | None = None
        self._since = 0.0
        self._is_current = False

    def names(self) -> list[str]:
        """The names, in no order; a missing folder has none."""
        if self._fs.remote:
            return self._fs.names(self._path, fresh=True)
        now, modified = self._fs.monotonic(), self._time()
        if modified is None or modified != self._modified:
            self._modified, self._since, self._is_current = modified, now, False
        if not self._is_current:
            self._names = self._fs.names(self._path)
            self._is_current = modified is not None and now - self._since > _TICK
        return self._names

    def _time(self) -> float | None:
        try:
            return self._fs.modified(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return None
