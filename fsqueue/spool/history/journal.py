"""The journal: a log of finished attempts for statistics. No decision depends on it.

Each worker writes two files for each hour of the file server's clock. ``<worker>.jsonl`` has one
line for each attempt that ended. ``<worker>.sums`` has about one line for every ten seconds in
which the worker was busy: counts and sketches (see `fsqueue.spool.history.sketch`) by task.
Statistics read only the sums, so their cost grows neither with the number of calls nor with the
length of the history.

The worker buffers lines for up to ten seconds or until there are 500, and then appends them
together, so the journal hardly slows calls down. When a worker is killed, its buffered lines are
missing from the statistics.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from fsqueue.errors import SpoolError
from fsqueue.spool.format.names import Slot
from fsqueue.spool.history.entries import (
    LONGEST_NAME,
    MOST_TASKS,
    OTHERS,
    Groups,
    Sums,
    TaskSums,
    take_notes,
)

if TYPE_CHECKING:
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.history.entries import Entry
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

MOST_SUMS: Final = 8 << 20
"""The most bytes of sums that a worker writes, and a reader reads, for an hour."""

_EVERY_BEATS = 5
# With very many tasks, sums are written less often, so that the file lasts for the whole hour.
_RARELY, _MANY_SUMS = 60.0, MOST_SUMS // 4
# The most bytes of lines that a worker writes in an hour. At about 200 bytes a line, that is
# 160,000 attempts. Later attempts are counted in the sums only.
_MOST_LINES = 32 << 20
# The most lines to buffer while the file server does not answer.
_MOST_WAITING = 20_000
# With this many buffered lines, the worker writes at the next beat, to save memory.
_SOON = 500
# How many attempts to count at a time. Counting them one by one takes three times as long, because
# the rest of a call's work evicts the code from the processor's caches.
_TOGETHER = 64

_encode, _encode_lines = msgspec.json.Encoder().encode, msgspec.json.Encoder().encode_lines


def hour_of(seconds: float) -> str:
    """The name of the folder for an hour."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H")


def start_of_hour(name: str) -> float | None:
    """When an hour began; None if this is not the name of an hour's folder."""
    try:
        found = datetime.fromisoformat(name).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return found if hour_of(found) == name else None


def waited(claim: Claim, call: Call, started: float) -> float:
    """Seconds from the time an attempt could start to the time it did."""
    slot = Slot.parse(claim.origin.rsplit("/", 2)[1])
    due = call.created if slot is None else max(call.created, slot.due)
    return max(0.0, started - due)


class Journal:
    """One worker's part of the journal. It is thread-safe; `add` and `hold` do no I/O.

    Args:
        slots: how many calls the worker runs at a time.
        heartbeat: seconds between heartbeats; the worker writes at every fifth.
        keep: whether to write anything.
        most_lines: the most bytes of lines to write in an hour.
        most_waiting: the most lines to buffer while the file server does not answer.
    """

    def __init__(
        self,
        store: Store,
        slots: int,
        *,
        heartbeat: float = 2.0,
        keep: bool = True,
        most_lines: int = _MOST_LINES,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self._store, self._slots, self._keep = store, slots, keep
        self._most_lines, self._most_waiting = most_lines, most_waiting
        self._every = _EVERY_BEATS * heartbeat
        self._mutex = threading.Lock()
        self._added: deque[Entry] = deque()
        # Encoded early, since objects would take three times the memory.
        self._lines, self._waiting = bytearray(), 0
        self._tasks: dict[str, TaskSums] = {}
        self._groups = Groups()
        self._missing = 0
        self._held, self._busy, self._changed = 0, 0.0, 0.0
        self._began = self._since = 0.0
        self._flushed = float("-inf")
        self._serials = itertools.count(1)
        self._hour, self._written, self._summed = "", 0, 0
        self._unsent: tuple[str, bytes] | None = None

    def begin(self) -> None:
        """Start the first period. The worker must have read the file server's clock."""
        self._began = self._since = self._store.clock.now()
        self._changed = self._store.fs.monotonic()

    def add(self, entry: Entry) -> None:
        """Record a finished attempt."""
        if not self._keep:
            return
        self._added.append(entry)
        if len(self._added) >= _TOGETHER:
            with self._mutex:
                self._count_added()

    def _count_added(self) -> None:
        """Count and encode what was added. Callers hold the lock; other threads may add more."""
        entries = [self._added.popleft() for _ in range(len(self._added))]
        for entry in entries:
            name = entry.task[:LONGEST_NAME]
            sums = self._tasks.get(name) or _begun(self._tasks, name)
            self._groups.count(entry, sums.count(entry))
        kept = entries[: self._most_waiting - self._waiting]
        self._lines += _encode_lines(kept)
        self._waiting += len(kept)
        self._missing += len(entries) - len(kept)

    def hold(self, change: int) -> None:
        """Change the number of busy slots by `change`, which may be negative."""
        with self._mutex:
            self._account()
            self._held += change

    def _account(self) -> None:
        now = self._store.fs.monotonic()
        self._busy += self._held * (now - self._changed)
        self._changed = now

    def flush(self, worker: str) -> None:
        """Write the buffered lines and the sums if it is time to do so.

        Args:
            worker: the worker's name.

        Raises:
            OSError: they could not be written; the next call tries again.
        """
        self._flush(worker, left=False)

    def close(self, worker: str) -> None:
        """Write what remains when the worker exits."""
        try:
            self._flush(worker, left=True)
        except (OSError, SpoolError) as error:
            log.warning("cannot write the end of the journal: %s", error)

    def _flush(self, worker: str, *, left: bool) -> None:
        if not self._keep:
            return
        for entry in take_notes(self._store):
            self.add(entry)
        self._send()
        now = self._store.fs.monotonic()
        with self._mutex:
            self._count_added()
            every = self._every if self._summed < _MANY_SUMS else _RARELY
            due = now - self._flushed >= every or self._waiting >= _SOON
            idle = not (self._tasks or self._held or self._busy)
            if not left and (not due or idle):
                if idle:
                    self._since = self._store.clock.now()
                return
            self._flushed = now
            sums, lines, count = self._take(left)
        self._write(worker, sums, lines, count)

    def _take(self, left: bool) -> tuple[Sums, bytearray, int]:
        self._account()
        until = self._store.clock.now()
        sums = Sums(
            serial=next(self._serials),
            began=self._began,
            since=self._since,
            until=max(self._since, until),
            slots=self._slots,
            busy=round(self._busy, 3),
            missing=self._missing,
            left=left,
            tasks=self._tasks,
            queues=self._groups.queues,
            failures=self._groups.failures,
            runs=self._groups.runs,
        )
        lines, count = self._lines, self._waiting
        self._since, self._busy, self._missing = sums.until, 0.0, 0
        self._tasks, self._lines, self._waiting = {}, bytearray(), 0
        self._groups = Groups()
        return sums, lines, count

    def _write(self, worker: str, sums: Sums, lines: bytearray, count: int) -> None:
        hour = hour_of(sums.until)
        if hour != self._hour:
            self._hour, self._written, self._summed = hour, 0, 0
        if self._written + len(lines) > self._most_lines:
            sums = msgspec.structs.replace(sums, missing=sums.missing + count)
            lines = bytearray()
        self._written += len(lines)
        # The sums can be sent again, since their serial reveals a second copy. Lines cannot: if
        # appending lines or sums fails, the lines are counted as missing.
        layout = self._store.layout
        self._unsent = (layout.journal_sums(hour, worker), _encode(sums) + b"\n")
        self._summed += len(self._unsent[1])
        try:
            self._send()
            if lines:
                self._store.files.append(layout.journal_lines(hour, worker), lines)
        except OSError:
            with self._mutex:
                self._missing += count if lines else 0
            raise

    def _send(self) -> None:
        """Append the sums. After a failure, this may append them again, on a new line."""
        if self._unsent is None:
            return
        path, data = self._unsent
        try:
            self._store.files.append(path, data)
        except OSError:
            if not data.startswith(b"\n"):
                self._unsent = (path, b"\n" + data)
            raise
        self._unsent = None


def _begun(tasks: dict[str, TaskSums], name: str) -> TaskSums:
    """Start the totals of a new task; returns the collective ones if there are too many tasks."""
    return tasks.setdefault(name if len(tasks) < MOST_TASKS else OTHERS, TaskSums())


def write_notes(store: Store, owner: str) -> None:
    """Write the notes of a process that is not a worker, for example about calls it cancelled.

    Dies before this, or if it fails: the notes are missing from the statistics. It raises no error.

    Args:
        owner: a name that no worker has, and that was not used for this before.
    """
    if store.endings.notes:
        journal = Journal(store, slots=0)
        journal.begin()
        journal.close(owner)
