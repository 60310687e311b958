"""``fsqueue workers``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.command import subcommand
from fsqueue.cli.options import app_option, json_option, root_option
from fsqueue.cli.output import console, print_json
from fsqueue.cli.overview import alive, workers_table
from fsqueue.cli.statistics import RECENT
from fsqueue.cli.target import open_target

if TYPE_CHECKING:
    from pathlib import Path


@subcommand("workers", "workers", "workers --json")
@app_option
@root_option
@json_option
def command(app: str | None, root: Path | None, as_json: bool) -> None:
    """List the workers, with the calls that they run.

    A worker is silent when its last heartbeats are missing. It is dead when its process on this
    host is gone. Other workers then return its calls to their queues.
    """
    from fsqueue.spool.admin.snapshot import list_workers
    from fsqueue.spool.history.statistics import read_stats

    with open_target(app, root) as target:
        found = list_workers(target.store, heartbeat=target.app.conf.heartbeat)
        if as_json:
            print_json({"workers": found})
            return
        recent = read_stats(target.store, RECENT, alive(found))
        console().print(workers_table(found, recent) if found else "no workers")
