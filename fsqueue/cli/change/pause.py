"""``fsqueue pause``."""

from __future__ import annotations

from fsqueue.cli.command import subcommand
from fsqueue.cli.finding.target import Target, find_queue
from fsqueue.cli.options import json_option, on_target, queue_argument
from fsqueue.cli.output import print_outcome


@subcommand("pause", "pause gpu")
@queue_argument
@on_target
@json_option
def command(target: Target, queue: str, as_json: bool) -> None:
    """Pause a queue: its calls wait until `fsqueue resume`.

    Calls can still be made. Workers notice within two seconds. Running calls go on, and may run
    the calls that they wait for.
    """
    from fsqueue.spool.admin import controls

    store = target.store
    name = find_queue(target, store, queue)
    changed = controls.pause(store, name)
    text = f"{name} is paused" if changed else f"{name} was already paused"
    print_outcome({"queue": name, "changed": changed}, text, as_json=as_json)
