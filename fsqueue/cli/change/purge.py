"""``fsqueue purge``."""

from __future__ import annotations

from fsqueue.cli.command import flag, subcommand
from fsqueue.cli.finding.target import Target, find_queue
from fsqueue.cli.options import json_option, on_target, queue_argument, yes_option
from fsqueue.cli.output import confirm, print_outcome
from fsqueue.common.printable import counted


@subcommand("purge", "purge default --dry-run", "purge default --yes")
@queue_argument
@on_target
@yes_option
@flag("--dry-run", help="Only print what would be done.")
@json_option
def command(target: Target, queue: str, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Cancel all pending calls of a queue.

    This includes calls that are due later, that wait for other calls, or that need resources.
    Their callers get CancelledError. Running calls go on.
    """
    from fsqueue.spool.admin import controls
    from fsqueue.spool.admin.listing import dependent_calls, pending_calls

    store = target.store
    name = find_queue(target, store, queue)
    folders = controls.folders(store, name)
    count = sum(len(list(calls(store, folders))) for calls in (pending_calls, dependent_calls))
    if dry_run:
        print_outcome(
            {"queue": name, "would_cancel": count},
            f"{name}: {counted(count, 'call')} pending",
            as_json=as_json,
        )
        return
    if not yes:
        confirm(f"Cancel {counted(count, 'pending call')} of {name} in {store.layout.root}?")
    done = controls.purge(store, name)
    print_outcome(
        {"queue": name, **done._asdict()},
        f"{name}: {counted(done.cancelled, 'call')} cancelled"
        + (f", {done.started} started meanwhile" if done.started else ""),
        as_json=as_json,
    )
