"""Lists workers for operators: their records, heartbeats and claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.admin.snapshot import RunningCall, WorkerInfo
from fsqueue.spool.features.body_reports import read_progress, reporting_attempts
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.format.records import WorkerRecord
from fsqueue.spool.format.resources import NONE, in_words, needs_of
from fsqueue.spool.worker.liveness import Observer

if TYPE_CHECKING:
    from fsqueue.spool.admin.snapshot import Life
    from fsqueue.spool.store.store import Store

# A worker is shown as silent after this many missed heartbeats.
_MISSED_BEATS = 3
# The most claims of a worker to list individually.
_MOST_CLAIMS = 1_000
# How many claims to check each time, if there are too many workers to check all at once.
_CLAIMS_EACH = 4
_ALL = 1 << 30


class WorkerRows:
    """Checks the workers of a spool: all of them, or some of them each time, in turn.

    Args:
        heartbeat: seconds between heartbeats of a worker.
        most: the most workers to check each time.
    """

    def __init__(self, store: Store, heartbeat: float, most: int = _ALL) -> None:
        self._store, self._heartbeat, self._most = store, heartbeat, most
        self._observer = Observer(store, heartbeat=heartbeat, lease=0.0)
        self._rows: dict[str, WorkerInfo | None] = {}
        self._claimed: dict[str, float] = {}

    def look(self) -> tuple[WorkerInfo, ...]:
        """The workers that have any file in the spool, sorted by name."""
        store = self._store
        self._observer.discover(most=self._most)
        records, dead = self._observer.records, self._observer.dead_here()
        asked = set(store.fs.names(store.layout.locks_folder, fresh=True))
        # Least recently checked first.
        rows = {name: row for name, row in self._rows.items() if name in records}
        turn = [*(name for name in sorted(records) if name not in rows), *rows][: self._most]
        reports: dict[str, AttemptName] | None = None
        for name in turn:
            rows.pop(name, None)
            names = self._claims(name)
            if names and reports is None:
                reports = reporting_attempts(store.files)
            rows[name] = self._row(name, records[name], names, reports or {}, asked)
        self._rows = rows
        self._forget_claims()
        found = []
        for name in sorted(records):
            if name not in rows:
                found.append(_unseen(name))
            elif (row := rows[name]) is not None:
                found.append(_replace(row, "dead") if name in dead else row)
        return tuple(found)

    def _claims(self, worker: str) -> list[AttemptName]:
        folder = self._store.layout.running(worker)
        names = map(AttemptName.parse, self._store.files.listed(folder, fresh=True))
        return [name for name in names if name is not None]

    def _row(
        self,
        name: str,
        record: WorkerRecord | None,
        claims: list[AttemptName],
        reports: dict[str, AttemptName],
        asked: set[str],
    ) -> WorkerInfo | None:
        store, now = self._store, self._store.clock.now()
        beat = _age(store, store.layout.worker_beat(name))
        if record is None and beat is None and not claims:
            return None  # it exited after its name was listed
        state: Life = "alive" if (beat or 0.0) <= _MISSED_BEATS * self._heartbeat else "silent"
        known = record or _unknown(name)
        return WorkerInfo(
            name=name,
            state=state,
            host=known.host,
            pid=known.pid,
            runner=known.runner,
            queues=known.queues,
            slots=known.concurrency,
            resources=in_words(needs_of(known.resources) or NONE),
            age=None if record is None else max(0.0, now - record.started),
            beat=beat,
            draining=store.layout.drain(name).rpartition("/")[2] in asked,
            running=self._running(name, claims, reports),
            held=len(claims),
            as_of=now,
            batch=known.batch,
            left=_left(known, now),
        )

    def _running(
        self, worker: str, claims: list[AttemptName], reports: dict[str, AttemptName]
    ) -> tuple[RunningCall, ...]:
        bounded = self._most < _ALL
        looked = 0
        calls = []
        for name in claims:
            path = f"{self._store.layout.running(worker)}/{name}"
            if path not in self._claimed and not (bounded and looked >= _CLAIMS_EACH):
                looked += 1
                try:
                    # The claim's rename sets the status change time (ctime).
                    changed = self._store.fs.status(path, follow=False).st_ctime
                except OSError:
                    continue  # it has ended
                self._claimed[path] = changed
            calls.append(self._call(name, path, reports))
        unknown = float("-inf")
        calls.sort(key=lambda call: unknown if call.seconds is None else call.seconds, reverse=True)
        return tuple(calls[:_MOST_CLAIMS])

    def _call(self, name: AttemptName, path: str, reports: dict[str, AttemptName]) -> RunningCall:
        since = self._claimed.get(path)
        reported = name.invocation_id in reports and since is not None
        return RunningCall(
            id=name.invocation_id,
            attempt=name.attempt,
            seconds=None if since is None else max(0.0, self._store.clock.now() - since),
            progress=read_progress(self._store.files, name) if reported else None,
        )

    def _forget_claims(self) -> None:
        held = {
            f"{self._store.layout.running(row.name)}/{call.id}"
            for row in self._rows.values()
            if row is not None
            for call in row.running
        }
        self._claimed = {
            path: at for path, at in self._claimed.items() if path.rpartition(".")[0] in held
        }


def list_workers(store: Store, *, heartbeat: float) -> tuple[WorkerInfo, ...]:
    """All workers that have any file in the spool, by name. Reads the file server's clock.

    Args:
        heartbeat: seconds between heartbeats of a worker.
    """
    store.files.sync_clock()
    return WorkerRows(store, heartbeat).look()


def _replace(row: WorkerInfo, state: Life) -> WorkerInfo:
    return msgspec.structs.replace(row, state=state)


def _left(record: WorkerRecord, now: float) -> float | None:
    until = 0.0 if record.batch is None else record.batch.until
    return max(0.0, until - now) if until else None


def _unknown(name: str) -> WorkerRecord:
    return WorkerRecord(
        name=name,
        host="?",
        boot="",
        pid=0,
        start="",
        queues=(),
        runner="?",
        concurrency=0,
        started=0.0,
    )


def _unseen(name: str) -> WorkerInfo:
    return WorkerInfo(
        name=name,
        state="unseen",
        host="?",
        pid=0,
        runner="?",
        queues=(),
        slots=0,
        age=None,
        beat=None,
        draining=False,
        running=(),
    )


def _age(store: Store, path: str) -> float | None:
    try:
        return max(0.0, store.clock.now() - store.fs.modified(path))
    except (OSError, EnvelopeError):
        return None
