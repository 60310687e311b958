"""Snapshots of a spool for operators: queues, workers, and the number of files in each place.

A snapshot is taken while other processes move files, so its numbers may not be consistent. Its cost
grows with the number of files, because every folder is listed once.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.features.body_reports import Progress, read_progress, reporting_attempts
from fsqueue.spool.files import whereabouts
from fsqueue.spool.fleets.coverage import ClosedFleet, closed_fleets, fleets_that_take
from fsqueue.spool.format.layout import Layout
from fsqueue.spool.format.names import PAUSED, AttemptName, Slot, is_queue_name, split_profile
from fsqueue.spool.format.records import BatchJob, WorkerRecord
from fsqueue.spool.format.resources import NONE, amounts, in_words, needs_of, takes, with_time
from fsqueue.spool.worker.liveness import Observer

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

# A worker is shown as silent after this many missed beats.
_MISSED_BEATS = 3
_REASON = ".reason"

Life = Literal["alive", "silent", "dead"]


class QueueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One queue. Times are in seconds from now."""

    name: str
    """The name of its folder, which includes the profile of the calls' needs."""
    need: str = ""
    """The resources that the calls need."""
    due: int
    """Calls that may start now."""
    delayed: int
    """Calls that may start later."""
    oldest: float | None
    """How long the oldest due call has been waiting, accurate to about a second."""
    next_due: float | None
    """When the next delayed call is due."""
    waiting: int = 0
    """Calls that wait for a concurrency limit."""
    paused: bool
    workers: int
    """Living workers that serve it."""
    fleets: tuple[str, ...] = ()
    """If none does: fleets whose jobs could."""


class RunningCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that a worker holds."""

    id: str
    attempt: int
    seconds: float
    """Since it was claimed."""
    progress: Progress | None = None
    """The progress that its body has reported."""


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One worker."""

    name: str
    state: Life
    """Silent: it has missed its last beats. Dead: its process was on this host and is gone."""
    host: str
    pid: int
    runner: str
    queues: tuple[str, ...]
    slots: int
    resources: str = ""
    """The resources that it offers."""
    age: float | None
    """Seconds since it registered; None if its record is missing."""
    beat: float | None
    """Seconds since its last beat."""
    draining: bool
    running: tuple[RunningCall, ...]
    batch: BatchJob | None = None
    """Its batch job."""
    left: float | None = None
    """Seconds until it leaves at the latest; None if that is unknown, or never."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """The number of files in each place."""

    parked: int
    """Calls of all queues that wait for the results of others."""
    waiting: int
    """Outcomes that their clients have not collected."""
    kept: int
    """Outcomes that were collected and can still be read."""
    failed: int
    """Failed calls that can be retried."""
    quarantined: int
    clients: int
    """Processes that make calls, counted by their locks."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a whole spool."""

    root: str
    spool: str
    time: float
    """When it was taken, by the file server's clock."""
    queues: tuple[QueueInfo, ...]
    workers: tuple[WorkerInfo, ...]
    counts: Counts
    closed_fleets: tuple[ClosedFleet, ...] = ()
    """Those that were paused or stopped, with the reasons."""


def has_spool(root: str) -> bool:
    """Whether there is a spool at `root`; nothing is created."""
    try:
        return Filesystem().exists(Layout(root).info)
    except NotADirectoryError:
        return False


def take_snapshot(store: Store, *, heartbeat: float, counts: Counts | None = None) -> Snapshot:
    """Take a snapshot of the spool.

    Args:
        store: the spool.
        heartbeat: seconds between two beats of a worker.
        counts: counts of an earlier snapshot to use again, because counting very many results takes
            long; None counts.
    """
    store.files.sync_clock()
    workers = list_workers(store, heartbeat=heartbeat)
    waiting = _waiting(store)
    return Snapshot(
        root=store.layout.root,
        spool=store.files.info.id,
        time=store.clock.now(),
        queues=tuple(_queue(store, name, workers, waiting[name]) for name in queue_names(store)),
        workers=workers,
        counts=counts or _counts(store),
        closed_fleets=tuple(closed_fleets(store.files)),
    )


def queue_names(store: Store) -> list[str]:
    """Sorted folder names of the queues; each profile of a queue has its own folder."""
    names = store.fs.names(store.layout.pending_folder, fresh=True)
    return sorted(name for name in names if is_queue_name(name))


def _waiting(store: Store) -> Counter[str]:
    """How many calls of each queue wait for a concurrency limit."""
    found: Counter[str] = Counter()
    for each in whereabouts.waiting_for_limits(store.files):
        found[each.queue] += len(store.files.listed(each.path))
    return found


def _queue(store: Store, name: str, workers: tuple[WorkerInfo, ...], waiting: int) -> QueueInfo:
    layout, now = store.layout, store.clock.now()
    names = store.files.listed(layout.queue(name), fresh=True)
    due = delayed = 0
    first_due = next_due = float("inf")
    for text in names:
        slot = Slot.parse(text)
        count = 0 if slot is None else len(store.files.listed(layout.slot(name, text), fresh=True))
        if slot is None or not count:
            continue
        if slot.due <= now:
            due, first_due = due + count, min(first_due, slot.due)
        else:
            delayed, next_due = delayed + count, min(next_due, slot.due)
    queue, profile = split_profile(name)
    serving = sum(
        takes(worker.queues, with_time(amounts(worker.resources), worker.left), name)
        for worker in workers
        if worker.state == "alive"
    )
    paused = PAUSED in (store.files.listed(layout.queue(queue), fresh=True) if profile else names)
    return QueueInfo(
        name=name,
        need=in_words(needs_of(profile) or NONE),
        due=due,
        delayed=delayed,
        oldest=now - first_due if due else None,
        next_due=next_due - now if delayed else None,
        waiting=waiting,
        paused=paused,
        workers=serving,
        fleets=() if serving else tuple(fleets_that_take(store.files, name)),
    )


def _counts(store: Store) -> Counts:
    fs, layout = store.fs, store.layout

    def in_mailboxes(folder: str) -> int:
        return sum(len(store.files.listed(f"{folder}/{client}")) for client in fs.names(folder))

    quarantined = fs.names(layout.quarantine_folder, fresh=True)
    dependent = whereabouts.waiting_for_calls(store.files)
    return Counts(
        parked=sum(len(store.files.listed(folder, fresh=True)) for _, folder in dependent),
        waiting=in_mailboxes(layout.done_folder),
        kept=in_mailboxes(layout.kept_folder),
        failed=len(fs.names(layout.failed_folder, fresh=True)),
        quarantined=sum(not name.endswith(_REASON) for name in quarantined),
        clients=len(fs.names(layout.clients_folder, fresh=True)),
    )


# -- workers ----------------------------------------------------------------------------


def list_workers(store: Store, *, heartbeat: float) -> tuple[WorkerInfo, ...]:
    """The workers that have any file in the spool, sorted by name. Reads the file server's clock.

    Args:
        store: the spool.
        heartbeat: seconds between two beats of a worker.
    """
    store.files.sync_clock()
    observer = Observer(store, heartbeat=heartbeat, lease=0.0)
    observer.discover()
    dead = observer.dead_here()
    asked = set(store.fs.names(store.layout.locks_folder, fresh=True))
    found = []
    for name, record in sorted(observer.records.items()):
        beat = _age(store, store.layout.worker_beat(name))
        if record is None and beat is None and not _holds_anything(store, name):
            continue  # it left after its name was listed
        state: Life = "alive" if (beat or 0.0) <= _MISSED_BEATS * heartbeat else "silent"
        known = record or _unknown(name)
        found.append(
            WorkerInfo(
                name=name,
                state="dead" if name in dead else state,
                host=known.host,
                pid=known.pid,
                runner=known.runner,
                queues=known.queues,
                slots=known.concurrency,
                resources=in_words(needs_of(known.resources) or NONE),
                age=None if record is None else max(0.0, store.clock.now() - record.started),
                beat=beat,
                draining=store.layout.drain(name).rpartition("/")[2] in asked,
                running=running_calls(store, name),
                batch=known.batch,
                left=_left(known, store.clock.now()),
            )
        )
    return tuple(found)


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


def _holds_anything(store: Store, worker: str) -> bool:
    return bool(store.files.listed(store.layout.running(worker), fresh=True))


def running_calls(store: Store, worker: str) -> tuple[RunningCall, ...]:
    """The calls in a worker's folder, the oldest claim first."""
    folder = store.layout.running(worker)
    names = store.files.listed(folder, fresh=True)
    reporting = reporting_attempts(store.files) if names else {}
    calls = []
    for text in names:
        name = AttemptName.parse(text)
        seconds = claimed_for(store, f"{folder}/{text}")
        if name is None or seconds is None:
            continue
        calls.append(
            RunningCall(
                id=name.invocation_id,
                attempt=name.attempt,
                seconds=seconds,
                progress=read_progress(store.files, name)
                if name.invocation_id in reporting
                else None,
            )
        )
    return tuple(sorted(calls, key=lambda call: -call.seconds))


def claimed_for(store: Store, path: str) -> float | None:
    """Seconds since an attempt was claimed; None if it is gone or cannot be read.

    This is the time since its last status change (ctime), which the claim's rename sets.
    """
    try:
        changed = store.fs.status(path, follow=False).st_ctime
    except OSError:
        return None
    return max(0.0, store.clock.now() - changed)


def _age(store: Store, path: str) -> float | None:
    try:
        return max(0.0, store.clock.now() - store.fs.modified(path))
    except (OSError, EnvelopeError):
        return None
