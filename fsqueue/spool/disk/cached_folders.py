"""Which listings in an NFS client's cache are current, so that a poll that finds nothing is cheap.

When a folder is opened, a Linux NFS client asks the server for its times (close-to-open
consistency). If these have not changed, the listing comes from the cache: one request in all. But
a server's clock ticks. A listing that was read in the same tick as a change does not show the next
change of that tick, and the times never tell. So a listing counts only if it was read in a later
tick. Until then, and once in a while, the cache is dropped, which costs a second request.

To touch the folder first, as on other network filesystems, costs three more than the first: that
changes the folder for all clients, so they ask again who may use it, and what is in it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds that are longer than a tick of a server's clock. File times of some filesystems are whole
# seconds, on FAT even ones.
_TICK, _LONG_TICK = 0.1, 2.5
_SECOND = 1_000_000_000
# After so many seconds the cache is dropped in any case: it is filled by other processes, too.
_LASTS = 30.0
_MOST = 1_000  # folders that are remembered


class _Seen(NamedTuple):
    """A folder as it was when it was opened."""

    times: tuple[int, int, int]
    since: float
    """When these times were first seen. The server's clock was not behind them then."""
    read: float
    """When the cache was last dropped."""


class CachedFolders:
    """What this process knows of the listings in its host's cache. From any thread.

    Args:
        monotonic: reads the clock.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: dict[str, _Seen] = {}

    def refresh(self, path: str, number: int) -> bool:
        """Drop a listing that may not be current from the client's cache; whether it did so.

        Args:
            path: the folder.
            number: its descriptor. The folder has just been opened.
        """
        found = os.fstat(number)  # without a request, right after the one of `open`
        times, now = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns), self._monotonic()
        seen = self._seen.get(path)
        since = now if seen is None or seen.times != times else seen.since
        tick = _TICK if found.st_mtime_ns % _SECOND else _LONG_TICK
        if seen is not None and seen.since == since and since + tick <= seen.read > now - _LASTS:
            return False
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        if len(self._seen) >= _MOST:
            self._seen.clear()
        self._seen[path] = _Seen(times, since, now)
        return True
