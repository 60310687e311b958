"""Reads individual journal entries: failed attempts, and the history of one call.

Most lines record calls that succeeded. They are skipped without being decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.format.names import is_safe_name
from fsqueue.spool.format.records import UNDECODABLE, Failure
from fsqueue.spool.history.entries import JOURNAL_FORMAT, Entry
from fsqueue.spool.history.lines import LINES, MOST, LineReader, hours_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fsqueue.spool.history.folders import JournalFolders
    from fsqueue.spool.store.store import Store

_HOUR = 3600.0
# How many attempts `FailedAttempts` remembers, each less than a kilobyte.
_MOST_KEPT = 20_000
# How often texts that only forgotten attempts used are dropped, in seconds.
_FORGETTING_EVERY = 300.0
_TEXTS = ("task", "queue", "state", "failure", "fp", "at", "message", "label")
# How many bytes to read from the end of a file for a worker's latest attempts.
_END = 1 << 18
_decode = msgspec.json.Decoder(Entry).decode


class Attempt(NamedTuple):
    """One line of the journal."""

    entry: Entry
    worker: str
    """The worker that ran it or had claimed it."""
    ended: float

    @property
    def failure(self) -> Failure | None:
        """The attempt's failure."""
        entry = self.entry
        if not entry.failure:
            return None
        return Failure(entry.failure, entry.message, entry.fp, entry.at)


def failed_attempts(store: Store, since: float) -> Iterator[Attempt]:
    """The attempts that failed, were retried or were lost after `since`, newest hour first.

    Args:
        since: seconds since the epoch by the file server's clock.
    """
    for worker, data in LineReader(store).blocks(since):
        yield from (each for each in _failed(worker, data) if each.ended >= since)


class FailedAttempts:
    """Follows the failed attempts in a time window, for a process that polls the journal.

    Each look reads the new lines of a few files: those of the workers in `urgent`, then others in
    turn. It starts near the end of a file that it has not read before.

    Args:
        folders: the journal's folders; their owner updates them.
        files: the most files to read in one look.
        most: the most bytes to read from a file in one look.
    """

    def __init__(
        self, store: Store, folders: JournalFolders, *, files: int, most: int = 1 << 18
    ) -> None:
        self._store, self._folders, self._most = store, folders, most
        self.most_files: int = files
        # By path, least recently read first.
        self._read: dict[str, int] = {}
        self._found: list[Attempt] = []
        # Shares equal texts of different attempts to save memory. `sys.intern` does not help: since
        # Python 3.12 it never frees a string.
        self._texts: dict[str, str] = {}
        self._forgot_at = float("-inf")
        self.cut: bool = False
        """Whether there were more than are kept: the oldest ones are missing."""
        self.unread: int = 0
        """Files of the window that were not read yet."""

    def look(self, since: float, urgent: Collection[str] = ()) -> list[Attempt]:
        """The failed attempts after `since` that have been read so far.

        Args:
            since: seconds since the epoch by the file server's clock.
            urgent: workers whose files to read first.
        """
        there = self._folders.paths(since, LINES)
        new = [path for path in there if path not in self._read]
        present = set(there)
        known = [path for path in self._read if path in present]
        turn = sorted([*new, *known], key=lambda path: _worker_of(path) not in urgent)
        for path in turn[: self.most_files]:
            offset = self._read.pop(path, None)
            data, end = _part(self._store, path, self._most, offset)
            self._read[path] = end
            self._found += map(self._lean, _failed(_worker_of(path), data))
        for path in self._read.keys() - present:
            del self._read[path]
        self._found = [each for each in self._found if each.ended >= since]
        self._forget_texts(since)
        self.cut = len(self._found) > _MOST_KEPT
        if self.cut:
            self._found = sorted(self._found, key=lambda each: each.ended)[-_MOST_KEPT:]
        self.unread = sum(path not in self._read for path in there)
        return self._found

    def _lean(self, attempt: Attempt) -> Attempt:
        """The same attempt, with its texts shared with other attempts."""
        known = self._texts
        same = {name: known.setdefault(text, text) for name, text in _texts_of(attempt.entry)}
        worker = known.setdefault(attempt.worker, attempt.worker)
        return attempt._replace(entry=msgspec.structs.replace(attempt.entry, **same), worker=worker)

    def _forget_texts(self, since: float) -> None:
        if since < self._forgot_at + _FORGETTING_EVERY:
            return
        self._forgot_at = since
        self._texts = {text: text for each in self._found for _, text in _texts_of(each.entry)}


def _texts_of(entry: Entry) -> list[tuple[str, str]]:
    return [(name, getattr(entry, name)) for name in _TEXTS]


def _failed(worker: str, data: bytes) -> Iterator[Attempt]:
    for line in data.splitlines():
        if b'"fp":' in line or b'"evidence":' in line:
            found = attempt_of(line, worker)
            if found is not None:
                yield found


def attempts_of(
    store: Store, invocation_id: str, since: float, *, files: int, first: str = ""
) -> list[Attempt]:
    """One call's finished attempts in order, as far as the bounds allow.

    Args:
        since: when the call was made.
        files: how many files to read.
        first: the worker whose files to read first.
    """
    needle = f'"id":"{invocation_id}"'.encode()
    found: dict[tuple[int, str], Attempt] = {}
    for worker, data in LineReader(store, MOST, files).blocks(since, first=first):
        for line in data.splitlines() if needle in data else ():
            attempt = attempt_of(line, worker) if needle in line else None
            if attempt is not None:
                found[attempt.entry.attempt, attempt.entry.state] = attempt
    return [found[key] for key in sorted(found)]


def attempts_on(store: Store, worker: str, since: float, *, most: int) -> list[Attempt]:
    """The latest attempts that ended on one worker after `since`, newest hour first.

    Args:
        worker: the worker, by the name of its files.
        since: seconds since the epoch by the file server's clock.
        most: how many attempts.
    """
    found: list[Attempt] = []
    for hour, began in hours_of(store):
        if began + _HOUR < since or len(found) >= most or not is_safe_name(worker):
            break
        data, _ = _part(store, store.layout.journal_lines(hour, worker), _END)
        lines = reversed(data.splitlines()[-most:])
        each_of = (attempt_of(line, worker) for line in lines)
        found += [each for each in each_of if each is not None and each.ended >= since]
    return [each for each in found if each.worker == worker][:most]


def _worker_of(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(LINES)


def _part(store: Store, path: str, most: int, offset: int | None = None) -> tuple[bytes, int]:
    """Whole lines of a file from an offset, or from near its end, and the offset after them."""
    try:
        size = 0 if offset is not None else store.fs.status(path, follow=False).st_size
        start = max(0, size - most) if offset is None else offset
        data = store.fs.read_part(path, most, start)
    except (OSError, EnvelopeError):
        return b"", offset or 0
    whole, newline, _ = data.rpartition(b"\n")
    end = start + len(whole) + len(newline)
    return (whole.partition(b"\n")[2] if start and offset is None else whole), end


def attempt_of(line: bytes, worker: str) -> Attempt | None:
    """Decodes a journal line; None if it is damaged or from a newer version.

    Args:
        line: the journal line.
        worker: the worker whose journal it is.
    """
    try:
        entry = _decode(line)
    except UNDECODABLE:
        return None
    if entry.v != JOURNAL_FORMAT:
        return None
    return Attempt(entry, entry.worker or worker, entry.ended_at or entry.started + entry.run)
