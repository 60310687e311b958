"""Reads journal lines in blocks, so that memory does not grow with the files.

The newest hour comes first. Of a file that is larger than what a worker writes in an hour, only the
end is read. At 10 calls a second, an hour has 7 MB of lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fsqueue.errors import EnvelopeError
from fsqueue.spool.format.names import is_safe_name
from fsqueue.spool.history.journal import start_of_hour

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.spool.store.store import Store

EACH: Final = 32 << 20
"""The most bytes to read from a file: a worker does not write more in an hour."""
MOST: Final = 256 << 20
"""The most bytes to read in total."""
LINES: Final = ".jsonl"
"""Suffix of the files with lines."""
_HOUR = 3600.0
_PART = 1 << 20


class Block(NamedTuple):
    """Whole lines from one worker's file."""

    worker: str
    data: bytes


def hours_of(store: Store) -> list[tuple[str, float]]:
    """The hours in the journal, each with its start time, newest first."""
    names = sorted(store.fs.names(store.layout.journal_folder, fresh=True), reverse=True)
    begins = ((name, start_of_hour(name)) for name in names)
    return [(name, began) for name, began in begins if began is not None]


class LineReader:
    """Reads lines up to given bounds.

    Args:
        most: the most bytes to read in total.
        files: the most files to read.

    Attributes:
        unread: bytes skipped in the files that it reached.
        complete: whether it reached all files.
    """

    def __init__(self, store: Store, most: int = MOST, files: int = 100_000) -> None:
        self._store, self._most, self._files = store, most, files
        self.unread: int = 0
        self.complete: bool = True

    def blocks(self, since: float, until: float = float("inf"), first: str = "") -> Iterator[Block]:
        """The lines of all hours that overlap a period.

        Args:
            since: seconds since the epoch by the file server's clock.
            until: the end of the period.
            first: the worker whose files to read first.
        """
        store = self._store
        for hour, began in hours_of(store):
            # A worker appends a line up to a minute after the event.
            if began + _HOUR < since or began > until + _HOUR:
                continue
            names = [
                name.removesuffix(LINES)
                for name in store.files.listed(store.layout.journal_hour(hour), fresh=True)
                if name.endswith(LINES) and is_safe_name(name.removesuffix(LINES))
            ]
            for worker in sorted(names, key=lambda name: (name != first, name)):
                if self._most <= 0 or self._files <= 0:
                    self.complete = False
                    return
                self._files -= 1
                for data in self._of_file(store.layout.journal_lines(hour, worker)):
                    yield Block(worker, data)

    def _of_file(self, path: str) -> Iterator[bytes]:
        most = min(EACH, self._most)
        try:
            size = self._store.fs.status(path, follow=False).st_size
            start = max(0, size - most)
            self.unread += start
            rest = b""
            cut = start > 0  # the first line is incomplete
            for offset in range(start, size, _PART):
                part = self._store.fs.read_part(path, min(_PART, size - offset), offset)
                self._most -= len(part)
                whole, newline, rest = (rest + part).rpartition(b"\n")
                yield whole.partition(b"\n")[2] if cut else whole
                cut = cut and not newline
            if rest:
                yield rest
        except (OSError, EnvelopeError):
            return
