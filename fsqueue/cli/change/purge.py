"""``fsqueue purge``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.command import flag, subcommand
from fsqueue.cli.finding.target import find_queue, open_target
from fsqueue.cli.options import app_option, json_option, queue_argument, root_option, yes_option
from fsqueue.cli.output import confirm, print_outcome
from fsqueue.common.printable import counted

if TYPE_CHECKING:
    from pathlib import Path


@subcommand("purge", "purge default --dry-run", "purge default --yes")
@queue_argument
@app_option
@root_option
@yes_option
@flag("--dry-run", help="Only print what would be done.")
@json_option
def command(
    queue: str, app: str | None, root: Path | None, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Cancel all pending calls of a queue.

    This includes calls that are due later, that wait for other calls, or that need resources.
    Their callers get CancelledError. Running calls go on.
    """
    from fsqueue.spool.admin import controls
    from fsqueue.spool.admin.listing import dependent_calls, pending_calls

    with open_target(app, root) as target:
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
