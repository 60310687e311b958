"""``fsqueue resume``."""

from __future__ import annotations

from fsqueue.cli.command import subcommand
from fsqueue.cli.finding.target import Target, find_queue
from fsqueue.cli.options import json_option, on_target, queue_argument
from fsqueue.cli.output import print_outcome


@subcommand("resume", "resume gpu")
@queue_argument
@on_target
@json_option
def command(target: Target, queue: str, as_json: bool) -> None:
    """Resume a paused queue."""
    from fsqueue.spool.admin import controls

    store = target.store
    name = find_queue(target, store, queue)
    changed = controls.resume(store, name)
    text = f"{name} is open again" if changed else f"{name} was not paused"
    print_outcome({"queue": name, "changed": changed}, text, as_json=as_json)
