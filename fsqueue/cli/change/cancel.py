"""``fsqueue cancel``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fsqueue.cli import exits
from fsqueue.cli.command import subcommand
from fsqueue.cli.finding.target import check_id, open_target
from fsqueue.cli.options import app_option, ids_argument, json_option, root_option
from fsqueue.cli.output import print_json

if TYPE_CHECKING:
    from pathlib import Path


@subcommand("cancel", "cancel jq3v8k2m5c-7")
@ids_argument("running", "pending", help="Ids of the calls.")
@app_option
@root_option
@json_option
def command(
    invocation_ids: tuple[str, ...], app: str | None, root: Path | None, as_json: bool
) -> None:
    """Cancel calls; their callers get CancelledError.

    A pending call never starts. A worker with process slots kills the process of a running call.
    With thread slots the body runs on, and its result is dropped. The calls of a batch are
    cancelled together.

    Exit code 1 if one of the calls had already ended.
    """
    from fsqueue.spool.store import lookup

    with open_target(app, root) as target:
        carriers = {each: check_id(each)[0] for each in invocation_ids}
        store = target.store
        done = {each: lookup.cancel(store, carrier, None) for each, carrier in carriers.items()}
        if as_json:
            print_json({"cancelled": done})
        else:
            for name, cancelled in done.items():
                print(f"{name} {'cancelled' if cancelled else 'had already ended'}")
        raise click.exceptions.Exit(exits.OK if all(done.values()) else exits.NEGATIVE)
