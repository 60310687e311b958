"""Overview of a spool, and its tables: for ``status``, ``top``, ``workers`` and ``metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.columns import (
    OLD,
    QUEUES,
    Column,
    calls_in,
    rows_of,
    task_columns,
    worker_columns,
)
from fsqueue.cli.output import table
from fsqueue.cli.statistics import summary
from fsqueue.common.printable import counted, duration, printable
from fsqueue.spool.format.resources import queue_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from fsqueue.cli.finding.target import Target
    from fsqueue.spool.admin.glance import Glance, Looks
    from fsqueue.spool.admin.snapshot import Counts, QueueInfo, WorkerInfo
    from fsqueue.spool.history.statistics import Stats

# Seconds from which the expected end of a backlog is shown.
_SOON = 10.0
# `top` prints at most this many tasks where there is no terminal.
_TASKS = 12


def looks(target: Target) -> Looks:
    """Looks at the spool of a command, for one look or many."""
    from fsqueue.spool.admin.glance import Looks

    conf = target.app.conf
    return Looks(target.look(), heartbeat=conf.heartbeat, result_ttl=conf.result_ttl)


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
    yield _printed(QUEUES, snapshot.queues) if snapshot.queues else "no queues"
    yield ""
    lines = [*uncovered(snapshot.queues), *_outlook(snapshot.queues, glance.recent)]
    yield from [*lines, ""] if lines else []
    yield from (printable(str(fleet)) for fleet in snapshot.closed_fleets)
    yield workers_table(snapshot.workers, glance.recent) if snapshot.workers else "no workers"
    yield ""
    yield summary(glance.recent)
    yield results(snapshot.counts)
    if glance.space:
        yield printable(glance.space)


def how_old(age: float) -> str:
    """A text for the age of figures; empty if they are current."""
    return f"  (counted {duration(age)} ago)" if age > OLD else ""


def results(counts: Counts) -> str:
    """A line with the numbers of files that calls have left."""

    def number(name: str) -> str:
        return f"{'~' * (name in counts.estimated)}{getattr(counts, name)}"

    return (
        f"results: {number('waiting')} not collected, {number('kept')} kept; failed calls: "
        f"{number('failed')}; in quarantine: {counts.quarantined}; clients: {counts.clients}"
        + (f"; calls that wait for other calls: {number('parked')}" if counts.parked else "")
    )


def uncovered(queues: Sequence[QueueInfo]) -> Iterator[str]:
    """A line for each queue whose calls need something that no worker or fleet has."""
    from fsqueue.spool.format.names import split_profile
    from fsqueue.spool.format.resources import demand_in_words, needs_of

    for each in queues:
        queue, profile = split_profile(each.name)
        if (needed := needs_of(profile)) and calls_in(each) and not (each.workers or each.fleets):
            calls = demand_in_words(calls_in(each), queue, needed)
            yield printable(f"{calls}; no worker or fleet has that")


def _outlook(queues: Sequence[QueueInfo], recent: Stats) -> Iterator[str]:
    """A line for each queue that takes a while: when its due calls will have ended."""
    for each in queues:
        rate = recent.per_second(recent.queues.get(each.name, 0))
        if rate and each.workers and not each.paused and each.due > _SOON * rate:
            calls = f"{'~' * (not each.exact)}{counted(each.due, 'due call')}"
            name = queue_in_words(each.name)
            text = f"{calls} of {name} will have ended in about {duration(each.due / rate)}"
            yield printable(f"{text}, at {rate:.3g}/s")


def workers_table(workers: Sequence[WorkerInfo], recent: Stats) -> RenderableType:
    """A table of the workers, with the calls that they run."""
    from rich.console import Group

    unseen = sum(worker.state == "unseen" for worker in workers)
    if unseen:
        seen = [worker for worker in workers if worker.state != "unseen"]
        more = f"and {counted(unseen, 'worker')} more: see fsqueue workers"
        return Group(workers_table(seen, recent), more)
    return _printed(worker_columns(workers, recent), workers)


def tasks_table(found: Stats, most: int | None = None) -> RenderableType:
    """A table of the tasks; with `most`, only those with the most calls, the busiest first."""
    tasks = found.tasks
    if most is not None:
        tasks = tuple(sorted(tasks, key=lambda task: -task.calls)[:most])
    return _printed(task_columns(tasks), tasks) if tasks else "no calls have ended"


def _printed(columns: Sequence[Column], things: Sequence[object]) -> RenderableType:
    return table([column.head for column in columns], rows_of(columns, things))
