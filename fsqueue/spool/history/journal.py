"""The journal: the attempts that each worker has finished. For statistics, never for decisions.

Each worker writes two files for each hour of the file server's clock. ``<worker>.jsonl`` has one
line for each attempt that ended. ``<worker>.sums`` has one line for about every ten seconds in
which the worker was busy: counts and sketches (see `fsqueue.spool.history.sketch`) by task.
Statistics read the sums alone, so their cost grows neither with the number of calls nor with the
length of the history.

Lines are buffered for up to ten seconds or until there are 500, and are then appended together, so
running calls is hardly slowed down. When a worker is killed, its buffered lines are missing from
the statistics.
"""

from __future__ import annotations

import itertools
import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from fsqueue.spool.format.names import Slot
from fsqueue.spool.history import sketch

if TYPE_CHECKING:
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.store.store import Store

log = logging.getLogger(__name__)

JOURNAL_FORMAT: Final = 1
MOST_SUMS: Final = 8 << 20
"""The most bytes of sums that a worker writes in an hour, and that a reader reads."""

_EVERY_BEATS = 5
# With very many tasks, sums are written more rarely, so that the file has room for the whole hour.
_RARELY, _MANY_SUMS = 60.0, MOST_SUMS // 4
# The most bytes of lines that a worker writes in an hour. At about 200 bytes a line, that is
# 160,000 attempts. Later attempts are counted in the sums only.
_MOST_LINES = 32 << 20
# The most lines that are buffered while the file server does not answer.
_MOST_WAITING = 20_000
# With this many buffered lines, the worker writes at the next beat, to save memory.
_SOON = 500
_MOST_TASKS = 200
_LONGEST_NAME = 200
_OTHERS: Final = "(others)"

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
_Time = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
_Bucket = Annotated[int, msgspec.Meta(ge=sketch.FIRST_BUCKET, le=sketch.LAST_BUCKET)]
_Sketch = dict[_Bucket, _Count]
_Name = Annotated[str, msgspec.Meta(max_length=_LONGEST_NAME)]


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line of the journal: an attempt that has ended. Times are by the file server's clock."""

    v: int = JOURNAL_FORMAT
    id: str
    task: str
    queue: str
    attempt: int
    state: str
    """The outcome's state, "retried" if there is none yet, or "lost" if its slot died."""
    started: float
    wait: float
    """Seconds from when it was due to its start."""
    run: float
    """Seconds that its body took."""
    failure: str = ""
    """The exception's type."""
    members: int = 0
    """The number of calls in it, if it was a batch."""
    failed: int = 0
    """The number of failed calls among these."""
    label: str = ""
    """The call's label, if the attempt failed."""


class TaskSums(msgspec.Struct, omit_defaults=True):
    """Counts of one task's calls and attempts. Each call of a batch counts."""

    calls: _Count = 0
    """Calls that have ended; retries do not count."""
    failed: _Count = 0
    retried: _Count = 0
    lost: _Count = 0
    """Attempts whose slot died."""
    wait: _Sketch = msgspec.field(default_factory=dict)
    run: _Sketch = msgspec.field(default_factory=dict)
    seconds: _Time = 0.0
    """Sum of the run times."""
    waited: _Time = 0.0
    """Sum of the waiting times."""
    failed_label: str = ""
    """The label of a call that failed, the latest that the worker has seen."""

    def count(self, entry: Entry) -> None:
        """Count an attempt."""
        self.failed_label = entry.label or self.failed_label
        if entry.state == "lost":
            self.lost += 1
            return
        calls = entry.members or 1
        run = max(0.0, entry.run) / calls
        self.seconds += max(0.0, entry.run)
        bucket = sketch.bucket_of(run)
        self.run[bucket] = self.run.get(bucket, 0) + calls
        if entry.state == "retried":
            self.retried += 1
            return
        self.calls += calls
        self.failed += entry.failed
        self.waited += entry.wait * calls
        bucket = sketch.bucket_of(entry.wait)
        self.wait[bucket] = self.wait.get(bucket, 0) + calls

    def add(self, other: TaskSums) -> None:
        """Add the sums of another period or worker."""
        self.failed_label = other.failed_label or self.failed_label
        self.calls += other.calls
        self.failed += other.failed
        self.retried += other.retried
        self.lost += other.lost
        self.seconds += other.seconds
        self.waited += other.waited
        sketch.add(self.wait, other.wait)
        sketch.add(self.run, other.run)


class Sums(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of sums: a worker's work in one period. Times are by the file server's clock."""

    v: int = JOURNAL_FORMAT
    serial: _Count
    """Grows with each line of a worker, so that a line that was appended twice counts once."""
    began: _Time
    """When the worker started."""
    since: _Time
    until: _Time
    slots: _Count
    busy: _Time = 0.0
    """Seconds of work of all slots together."""
    missing: _Count = 0
    """Attempts without a line in the journal."""
    left: bool = False
    """The worker has left."""
    tasks: dict[_Name, TaskSums] = msgspec.field(default_factory=dict)


_encode = msgspec.json.Encoder().encode


def hour_of(seconds: float) -> str:
    """The name of the folder for an hour."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H")


def start_of_hour(name: str) -> float | None:
    """When an hour began; None if this is not the name of an hour's folder."""
    try:
        found = datetime.strptime(name, "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return found if hour_of(found) == name else None


def waited(claim: Claim, call: Call, started: float) -> float:
    """Seconds from when an attempt could start to when it did."""
    slot = Slot.parse(claim.origin.rpartition("/")[0].rpartition("/")[2])
    due = call.created if slot is None else max(call.created, slot.due)
    return max(0.0, started - due)


class Journal:
    """One worker's part of the journal. It is thread-safe; `add` and `hold` do no I/O.

    Args:
        store: the spool.
        slots: how many calls the worker runs at a time.
        heartbeat: seconds between two heartbeats; the worker writes at every fifth.
        keep: whether to write anything.
        most_lines: bytes of lines that are written in an hour.
        most_waiting: lines that are buffered while the file server does not answer.
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
        # Encoded immediately, as objects would take three times the memory.
        self._lines, self._waiting = bytearray(), 0
        self._tasks: dict[str, TaskSums] = {}
        self._missing = 0
        self._held, self._busy, self._changed = 0, 0.0, 0.0
        self._began = self._since = 0.0
        self._flushed = float("-inf")
        self._serials = itertools.count(1)
        self._hour, self._written, self._summed = "", 0, 0
        self._unsent: tuple[str, bytes] | None = None

    def begin(self) -> None:
        """Start the first period; the worker must have read the file server's clock."""
        self._began = self._since = self._store.clock.now()
        self._changed = self._store.fs.monotonic()

    def add(self, entry: Entry) -> None:
        """Record an attempt that has ended."""
        if not self._keep:
            return
        line = _encode(entry) + b"\n"
        with self._mutex:
            name = entry.task[:_LONGEST_NAME]
            sums = self._tasks.get(name) or _begun(self._tasks, name)
            sums.count(entry)
            if self._waiting < self._most_waiting:
                self._lines += line
                self._waiting += 1
            else:
                self._missing += 1

    def hold(self, change: int) -> None:
        """Add `change`, which may be negative, to the number of busy slots."""
        with self._mutex:
            self._account()
            self._held += change

    def _account(self) -> None:
        now = self._store.fs.monotonic()
        self._busy += self._held * (now - self._changed)
        self._changed = now

    def flush(self, worker: str) -> None:
        """Write the buffered lines and the sums, if it is time to.

        Args:
            worker: its name.

        Raises:
            OSError: they could not be written; the next call tries again.
        """
        self._flush(worker, left=False)

    def close(self, worker: str) -> None:
        """Write the rest when the worker leaves."""
        try:
            self._flush(worker, left=True)
        except OSError as error:
            log.warning("cannot write the end of the journal: %s", error)

    def _flush(self, worker: str, *, left: bool) -> None:
        if not self._keep:
            return
        self._send()
        now = self._store.fs.monotonic()
        with self._mutex:
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
        )
        lines, count = self._lines, self._waiting
        self._since, self._busy, self._missing = sums.until, 0.0, 0
        self._tasks, self._lines, self._waiting = {}, bytearray(), 0
        return sums, lines, count

    def _write(self, worker: str, sums: Sums, lines: bytearray, count: int) -> None:
        hour = hour_of(sums.until)
        if hour != self._hour:
            self._hour, self._written, self._summed = hour, 0, 0
        if self._written + len(lines) > self._most_lines:
            sums = msgspec.structs.replace(sums, missing=sums.missing + count)
            lines = bytearray()
        self._written += len(lines)
        # The sums can be sent again, since their serial identifies a second copy. Lines cannot: if
        # appending either fails, they are counted as missing.
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
    """The sums of a task that has none yet; those of all others if there are too many tasks."""
    return tasks.setdefault(name if len(tasks) < _MOST_TASKS else _OTHERS, TaskSums())
