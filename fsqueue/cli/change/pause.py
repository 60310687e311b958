"""``fsqueue pause``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.command import subcommand
from fsqueue.cli.finding.target import find_queue, open_target
from fsqueue.cli.options import app_option, json_option, queue_argument, root_option
from fsqueue.cli.output import print_outcome

if TYPE_CHECKING:
    from pathlib import Path


@subcommand("pause", "pause gpu")
@queue_argument
@app_option
@root_option
@json_option
def command(queue: str, app: str | None, root: Path | None, as_json: bool) -> None:
    """Pause a queue: its calls wait until `fsqueue resume`.

    Calls can still be made. Workers notice within two seconds. Running calls go on, and may run
    the calls that they wait for.
    """
    from fsqueue.spool.admin import controls

    with open_target(app, root) as target:
        store = target.store
        name = find_queue(target, store, queue)
        changed = controls.pause(store, name)
        text = f"{name} is paused" if changed else f"{name} was already paused"
        print_outcome({"queue": name, "changed": changed}, text, as_json=as_json)
