"""``fsqueue status``, ``top`` and ``workers``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from fsqueue.cli.output import console, duration, print_json, printable, queue_in_words, table
from fsqueue.cli.stats import RECENT, busy, summary, tasks_table
from fsqueue.cli.target import AppOption, JsonOption, RootOption, env, opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from fsqueue.spool.census import Census, Counts, QueueSight, RunningCall, WorkerSight
    from fsqueue.spool.history import Stats
    from fsqueue.spool.journal import TaskSums
    from fsqueue.spool.store import Store

# Of a worker's calls so many are named in a table.
_FEW = 3
_LONGEST_PROGRESS = 60
# Of the tasks, `top` shows so many.
_TASKS = 12
# In seconds: how old the numbers of results may be that `top` shows.
_COUNT_EVERY = 30.0


def status(
    app: AppOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the queues, the workers, and what has ended in the last five minutes.

    Lists every folder of the spool once.
    """
    with opened(app, root) as target:
        view = View(target.store, target.app.conf.heartbeat)
        census, recent = view.look()
        if as_json:
            import msgspec

            print_json({**msgspec.structs.asdict(census), "recent": recent})
            return
        for part in status_parts(census, recent):
            console().print(part)


def top(
    app: AppOption = None,
    root: RootOption = None,
    interval: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="SECONDS", envvar=env("top-interval"), help="Pause between two looks."
        ),
    ] = 2.0,
) -> None:
    """Show the status and the busiest tasks again and again, until Ctrl-C.

    Results are counted every half minute, as there may be very many.
    """
    from rich.console import Group
    from rich.live import Live

    with opened(app, root) as target:
        view = View(target.store, target.app.conf.heartbeat)

        def frame() -> Group:
            return Group(*top_parts(*view.look()))

        try:
            screen = sys.stdout.isatty()
            with Live(frame(), console=console(), auto_refresh=False, screen=screen) as live:
                while True:
                    time.sleep(interval)
                    live.update(frame(), refresh=True)
        except KeyboardInterrupt:
            return


def workers(
    app: AppOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the workers with what they run.

    A worker is silent when its last beats are missing, and dead when its process on this host is
    gone; other workers then give its calls back.
    """
    from fsqueue.spool.census import look_at_workers
    from fsqueue.spool.history import read_stats

    with opened(app, root) as target:
        found = look_at_workers(target.store, heartbeat=target.app.conf.heartbeat)
        if as_json:
            print_json({"workers": found})
            return
        recent = read_stats(target.store, RECENT, _alive(found))
        console().print(_workers_table(found, recent) if found else "no workers")


class View:
    """Looks again and again; what is costly, less often.

    Args:
        store: the spool.
        heartbeat: seconds between two beats of a worker.
    """

    def __init__(self, store: Store, heartbeat: float) -> None:
        from fsqueue.spool.history import History

        self._store, self._heartbeat = store, heartbeat
        self._history = History(store, RECENT)
        self._counts: Counts | None = None
        self._counted = 0.0

    @property
    def totals(self) -> Mapping[str, TaskSums]:
        """What has ended, by task, in all that was looked at."""
        return self._history.totals

    def look(self) -> tuple[Census, Stats]:
        """What is there now, and what has ended lately."""
        from fsqueue.spool.census import take_census

        now = time.monotonic()
        if now - self._counted > _COUNT_EVERY:
            self._counts, self._counted = None, now
        census = take_census(self._store, heartbeat=self._heartbeat, counts=self._counts)
        self._counts = census.counts
        self._history.update()
        return census, self._history.stats(_alive(census.workers))


def _alive(workers: Sequence[WorkerSight]) -> set[str]:
    return {worker.name for worker in workers if worker.state == "alive"}


# -- text -----------------------------------------------------------------------------------


def top_parts(census: Census, recent: Stats) -> Iterator[RenderableType]:
    """What `top` shows."""
    yield from status_parts(census, recent)
    if recent.tasks:
        yield ""
        yield tasks_table(recent, _TASKS)


def status_parts(census: Census, recent: Stats) -> Iterator[RenderableType]:
    counts = census.counts
    yield f"{printable(census.root)}\n"
    yield _queues_table(census.queues) if census.queues else "no queues"
    yield ""
    yield _workers_table(census.workers, recent) if census.workers else "no workers"
    yield ""
    yield summary(recent)
    yield (
        f"results: {counts.waiting} not collected, {counts.kept} kept; failed calls: "
        f"{counts.failed}; in quarantine: {counts.quarantined}; clients: {counts.clients}"
        + (f"; calls that wait for others: {counts.parked}" if counts.parked else "")
    )


def _queues_table(queues: Sequence[QueueSight]) -> RenderableType:
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


def _state_of_queue(queue: QueueSight) -> str:
    if queue.paused:
        return "paused"
    waits = queue.due or queue.delayed or queue.waiting
    return "nobody works" if waits and not queue.workers else "open"


def _workers_table(workers: Sequence[WorkerSight], recent: Stats) -> RenderableType:
    heads = ("WORKER", "STATE", "BEAT", "AGE", "RUNNER", "RUNNING", "BUSY", "QUEUES", "CALLS")
    shares = {each.worker: each.busy for each in recent.workers}
    rows = [
        (
            worker.name,
            f"{worker.state}, draining" if worker.draining else worker.state,
            duration(worker.beat),
            duration(worker.age),
            worker.runner,
            f"{len(worker.running)}/{worker.slots}",
            busy(shares.get(worker.name, 0.0)),
            ",".join(worker.queues) + f" ({worker.resources})" * bool(worker.resources),
            _calls_of(worker),
        )
        for worker in workers
    ]
    return table(heads, rows)


def _calls_of(worker: WorkerSight) -> str:
    calls = [
        f"{call.id} ({', '.join([duration(call.seconds), *_progress(call)])})"
        for call in worker.running[:_FEW]
    ]
    more = len(worker.running) - _FEW
    return ", ".join([*calls, *([f"and {more} more"] if more > 0 else [])])


def _progress(call: RunningCall) -> list[str]:
    return [] if call.progress is None else [str(call.progress)[:_LONGEST_PROGRESS]]
