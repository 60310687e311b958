"""``fsqueue drain``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from fsqueue.cli import exits
from fsqueue.cli.command import argument, flag, subcommand
from fsqueue.cli.finding.target import NotFoundError, Target
from fsqueue.cli.options import json_option, on_target, timeout_option
from fsqueue.cli.output import print_error, print_json
from fsqueue.common.printable import counted
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

# Seconds between two checks whether the workers have left.
_PAUSE = 0.2


@subcommand("drain", "drain --all --wait --timeout 10m")
@argument(
    "worker", required=False, metavar="[WORKER]", help="The worker's name, as `workers` lists it."
)
@on_target
@flag("--all", "everyone", help="Drain all workers of the spool.")
@flag("--wait", "wait_for_it", help="Wait until they have left.")
@timeout_option()
@json_option
def command(
    target: Target,
    worker: str | None,
    everyone: bool,
    wait_for_it: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Ask workers, on any host, to finish and leave.

    A worker notices at its next heartbeat. It then stops as on SIGTERM: it starts no more calls,
    and waits for those that are running.
    """
    from fsqueue.spool.admin import controls

    if (worker is None) != everyone:
        raise ConfigError("which workers? Give a name, or --all")
    store = target.store
    names = _to_drain(store, target.app.conf.heartbeat, worker)
    asked = [name for name in names if controls.request_drain(store, name)]
    if worker is not None and not asked:
        raise NotFoundError(f"worker {worker} has just left")
    left = not wait_for_it or _wait_until_left(store, asked, timeout)
    if as_json:
        print_json({"asked": asked, "left": left if wait_for_it else None})
    else:
        for name in asked:
            print(f"{name} was asked to leave")
        print(
            "all have left" if wait_for_it and left else f"asked: {counted(len(asked), 'worker')}"
        )
    if not left:
        print_error("not all have left yet")
        raise click.exceptions.Exit(exits.TIMEOUT)


def _to_drain(store: Store, heartbeat: float, worker: str | None) -> list[str]:
    from fsqueue.spool.admin.worker_rows import list_workers
    from fsqueue.spool.format.records import NESTED

    there = list_workers(store, heartbeat=heartbeat)
    # The claimant of a waiting body leaves together with its worker.
    names = [each.name for each in there if each.state != "dead" and each.runner != NESTED]
    if worker is None:
        return names
    if worker not in names:
        raise NotFoundError(f"there is no worker {worker}; there are: {', '.join(names) or 'none'}")
    return [worker]


def _wait_until_left(store: Store, names: list[str], timeout: float | None) -> bool:
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    records = {f"{name}.json" for name in names}
    while records.intersection(store.fs.names(store.layout.workers_folder, fresh=True)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE)
    return True
