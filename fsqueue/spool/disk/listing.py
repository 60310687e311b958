"""Lists a folder again only if it has changed, where that can be known without a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsqueue.spool.disk.filesystem import Filesystem

# More seconds than between two ticks of any filesystem's clock, which are 2 on FAT. A folder that
# changes twice in one tick has the same time after both.
_TICK = 2.5


class Listing:
    """The names in one folder, for a process that asks for them again and again.

    On a local filesystem a look at the folder's time shows whether the names are the same. On a
    network filesystem the folder is listed each time, as its client caches the time, too.

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
