"""Counts the files in many folders at a bounded cost.

Counting a million pending calls would mean listing a thousand folders. But folders in the middle of
a queue hardly ever change. So a counter remembers the count and modification time of each folder,
and lists it again only if that time has changed. Each update checks a limited number of folders:
first those the caller marks as urgent, then those it has never seen, then the others in turn. It
extrapolates to folders it has never seen, and marks the total as an estimate.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.errors import EnvelopeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fsqueue.spool.files.files import Files

# In seconds. A folder that has just changed may change again in the same clock tick.
_SETTLED = 2.0


class Count(NamedTuple):
    """A number of files."""

    number: int
    exact: bool
    """False if the files of some folders are estimated."""


class _Seen(NamedTuple):
    modified: float | None
    names: int
    turn: int
    owners: Counter[str]
    """The number of names by client; empty unless requested."""


class FolderCounts:
    """Counts the names in folders. Reusing it makes the next count cheaper.

    Args:
        most: the most folders to check in one update.
        owned: whether to count by client, too.
    """

    def __init__(self, files: Files, most: int, *, owned: bool = False) -> None:
        self._files, self._most, self._owned = files, most, owned
        self._seen: dict[str, _Seen] = {}
        self._turn = 0

    def update(self, folders: Sequence[str], urgent: Iterable[str] = ()) -> None:
        """Check some of these folders, and forget all others."""
        self._turn += 1
        there = dict.fromkeys(folders)
        self._seen = {path: seen for path, seen in self._seen.items() if path in there}
        for path in self._chosen(there, urgent):
            self._look(path)

    def _chosen(self, there: dict[str, None], urgent: Iterable[str]) -> list[str]:
        if len(there) <= self._most:
            return list(there)
        chosen = dict.fromkeys(list(urgent)[: self._most])
        new = [path for path in there if path not in self._seen and path not in chosen]
        # Evenly spread, since the estimate for the rest is based on these.
        room = self._most - len(chosen)
        chosen.update(dict.fromkeys(new[:: max(1, -(-len(new) // room))][:room] if room else ()))
        known = sorted(self._seen.keys() - chosen.keys(), key=lambda path: self._seen[path].turn)
        return [*chosen, *known[: self._most - len(chosen)]]

    def _look(self, path: str) -> None:
        seen = self._seen.get(path)
        modified: float | None = None
        if seen is not None or self._turn > 1:  # a one-off count does not need the time
            try:
                modified = self._files.fs.modified(path)
            except (OSError, EnvelopeError):
                self._seen.pop(path, None)
                return
            if seen is not None and seen.modified == modified:
                self._seen[path] = seen._replace(turn=self._turn)
                return
            if self._files.clock.now() - modified < _SETTLED:
                modified = None
        names = self._files.listed(path, fresh=True)
        owners = owners_of(names) if self._owned else Counter[str]()
        self._seen[path] = _Seen(modified, len(names), self._turn, owners)

    def known(self, folder: str) -> int | None:
        """The number of names in a folder; None if it was never listed."""
        seen = self._seen.get(folder)
        return None if seen is None else seen.names

    def owners(self) -> Counter[str]:
        """The number of names by client, in the folders that were listed."""
        found: Counter[str] = Counter()
        for seen in self._seen.values():
            found.update(seen.owners)
        return found

    def total(self, folders: Sequence[str]) -> Count:
        """The total number of names in these folders."""
        counts = [self._seen[path].names for path in folders if path in self._seen]
        unknown = len(folders) - len(counts)
        mean = sum(counts) / len(counts) if counts else 0.0
        return Count(sum(counts) + round(mean * unknown), not unknown)


def owners_of(names: Iterable[str]) -> Counter[str]:
    """Counts attempt names by client."""
    return Counter(name.partition(".")[0].rpartition("-")[0] for name in names)
