"""``fsqueue workers``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.command import subcommand
from fsqueue.cli.options import json_option, on_target
from fsqueue.cli.output import console, print_json
from fsqueue.cli.overview import looks, workers_table

if TYPE_CHECKING:
    from fsqueue.cli.finding.target import Target


@subcommand("workers", "workers", "workers --json")
@on_target
@json_option
def command(target: Target, as_json: bool) -> None:
    """List the workers, with the calls that they run.

    A worker is silent when its last heartbeats are missing. It is dead when its process on this
    host is gone. Other workers then return its calls to their queues. `fsqueue stats` also lists
    those that have left or died, and says which one is slow.
    """
    from fsqueue.spool.admin.worker_rows import list_workers

    looking = looks(target)
    recent = looking.look().recent
    found = list_workers(target.look(), heartbeat=target.app.conf.heartbeat)
    if as_json:
        print_json({"workers": found})
        return
    console().print(workers_table(found, recent) if found else "no workers")
