"""``fsqueue requeue``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fsqueue.cli import exits
from fsqueue.cli.command import subcommand
from fsqueue.cli.finding.target import NotFoundError, Target, check_id
from fsqueue.cli.options import ids_argument, json_option, on_target, yes_option
from fsqueue.cli.output import confirm, print_json

if TYPE_CHECKING:
    from fsqueue.spool.files.whereabouts import HeldAttempt
    from fsqueue.spool.store.store import Store


@subcommand("requeue", "requeue jq3v8k2m5c-7 --yes")
@ids_argument("running", help="Ids of running calls.")
@on_target
@yes_option
@json_option
def command(target: Target, invocation_ids: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Take running calls from their workers, so that others run them.

    Use this when a worker hangs, or when you know before the end of its lease that it is dead. It
    costs the call an attempt, as the death of a worker does. After the last attempt the call ends
    with WorkerLostError. If the worker is alive after all, the body runs twice and the first
    outcome counts.

    Exit code 1 if a call had already ended, or has ended because of this.
    """
    store = target.store
    carriers = {each: check_id(each)[0] for each in invocation_ids}
    found = {each: _held(store, carrier) for each, carrier in carriers.items()}
    living = _living(target, found)
    if living and not yes:
        confirm(
            f"The workers that run {', '.join(living)} are alive, so bodies may run twice at "
            "the same time. Take the calls away?"
        )
    after = {each: _requeue(store, attempt) for each, attempt in found.items()}
    if as_json:
        print_json({"requeued": after})
    else:
        for each, state in after.items():
            print(f"{each} {'given back' if state in _GOES_ON else f'has ended: {state}'}")
    every = all(state in _GOES_ON for state in after.values())
    raise click.exceptions.Exit(exits.OK if every else exits.NEGATIVE)


_GOES_ON = frozenset({"pending", "running"})


def _held(store: Store, invocation_id: str) -> HeldAttempt:
    from fsqueue.spool.admin import controls

    found = controls.held_attempt(store, invocation_id)
    if found is None:
        raise NotFoundError(
            f"no worker holds {invocation_id} in {store.layout.running_folder}: it is pending, has "
            "ended, or was never made. See `fsqueue show`."
        )
    return found


def _living(target: Target, found: dict[str, HeldAttempt]) -> list[str]:
    from fsqueue.spool.admin.worker_rows import list_workers

    workers = list_workers(target.store, heartbeat=target.app.conf.heartbeat)
    alive = {each.name for each in workers if each.state == "alive" and each.beat is not None}
    return [each for each, attempt in found.items() if attempt.worker in alive]


def _requeue(store: Store, attempt: HeldAttempt) -> str:
    """The state of the call afterwards."""
    from fsqueue.errors import UnknownInvocationError
    from fsqueue.spool.admin import controls
    from fsqueue.spool.store.lookup import state_of

    controls.requeue(store, attempt)
    try:
        return state_of(store, attempt.name.invocation_id).value
    except UnknownInvocationError:
        return "collected"  # its caller has collected the outcome meanwhile
