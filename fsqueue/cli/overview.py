"""Overview of a spool, and its tables: for ``status``, ``top``, ``workers`` and ``metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.output import counted, table
from fsqueue.cli.statistics import busy, summary, tasks_table
from fsqueue.common.printable import duration, printable
from fsqueue.spool.format.resources import queue_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from fsqueue.cli.finding.target import Target
    from fsqueue.spool.admin.glance import Glance, Looks
    from fsqueue.spool.admin.snapshot import Counts, QueueInfo, RunningCall, WorkerInfo
    from fsqueue.spool.history.statistics import Stats

# A table lists at most this many of a worker's calls.
_FEW = 3
_LONGEST_PROGRESS = 60
# `top` shows at most this many tasks.
_TASKS = 12
# Older figures show their age, in seconds.
_OLD = 2.0


def looks(target: Target) -> Looks:
    """Looks at the spool of a command, for one look or many."""
    from fsqueue.spool.admin.glance import Looks

    conf = target.app.conf
    return Looks(target.look(), heartbeat=conf.heartbeat, result_ttl=conf.result_ttl)


def as_document(glance: Glance, age: float) -> dict[str, object]:
    """A glance for ``--json``."""
    import msgspec

    return {
        **msgspec.structs.asdict(glance.snapshot),
        "recent": glance.recent,
        "counted_by": glance.worker,
        "age": age,
        "space": glance.space,
    }


# -- text -----------------------------------------------------------------------------------


def top_parts(glance: Glance, age: float) -> Iterator[RenderableType]:
    """The parts of the screen that `top` shows."""
    yield from status_parts(glance, age)
    if glance.recent.tasks:
        yield ""
        yield tasks_table(glance.recent, _TASKS)


def status_parts(glance: Glance, age: float) -> Iterator[RenderableType]:
    """The parts of the page that `status` prints.

    Args:
        glance: what was seen.
        age: seconds since then.
    """
    snapshot = glance.snapshot
    yield f"{printable(snapshot.root)}{how_old(age)}\n"
    yield _queues_table(snapshot.queues) if snapshot.queues else "no queues"
    yield ""
    yield from _uncovered(snapshot.queues)
    yield from (printable(str(fleet)) for fleet in snapshot.closed_fleets)
    yield workers_table(snapshot.workers, glance.recent) if snapshot.workers else "no workers"
    yield ""
    yield summary(glance.recent)
    yield _results(snapshot.counts)
    if glance.space:
        yield printable(glance.space)


def how_old(age: float) -> str:
    """A text for the age of figures; empty if they are of now."""
    return f"  (counted {duration(age)} ago)" if age > _OLD else ""


def _results(counts: Counts) -> str:
    def number(name: str) -> str:
        return f"{'~' * (name in counts.estimated)}{getattr(counts, name)}"

    return (
        f"results: {number('waiting')} not collected, {number('kept')} kept; failed calls: "
        f"{number('failed')}; in quarantine: {counts.quarantined}; clients: {counts.clients}"
        + (f"; calls that wait for other calls: {number('parked')}" if counts.parked else "")
    )


def _queues_table(queues: Sequence[QueueInfo]) -> RenderableType:
    heads = ("QUEUE", "DUE", "OLDEST", "DELAYED", "NEXT", "WAITING", "WORKERS", "STATE")
    return table(
        heads,
        [
            (
                queue_in_words(queue.name),
                queue.due if queue.exact else f"~{queue.due}",
                duration(queue.oldest),
                queue.delayed if queue.exact else f"~{queue.delayed}",
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
    from rich.console import Group

    unseen = sum(worker.state == "unseen" for worker in workers)
    if unseen:
        seen = [worker for worker in workers if worker.state != "unseen"]
        more = f"and {counted(unseen, 'worker')} more: see fsqueue workers"
        return Group(workers_table(seen, recent), more)
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
            f"{worker.held}/{worker.slots}",
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
    more = worker.held - _FEW
    return ", ".join([*calls, *([f"and {more} more"] if more > 0 else [])])


def _progress(call: RunningCall) -> list[str]:
    return [] if call.progress is None else [str(call.progress)[:_LONGEST_PROGRESS]]
