"""``fsqueue stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.command import option, subcommand
from fsqueue.cli.options import json_option, on_target, seconds
from fsqueue.cli.output import console, print_json, table
from fsqueue.cli.overview import tasks_table
from fsqueue.cli.statistics import busy, share, summary
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fsqueue.cli.finding.target import Target
    from fsqueue.spool.history.statistics import Stats


@subcommand("stats", "stats --window 2h")
@on_target
@option(
    "--window",
    type=seconds(),
    default="1h",
    metavar="DURATION",
    help="How far to look back: 90, 15m, 2h, 7d.",
)
@json_option
def command(target: Target, window: float, as_json: bool) -> None:
    """Show failure rates, run times, and how busy workers were.

    By task and by worker, with the time that calls had to wait. A worker's run time is shown as a
    multiple of that of the same tasks on all workers, once it has run ten calls: 2x is slow.

    The figures come from the workers' journals. The last few seconds of a worker may be missing, or
    the last ten seconds of a worker that was killed.
    """
    from fsqueue.spool.admin.worker_rows import list_workers
    from fsqueue.spool.history.statistics import read_stats

    if not window:
        raise ConfigError("--window: expected more than 0 seconds")
    store = target.look()
    workers = list_workers(store, heartbeat=target.app.conf.heartbeat)
    alive = {worker.name for worker in workers if worker.is_alive}
    found = read_stats(store, window, alive)
    if as_json:
        print_json(found)
        return
    for part in (summary(found), "", tasks_table(found), "", _workers_table(found)):
        console().print(part)


def _workers_table(found: Stats) -> RenderableType:
    rows = [
        (
            worker.worker,
            "alive" if worker.alive else "left" if worker.left else "died",
            worker.slots,
            busy(worker.busy),
            worker.calls,
            f"{worker.failed}{share(worker.failed, worker.calls)}",
            "-" if worker.pace is None else f"{worker.pace:.2f}x",
        )
        for worker in found.workers
    ]
    heads = ("WORKER", "STATE", "SLOTS", "BUSY", "CALLS", "FAILED", "RUN TIME")
    return table(heads, rows) if rows else ""
