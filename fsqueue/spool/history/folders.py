"""The journal's folders, one for each hour, and the files in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.spool.format.names import is_safe_name
from fsqueue.spool.history.journal import start_of_hour

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

_HOUR = 3600.0
# How long after the end of an hour its folder can still change, in seconds: workers append what
# they have buffered.
_SETTLED = 600.0
# The most files to read for an hour: a few for each worker that ran in it.
_MOST_FILES = 30_000


class JournalFolders:
    """Lists the journal's folders. A folder whose hour is over is listed only once.

    Args:
        most: the most folders of past hours to list in one update, latest first.
    """

    def __init__(self, store: Store, most: int = 1 << 30) -> None:
        self._store = store
        self.most: int = most
        self._names: dict[str, tuple[str, ...]] = {}
        self._settled: set[str] = set()

    def update(self, since: float) -> None:
        """List the folders that may have lines after `since`."""
        now = self._store.clock.now()
        there = {
            name: began
            for name in self._store.fs.names(self._store.layout.journal_folder, fresh=True)
            if (began := start_of_hour(name)) is not None and since < began + _HOUR
            if began <= now + _HOUR
        }
        self._names = {name: found for name, found in self._names.items() if name in there}
        self._settled &= there.keys()
        left = self.most
        for name in sorted(there.keys() - self._settled, reverse=True):
            is_over = there[name] + _HOUR + _SETTLED < now
            if is_over and (left := left - 1) < 0:
                break
            folder = self._store.layout.journal_hour(name)
            listed = self._store.files.listed(folder, limit=_MOST_FILES, fresh=True)
            workers = (each for each in listed if is_safe_name(each.partition(".")[0]))
            self._names[name] = tuple(sorted(workers))
            if is_over:
                self._settled.add(name)

    def paths(self, since: float, suffix: str) -> list[str]:
        """The files of one kind that may have lines after `since`, latest hour first."""
        layout = self._store.layout
        return [
            f"{layout.journal_hour(hour)}/{name}"
            for hour in sorted(self._names, reverse=True)
            if (start_of_hour(hour) or 0.0) + _HOUR > since
            for name in self._names[hour]
            if name.endswith(suffix)
        ]
