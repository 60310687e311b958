"""``fsqueue wait``."""

from __future__ import annotations

import click

from fsqueue.cli import exits
from fsqueue.cli.command import subcommand
from fsqueue.cli.finding.target import Target, check_id
from fsqueue.cli.options import ids_argument, json_option, on_target, timeout_option
from fsqueue.cli.output import print_json
from fsqueue.cli.waiting import GONE, is_open, tell_why, wait_for
from fsqueue.spool.format.states import State


@subcommand("wait", "wait jq3v8k2m5c-7 jq3v8k2m5c-8 --timeout 1h")
@ids_argument("running", "pending", help="Ids of the calls.")
@on_target
@timeout_option()
@json_option
def command(
    target: Target, invocation_ids: tuple[str, ...], timeout: float | None, as_json: bool
) -> None:
    """Wait until calls have ended, and print their states.

    Exit code 0 if all succeeded, 1 if one failed or was cancelled, and 4 if one has not ended
    before the timeout. If the caller took a result before this command could see it, the state is
    "gone" and the exit code 3.
    """
    for each in invocation_ids:
        check_id(each)
    states = wait_for(target, invocation_ids, timeout)
    tell_why(target, [each for each, state in states.items() if is_open(state)])
    if as_json:
        print_json({"states": states})
    else:
        for name, state in states.items():
            print(f"{name} {state}")
    raise click.exceptions.Exit(_verdict(set(states.values())))


def _verdict(states: set[str]) -> int:
    if any(map(is_open, states)):
        return exits.TIMEOUT
    if GONE in states:
        return exits.NOT_FOUND
    return exits.OK if states <= {State.SUCCEEDED} else exits.NEGATIVE
