"""Columns of the tables of queues, workers and tasks, for all commands and for the screen of `top`.

A column defines the cell of a row, how rows are sorted by it, and how early a narrow screen drops
it. A printed table has all columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fsqueue.cli.statistics import busy, percentiles, share
from fsqueue.common.printable import duration
from fsqueue.spool.format.resources import queue_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fsqueue.spool.admin.snapshot import QueueInfo, RunningCall, WorkerInfo
    from fsqueue.spool.history.statistics import Stats, TaskStats

OLD: Final = 2.0
"""Figures older than this many seconds show their age."""
# A cell lists at most this many of a worker's calls.
_FEW = 3
_LONGEST_PROGRESS = 60
_LONGEST_LABEL = 80
NEVER: Final = 9


class Column(NamedTuple):
    """A column of a table of things of one kind."""

    head: str
    cell: Callable[[Any], object]
    key: Callable[[Any], Any] | None = None
    """The key to sort by, if it is not the cell."""
    rank: int = 0
    """A narrow screen drops columns with higher ranks first. 0 stays; `NEVER` is never shown."""
    style: Callable[[Any], str] = lambda _row: ""
    """The style of a cell, which only repeats what its text says."""


def rows_of(columns: Iterable[Column], things: Iterable[object]) -> list[tuple[object, ...]]:
    """The cells of a table."""
    columns = tuple(columns)
    return [tuple(column.cell(thing) for column in columns) for thing in things]


# -- queues -----------------------------------------------------------------------------------


def _number(name: str) -> Callable[[QueueInfo], object]:
    def cell(queue: QueueInfo) -> object:
        number: int = getattr(queue, name)
        return number if queue.exact else f"~{number}"

    return cell


def _due(queue: QueueInfo) -> int:
    return queue.due


def _delayed(queue: QueueInfo) -> int:
    return queue.delayed


def state_of_queue(queue: QueueInfo) -> str:
    """Whether the calls of a queue can start."""
    if queue.paused:
        return "paused"
    if queue.workers or not calls_in(queue):
        return "open"
    return f"for a job of {', '.join(queue.fleets)}" if queue.fleets else "not served"


def calls_in(queue: QueueInfo) -> int:
    """The number of calls in a queue, whatever they wait for."""
    return queue.due + queue.delayed + queue.waiting


def _style_of_queue(queue: QueueInfo) -> str:
    state = state_of_queue(queue)
    return "warn" if state == "paused" else "bad" if state == "not served" else ""


QUEUES: Final = (
    Column("QUEUE", lambda queue: queue_in_words(queue.name)),
    Column("DUE", _number("due"), _due),
    Column("OLDEST", lambda queue: duration(queue.oldest), lambda queue: queue.oldest or 0.0),
    Column("DELAYED", _number("delayed"), _delayed, 2),
    Column("NEXT", lambda queue: duration(queue.next_due), lambda q: q.next_due or 0.0, 3),
    Column("WAITING", lambda queue: queue.waiting, rank=1),
    Column("WORKERS", lambda queue: queue.workers),
    Column("STATE", state_of_queue, style=_style_of_queue),
)


# -- workers ----------------------------------------------------------------------------------


def _state(worker: WorkerInfo) -> str:
    return f"{worker.state}, draining" if worker.draining else worker.state


def _style_of_worker(worker: WorkerInfo) -> str:
    return {"dead": "bad", "silent": "warn"}.get(worker.state, "warn" * worker.draining)


def worker_columns(
    workers: Sequence[WorkerInfo], recent: Stats, now: float | None = None
) -> tuple[Column, ...]:
    """The columns of a table of workers.

    It has a column for batch jobs only if there are any. If the state of a worker is old, because
    there are too many to check all at once, a column shows the age of each state.

    Args:
        workers: the workers in the table.
        recent: statistics, for how busy they were.
        now: the time of the table, by the file server's clock; None: the time of the latest check.
    """
    time = max((each.as_of for each in workers), default=0.0) if now is None else now
    shares = {each.worker: each.busy for each in recent.workers}

    def seen(worker: WorkerInfo) -> float:
        return time - worker.as_of

    def share(worker: WorkerInfo) -> float | None:
        return shares.get(worker.name, 0.0)

    in_turn = Column("SEEN", lambda each: f"{duration(seen(each))} ago", seen, 1)
    in_jobs = (
        Column("JOB", _job_of, rank=3),
        Column("LEFT", lambda each: duration(each.left), _or_zero("left"), 2),
    )
    return (
        Column("WORKER", lambda each: each.name),
        Column("STATE", _state, style=_style_of_worker),
        *([in_turn] if any(seen(each) > OLD for each in workers) else []),
        Column("BEAT", lambda each: duration(each.beat), _or_zero("beat"), NEVER),
        Column("AGE", lambda each: duration(each.age), _or_zero("age"), NEVER),
        *(in_jobs if any(each.batch is not None for each in workers) else ()),
        Column("RUNNER", lambda each: each.runner, rank=5),
        Column("RUNNING", lambda each: f"{each.held}/{each.slots}", lambda each: each.held),
        Column("BUSY", lambda each: busy(share(each)), lambda each: share(each) or 0.0),
        Column("QUEUES", _queues_of, rank=4),
        Column("CALLS", _calls_of, _longest, 1),
    )


def _or_zero(name: str) -> Callable[[object], float]:
    return lambda thing: getattr(thing, name) or 0.0


def _queues_of(worker: WorkerInfo) -> str:
    return ",".join(worker.queues) + f" ({worker.resources})" * bool(worker.resources)


def _job_of(worker: WorkerInfo) -> str:
    batch = worker.batch
    if batch is None or not batch.job:
        return "-"
    fleet = f"{batch.fleet}:" if batch.fleet else ""
    return f"{fleet}{batch.job}" + f" (restart {batch.restart})" * bool(batch.restart)


def _longest(worker: WorkerInfo) -> float:
    return max((call.seconds or 0.0 for call in worker.running), default=0.0)


def _calls_of(worker: WorkerInfo) -> str:
    calls = [
        f"{call.id} ({', '.join([duration(call.seconds), *progress(call)])})"
        for call in worker.running[:_FEW]
    ]
    more = worker.held - _FEW
    return ", ".join([*calls, *([f"and {more} more"] if more > 0 else [])])


def progress(call: RunningCall) -> list[str]:
    """The progress that a body has reported, if it has."""
    return [] if call.progress is None else [str(call.progress)[:_LONGEST_PROGRESS]]


# -- tasks ------------------------------------------------------------------------------------


def task_columns(tasks: Iterable[TaskStats]) -> tuple[Column, ...]:
    """The columns of a table of tasks. Labels are there only if there are any."""
    labels = Column("LATEST FAILURE", lambda task: task.failed_label[:_LONGEST_LABEL], rank=1)
    return (
        Column("TASK", lambda task: task.task or "?"),
        Column("CALLS", lambda task: task.calls),
        Column("FAILED", _failed, lambda task: task.failed, style=_style_of_task),
        Column("RETRIED", lambda task: task.retried, rank=4),
        Column("LOST", lambda task: task.lost, rank=5),
        Column("WAIT 50/95/99%", lambda t: percentiles(t.wait), lambda t: t.wait.p50 or 0.0, 3),
        Column("RUN 50/95/99%", lambda t: percentiles(t.run), lambda t: t.run.p50 or 0.0, 2),
        *([labels] if any(task.failed_label for task in tasks) else []),
    )


def _failed(task: TaskStats) -> str:
    return f"{task.failed}{share(task.failed, task.calls)}"


def _style_of_task(task: TaskStats) -> str:
    return "bad" if task.failed else ""
