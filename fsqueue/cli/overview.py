"""Overview of a spool, and its tables: for ``status``, ``top``, ``workers`` and ``metrics``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fsqueue.cli.output import table
from fsqueue.cli.statistics import RECENT, busy, summary, tasks_table
from fsqueue.common.printable import duration, printable
from fsqueue.spool.format.resources import queue_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from fsqueue.spool.admin.snapshot import Counts, QueueInfo, RunningCall, Snapshot, WorkerInfo
    from fsqueue.spool.history.journal import TaskSums
    from fsqueue.spool.history.statistics import Stats
    from fsqueue.spool.store.store import Store

# A table lists at most this many of a worker's calls.
_FEW = 3
_LONGEST_PROGRESS = 60
# `top` shows at most this many tasks.
_TASKS = 12
# Seconds between two counts of the results.
_COUNT_EVERY = 30.0


class Overview:
    """Snapshot and statistics of a spool, for repeated use. Results are counted less often.

    Args:
        store: the spool.
        heartbeat: seconds between two beats of a worker.
    """

    def __init__(self, store: Store, heartbeat: float) -> None:
        from fsqueue.spool.history.statistics import History

        self._store, self._heartbeat = store, heartbeat
        self._history = History(store, RECENT)
        self._counts: Counts | None = None
        self._counted = 0.0

    @property
    def totals(self) -> Mapping[str, TaskSums]:
        """Sums over all calls that have ended since the first refresh, by task."""
        return self._history.totals

    def refresh(self) -> tuple[Snapshot, Stats]:
        """Read the spool: a snapshot of now, and the statistics of the last minutes."""
        from fsqueue.spool.admin.snapshot import take_snapshot

        now = time.monotonic()
        if now - self._counted > _COUNT_EVERY:
            self._counts, self._counted = None, now
        snapshot = take_snapshot(self._store, heartbeat=self._heartbeat, counts=self._counts)
        self._counts = snapshot.counts
        self._history.update()
        return snapshot, self._history.stats(alive(snapshot.workers))


def alive(workers: Sequence[WorkerInfo]) -> set[str]:
    """Names of the workers that are alive."""
    return {worker.name for worker in workers if worker.state == "alive"}


# -- text -----------------------------------------------------------------------------------


def top_parts(snapshot: Snapshot, recent: Stats) -> Iterator[RenderableType]:
    """The parts of the screen that `top` shows."""
    yield from status_parts(snapshot, recent)
    if recent.tasks:
        yield ""
        yield tasks_table(recent, _TASKS)


def status_parts(snapshot: Snapshot, recent: Stats) -> Iterator[RenderableType]:
    """The parts of the page that `status` prints."""
    counts = snapshot.counts
    yield f"{printable(snapshot.root)}\n"
    yield _queues_table(snapshot.queues) if snapshot.queues else "no queues"
    yield ""
    yield from _uncovered(snapshot.queues)
    yield from (printable(str(fleet)) for fleet in snapshot.closed_fleets)
    yield workers_table(snapshot.workers, recent) if snapshot.workers else "no workers"
    yield ""
    yield summary(recent)
    yield (
        f"results: {counts.waiting} not collected, {counts.kept} kept; failed calls: "
        f"{counts.failed}; in quarantine: {counts.quarantined}; clients: {counts.clients}"
        + (f"; calls that wait for other calls: {counts.parked}" if counts.parked else "")
    )


def _queues_table(queues: Sequence[QueueInfo]) -> RenderableType:
    heads = ("QUEUE", "DUE", "OLDEST", "DELAYED", "NEXT", "WAITING", "WORKERS", "STATE")
    return table(
        heads,
        [
            (
                queue_in_words(queue.name),
                queue.due,
                duration(queue.oldest),
                queue.delayed,
                duration(queue.next_due),
                queue.waiting,
                queue.workers,
                _state_of_queue(queue),
            )
            for queue in queues
        ],
    )


def _state_of_queue(queue: QueueInfo) -> str:
    if queue.paused:
        return "paused"
    if queue.workers or not _calls(queue):
        return "open"
    return f"for a job of {', '.join(queue.fleets)}" if queue.fleets else "not served"


def _calls(queue: QueueInfo) -> int:
    return queue.due + queue.delayed + queue.waiting


def _uncovered(queues: Sequence[QueueInfo]) -> Iterator[RenderableType]:
    """A line for each queue whose calls need what no worker or fleet has."""
    from fsqueue.spool.format.names import split_profile
    from fsqueue.spool.format.resources import demand_in_words, needs_of

    lines = []
    for each in queues:
        queue, profile = split_profile(each.name)
        if (needed := needs_of(profile)) and _calls(each) and not (each.workers or each.fleets):
            calls = demand_in_words(_calls(each), queue, needed)
            lines.append(printable(f"{calls}; no worker or fleet has that"))
    yield from [*lines, ""] if lines else []


def workers_table(workers: Sequence[WorkerInfo], recent: Stats) -> RenderableType:
    """A table of the workers, with the calls that they run.

    It shows batch jobs only if there are any.
    """
    in_jobs = any(worker.batch is not None for worker in workers)
    heads = ("WORKER", "STATE", "BEAT", "AGE", *(("JOB", "LEFT") if in_jobs else ()))
    heads += ("RUNNER", "RUNNING", "BUSY", "QUEUES", "CALLS")
    shares = {each.worker: each.busy for each in recent.workers}
    rows = [
        (
            worker.name,
            f"{worker.state}, draining" if worker.draining else worker.state,
            duration(worker.beat),
            duration(worker.age),
            *((_job_of(worker), duration(worker.left)) if in_jobs else ()),
            worker.runner,
            f"{len(worker.running)}/{worker.slots}",
            busy(shares.get(worker.name, 0.0)),
            ",".join(worker.queues) + f" ({worker.resources})" * bool(worker.resources),
            _calls_of(worker),
        )
        for worker in workers
    ]
    return table(heads, rows)


def _job_of(worker: WorkerInfo) -> str:
    batch = worker.batch
    if batch is None or not batch.job:
        return "-"
    fleet = f"{batch.fleet}:" if batch.fleet else ""
    return f"{fleet}{batch.job}" + f" (restart {batch.restart})" * bool(batch.restart)


def _calls_of(worker: WorkerInfo) -> str:
    calls = [
        f"{call.id} ({', '.join([duration(call.seconds), *_progress(call)])})"
        for call in worker.running[:_FEW]
    ]
    more = len(worker.running) - _FEW
    return ", ".join([*calls, *([f"and {more} more"] if more > 0 else [])])


def _progress(call: RunningCall) -> list[str]:
    return [] if call.progress is None else [str(call.progress)[:_LONGEST_PROGRESS]]
