"""``fsqueue cancel``."""

from __future__ import annotations

import click

from fsqueue.cli import exits
from fsqueue.cli.command import subcommand
from fsqueue.cli.finding.target import Target, check_id
from fsqueue.cli.options import ids_argument, json_option, on_target
from fsqueue.cli.output import print_json


@subcommand("cancel", "cancel jq3v8k2m5c-7")
@ids_argument("running", "pending", help="Ids of the calls.")
@on_target
@json_option
def command(target: Target, invocation_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel calls; their callers get CancelledError.

    A pending call never starts. A worker with process slots kills the process of a running call.
    With thread slots the body runs on, and its result is dropped. The calls of a batch are
    cancelled together.

    Exit code 1 if one of the calls had already ended.
    """
    from fsqueue.spool.store import lookup

    carriers = {each: check_id(each)[0] for each in invocation_ids}
    store = target.store
    done = {each: lookup.cancel(store, carrier, None) for each, carrier in carriers.items()}
    if as_json:
        print_json({"cancelled": done})
    else:
        for name, cancelled in done.items():
            print(f"{name} {'cancelled' if cancelled else 'had already ended'}")
    raise click.exceptions.Exit(exits.OK if all(done.values()) else exits.NEGATIVE)
