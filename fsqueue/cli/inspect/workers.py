"""``fsqueue workers``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.command import subcommand
from fsqueue.cli.options import app_option, json_option, root_option
from fsqueue.cli.output import console, print_json
from fsqueue.cli.overview import how_old, looks, workers_table
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
    with open_target(app, root) as target:
        looking = looks(target)
        glance = looking.look(all_workers=True)
        found, age = glance.snapshot.workers, looking.age(glance)
        if as_json:
            print_json({"workers": found, "age": age})
        elif found:
            console().print(workers_table(found, glance.recent))
            print(how_old(age).strip(), end="\n" * bool(how_old(age)))
        else:
            print("no workers")
