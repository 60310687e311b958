"""Journal entries: finished attempts, and totals over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from fsqueue.common.fingerprints import LENGTH
from fsqueue.spool.format.names import INVOCATION_PATTERN, SAFE_PATTERN
from fsqueue.spool.format.records import shown
from fsqueue.spool.format.states import State
from fsqueue.spool.history import sketch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsqueue.spool.format.records import Failure
    from fsqueue.spool.store.endings import Note
    from fsqueue.spool.store.store import Store

JOURNAL_FORMAT: Final = 1
MOST_TASKS: Final = 200
LONGEST_NAME: Final = 200
OTHERS: Final = "(others)"

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
_Time = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
_Bucket = Annotated[int, msgspec.Meta(ge=sketch.FIRST_BUCKET, le=sketch.LAST_BUCKET)]
_Sketch = dict[_Bucket, _Count]
_Id = Annotated[str, msgspec.Meta(pattern=INVOCATION_PATTERN)]
_Worker = Annotated[str, msgspec.Meta(pattern=SAFE_PATTERN)]
_Fingerprint = Annotated[str, msgspec.Meta(pattern=rf"^([0-9a-f]{{{LENGTH}}})?\Z")]
_Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
_GOES_ON = frozenset({"retried", "lost"})
_LONGEST_MESSAGE = 120


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line of the journal: a finished attempt. Times are by the file server's clock.

    Anyone with write access to the spool may have written a line. So decoding refuses names that
    are not safe as parts of paths, and numbers that cannot be added up.
    """

    v: int = JOURNAL_FORMAT
    id: _Id
    task: str
    queue: str
    attempt: _Count
    state: str
    """The outcome's state; "retried" if there is no outcome yet; "lost" if the worker or slot
    died."""
    started: _Time
    """When the task started; 0 if the attempt did not end in the task."""
    ended_at: _Time = 0.0
    """When it ended, if it was not the task that ended it."""
    wait: _Time
    """Seconds from the time it was due to its start."""
    run: _Time
    """How long the task took, in seconds."""
    failure: str = ""
    """The exception's type."""
    fp: _Fingerprint = ""
    """The fingerprint of the failure."""
    at: str = ""
    """Where it was raised: file, line and function."""
    message: str = ""
    """The first characters of its message."""
    worker: _Worker = ""
    """The worker that ran it, if it died and so is not the one whose journal this is."""
    evidence: str = ""
    """How the worker's death was detected."""
    members: _Count = 0
    """The number of calls, if it was a batch."""
    failed: _Count = 0
    """How many of its calls failed."""
    label: str = ""
    """The call's label, if the attempt failed."""


class TaskSums(msgspec.Struct, omit_defaults=True):
    """Totals for one task's calls and attempts. Each call of a batch counts."""

    calls: _Count = 0
    """Calls that have ended; retries do not count."""
    failed: _Count = 0
    retried: _Count = 0
    lost: _Count = 0
    """Attempts whose worker or slot died."""
    cancelled: _Count = 0
    wait: _Sketch = msgspec.field(default_factory=dict)
    run: _Sketch = msgspec.field(default_factory=dict)
    seconds: _Time = 0.0
    """Sum of the run times."""
    waited: _Time = 0.0
    """Sum of the waiting times."""
    failed_label: str = ""
    """The label of the latest failed call that the worker has seen."""

    def count(self, entry: Entry) -> int:
        """Count an attempt; returns how many calls ended with it."""
        self.failed_label = entry.label or self.failed_label
        members = entry.members or 1
        calls = entry.failed if entry.state in _GOES_ON else members
        if entry.state == "lost" or not entry.started:  # it did not end in the task
            self.lost += entry.state == "lost"
            self.cancelled += calls if entry.state == "cancelled" else 0
            self.failed += entry.failed
            self.calls += calls
            return calls
        run = max(0.0, entry.run) / members
        self.seconds += max(0.0, entry.run)
        bucket = sketch.bucket_of(run)
        self.run[bucket] = self.run.get(bucket, 0) + members
        if entry.state == "retried":
            self.retried += 1
            return calls
        self.calls += calls
        self.failed += entry.failed
        self.waited += entry.wait * calls
        bucket = sketch.bucket_of(entry.wait)
        self.wait[bucket] = self.wait.get(bucket, 0) + calls
        return calls

    def add(self, other: TaskSums) -> None:
        """Add the totals of another period or worker."""
        self.failed_label = other.failed_label or self.failed_label
        self.calls += other.calls
        self.failed += other.failed
        self.retried += other.retried
        self.lost += other.lost
        self.cancelled += other.cancelled
        self.seconds += other.seconds
        self.waited += other.waited
        sketch.add(self.wait, other.wait)
        sketch.add(self.run, other.run)


class Sums(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of totals: a worker's work in one period. Times are by the file server's clock."""

    v: int = JOURNAL_FORMAT
    serial: _Count
    """Increases with each of a worker's lines, so that a line that was appended twice counts
    once."""
    began: _Time
    """When the worker started."""
    since: _Time
    until: _Time
    slots: _Count
    busy: _Time = 0.0
    """Seconds during which slots were busy, added up over all slots."""
    missing: _Count = 0
    """Attempts that have no line in the journal."""
    left: bool = False
    """Whether the worker has exited."""
    tasks: dict[_Name, TaskSums] = msgspec.field(default_factory=dict)
    queues: dict[_Name, _Count] = {}
    """Calls that have ended, by queue."""
    failures: dict[_Name, _Count] = {}
    """Calls that have failed, by fingerprint."""
    runs: dict[_Name, tuple[_Count, _Count]] = {}
    """Calls that have ended, and how many of them failed, by client."""


def failure_fields(failure: Failure | None) -> dict[str, Any]:
    """The fields of an entry that describe a failure."""
    if failure is None:
        return {}
    return {
        "failure": failure.type,
        "fp": failure.fp,
        "at": failure.at,
        "message": failure.message[:_LONGEST_MESSAGE],
    }


def entry_of(note: Note) -> Entry:
    """The journal entry for a note."""
    name, when, call, outcome, worker, evidence = note
    members = call.members if call else 0
    state = "lost" if worker else str(outcome.state) if outcome else ""
    has_failed = outcome is not None and outcome.state is State.FAILED
    return Entry(
        id=name.invocation_id,
        attempt=name.attempt,
        state=state,
        ended_at=round(when, 3),
        started=0.0,
        wait=0.0,
        run=0.0,
        members=members,
        failed=(members or 1) * has_failed,
        worker=worker,
        evidence=evidence,
        **{"task": "", "queue": "", **shown(call)},
        **failure_fields(outcome.failure if outcome else None),
    )


def take_notes(store: Store) -> list[Entry]:
    """Entries for attempts that this process ended itself, and for the deaths that it found."""
    notes, found = store.endings.notes, []
    while notes:
        found.append(entry_of(notes.popleft()))
    return found


class Groups:
    """Counts for one period by queue, by fingerprint and by client."""

    def __init__(self) -> None:
        self.queues: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.runs: dict[str, tuple[int, int]] = {}

    def count(self, entry: Entry, calls: int) -> None:
        """Count an attempt with which this many calls ended."""
        if calls:
            queue = entry.queue
            if queue not in self.queues:
                queue = _key(self.queues, queue)
            self.queues[queue] = self.queues.get(queue, 0) + calls
            client = entry.id.rpartition("-")[0]
            if client not in self.runs:
                client = _key(self.runs, client)
            ended, failed = self.runs.get(client, (0, 0))
            self.runs[client] = ended + calls, failed + entry.failed
        if entry.failed and entry.fp:
            group = _key(self.failures, entry.fp)
            self.failures[group] = self.failures.get(group, 0) + entry.failed


def _key(known: Mapping[str, object], name: str) -> str:
    """The name to count under: its own, or a collective one if there are too many names."""
    name = name[:LONGEST_NAME]
    return name if name in known or len(known) < MOST_TASKS else OTHERS
