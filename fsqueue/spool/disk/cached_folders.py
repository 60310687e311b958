"""Tracks which listings in an NFS client's cache are current, to make idle polls cheap.

When a process opens a folder, a Linux NFS client asks the server for the folder's times
(close-to-open consistency). If they have not changed, the listing comes from the cache, so it costs
one request in total. But the server's clock has a limited resolution. If a folder changes twice in
one tick, a listing read in between misses the second change, and the times never show it. So a
listing is trusted only if it was read in a later tick. Until then, and once in a while, the cache
is dropped, which costs a second request.

Touching the folder first, as on other network filesystems, costs three more requests: it changes
the folder for all clients, so they ask again for its permissions and content.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# Longer than a tick of any server's clock, in seconds. Some filesystems have file times in whole
# seconds, and FAT in multiples of two.
_TICK, _LONG_TICK = 0.1, 2.5
# Longer than a tick of a Linux server (1 to 10 ms). A listing that was read so long after a change
# is good until _TICK has passed; then another one makes sure.
_LINUX_TICK = 0.012
_SECOND = 1_000_000_000
# After this many seconds the cache is dropped anyway, since other processes fill it, too. A process
# that the server wakes polls every 30 s, so every other poll is one request for each folder.
_LASTS = 45.0
_MOST = 1_000  # folders to remember


class _Seen(NamedTuple):
    """A folder as it was when it was opened."""

    times: tuple[int, int, int]
    since: float
    """When these times were first seen. The server's clock had reached them by then."""
    read: float
    """When the cache was last dropped."""


def _is_current(seen: _Seen, tick: float, now: float) -> bool:
    """Whether the cached listing of a folder shows all changes, if its times are those seen."""
    age = seen.read - seen.since
    if tick == _TICK and age < tick and now < seen.since + tick:
        return age >= _LINUX_TICK
    return age >= tick and seen.read > now - _LASTS


class CachedFolders:
    """What this process knows about listings in its host's cache. Thread-safe.

    Args:
        monotonic: reads the monotonic clock.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: dict[str, _Seen] = {}

    def refresh(self, path: str, number: int) -> bool:
        """Drop a possibly outdated listing from the client's cache; returns whether it did so.

        Args:
            path: the folder.
            number: its file descriptor, which was just opened.
        """
        found = os.fstat(number)  # no request, right after that of `open`
        times, now = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns), self._monotonic()
        seen = self._seen.get(path)
        since = now if seen is None or seen.times != times else seen.since
        tick = _TICK if found.st_mtime_ns % _SECOND else _LONG_TICK
        if seen is not None and seen.since == since and _is_current(seen, tick, now):
            return False
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        if len(self._seen) >= _MOST:
            self._seen.clear()
        self._seen[path] = _Seen(times, since, now)
        return True
