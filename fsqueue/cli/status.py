"""``fsqueue status``, ``top`` and ``workers``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from fsqueue.cli.output import console, duration, print_json, printable, table
from fsqueue.cli.target import AppOption, JsonOption, RootOption, env, opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from fsqueue.spool.census import Census, QueueSight, RunningCall, WorkerSight

# Of a worker's calls so many are named in a table.
_FEW = 3
_LONGEST_PROGRESS = 60


def status(
    app: AppOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the queues, the workers, and what has ended.

    Lists every folder of the spool once.
    """
    from fsqueue.spool.census import take_census

    with opened(app, root) as target:
        census = take_census(target.store, heartbeat=target.app.conf.heartbeat)
        if as_json:
            print_json(census)
            return
        for part in _status_parts(census):
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
    """Show the status again and again, until Ctrl-C."""
    from rich.console import Group
    from rich.live import Live

    from fsqueue.spool.census import take_census

    with opened(app, root) as target:
        store, heartbeat = target.store, target.app.conf.heartbeat

        def frame() -> Group:
            return Group(*_status_parts(take_census(store, heartbeat=heartbeat)))

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

    with opened(app, root) as target:
        found = look_at_workers(target.store, heartbeat=target.app.conf.heartbeat)
        if as_json:
            print_json({"workers": found})
            return
        console().print(_workers_table(found) if found else "no workers")


# -- text -----------------------------------------------------------------------------------


def _status_parts(census: Census) -> Iterator[RenderableType]:
    counts = census.counts
    yield f"{printable(census.root)}\n"
    yield _queues_table(census.queues) if census.queues else "no queues"
    yield ""
    yield _workers_table(census.workers) if census.workers else "no workers"
    yield ""
    yield (
        f"results: {counts.waiting} not collected, {counts.kept} kept; failed calls: "
        f"{counts.failed}; in quarantine: {counts.quarantined}; clients: {counts.clients}"
    )


def _queues_table(queues: Sequence[QueueSight]) -> RenderableType:
    heads = ("QUEUE", "DUE", "OLDEST", "DELAYED", "NEXT", "WORKERS", "STATE")
    return table(
        heads,
        [
            (
                queue.name,
                queue.due,
                duration(queue.oldest),
                queue.delayed,
                duration(queue.next_due),
                queue.workers,
                _state_of_queue(queue),
            )
            for queue in queues
        ],
    )


def _state_of_queue(queue: QueueSight) -> str:
    if queue.paused:
        return "paused"
    waits = queue.due or queue.delayed
    return "nobody works" if waits and not queue.workers else "open"


def _workers_table(workers: Sequence[WorkerSight]) -> RenderableType:
    heads = ("WORKER", "STATE", "BEAT", "AGE", "RUNNER", "RUNNING", "QUEUES", "CALLS")
    return table(
        heads,
        [
            (
                worker.name,
                f"{worker.state}, draining" if worker.draining else worker.state,
                duration(worker.beat),
                duration(worker.age),
                worker.runner,
                f"{len(worker.running)}/{worker.slots}",
                ",".join(worker.queues),
                _calls_of(worker),
            )
            for worker in workers
        ],
    )


def _calls_of(worker: WorkerSight) -> str:
    calls = [
        f"{call.id} ({', '.join([duration(call.seconds), *_progress(call)])})"
        for call in worker.running[:_FEW]
    ]
    more = len(worker.running) - _FEW
    return ", ".join([*calls, *([f"and {more} more"] if more > 0 else [])])


def _progress(call: RunningCall) -> list[str]:
    return [] if call.progress is None else [str(call.progress)[:_LONGEST_PROGRESS]]
