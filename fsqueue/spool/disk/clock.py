"""The file server's clock, the only one that all hosts of a spool share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError

if TYPE_CHECKING:
    from fsqueue.spool.disk.filesystem import Filesystem


class ServerClock:
    """The file server's clock, extrapolated by this host's monotonic clock between two readings.

    All times in the spool come from this clock.
    """

    def __init__(self, filesystem: Filesystem) -> None:
        self._fs = filesystem
        self._offset: float | None = None
        self._synced = 0.0

    def sync(self, path: str) -> None:
        """Touch the file `path`, which must be this process's own, and read its time."""
        self._fs.touch(path)
        before = self._fs.monotonic()
        self._offset = self._fs.modified(path) - before
        self._synced = before

    @property
    def age(self) -> float:
        """Seconds since the last sync."""
        return self._fs.monotonic() - self._synced if self._offset is not None else float("inf")

    def now(self) -> float:
        """Seconds since the epoch on the file server.

        Raises:
            SpoolError: the clock was never synced.
        """
        if self._offset is None:
            raise SpoolError("the file server's clock has not been read yet")
        return self._offset + self._fs.monotonic()
