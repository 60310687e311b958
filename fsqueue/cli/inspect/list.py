"""``fsqueue list``."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import click

from fsqueue.cli import completion
from fsqueue.cli.command import option, subcommand
from fsqueue.cli.filters import filter_options
from fsqueue.cli.options import json_option, on_target, seconds
from fsqueue.cli.output import print_json, print_table
from fsqueue.common.printable import counted, duration
from fsqueue.spool.format.resources import queue_in_words
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.cli.finding.target import Target
    from fsqueue.spool.admin.listing import CallInfo
    from fsqueue.spool.format.records import Failure


@subcommand(
    "list", "list --state failed --older-than 2h", "list --task tasks.render --limit 500 --json"
)
@on_target
@option(
    "--state",
    type=click.Choice([str(state) for state in State]),
    metavar="|".join(State),
    help="Only calls in this state.",
)
@option(
    "--task",
    shell_complete=completion.tasks,
    metavar="MODULE.FUNC",
    help="Only calls of this task.",
)
@option(
    "--worker",
    shell_complete=completion.workers,
    metavar="NAME",
    help="Only calls that this worker runs or has run.",
)
@option(
    "--older-than",
    type=seconds(),
    default="0",
    metavar="AGE",
    help="Only calls that were made, claimed or ended at least this long ago: 90, 15m, 2h, 7d.",
)
@option(
    "--limit",
    type=click.IntRange(min=1, max=1_000_000_000),
    default=50,
    metavar="NUMBER",
    help="List at most this many calls.",
)
@filter_options
@option(
    "--sort",
    type=click.Choice(["age", "task", "failure"]),
    metavar="age|task|failure",
    help="Order of the list: by age the latest first, by task, or by failure.",
)
@json_option
def command(
    target: Target, state: str | None, limit: int, sort: str | None, as_json: bool, **filters: Any
) -> None:
    """List calls, of all states or of one.

    Running calls come first, then pending ones in about the order in which they will run, then
    failed ones, and then all others that have ended, roughly the latest first. Workers run the
    pending calls of one second in any order.

    The age of a pending call is counted from when it was made, that of a running call from when it
    was claimed, and that of any other from when it ended. The command reads the beginning of each
    file until it has found as many calls as it may list. It finds failed calls in the workers'
    journals. With --sort it must find all calls first.
    """
    from fsqueue.spool.admin.filters import Filters
    from fsqueue.spool.admin.listing import list_calls

    wanted = Filters(**filters)
    state = state or wanted.implied_state
    calls = list_calls(target.look(), State(state) if state else None)
    matching = filter(wanted.takes, calls)
    found = list(itertools.islice(matching, None if sort else limit + 1))
    if sort:
        found.sort(key=_ORDERS[sort])
    shown, more = found[:limit], len(found) > limit
    if as_json:
        print_json({"calls": shown, "more": more})
        return
    if shown:
        heads = ("ID", "STATE", "AGE", "TASK", "QUEUE", "ATTEMPT", "WORKER", "FAILURE")
        print_table(heads, map(_row, shown))
    print(f"the first {limit}; there are more (--limit)" if more else counted(len(shown), "call"))


_ORDERS: dict[str, Callable[[CallInfo], Any]] = {
    "age": lambda each: each.age or 0.0,
    "task": lambda each: (each.task, each.age or 0.0),
    "failure": lambda each: (
        each.failure.type if each.failure else "",
        each.failure.fp if each.failure else "",
        each.age or 0.0,
    ),
}


def _row(each: CallInfo) -> tuple[object, ...]:
    from fsqueue.spool.format.records import titled

    batch = f" (batch of {each.members})" if each.members else ""
    return (
        each.id,
        f"{each.state} (after {each.waits_for})" if each.waits_for else each.state,
        duration(each.age),
        f"{titled(each.task or '?', each)}{batch}",
        queue_in_words(each.queue) or "?",
        each.attempt,
        each.worker,
        _failure_line(each.failure),
    )


def _failure_line(failure: Failure | None) -> str:
    if failure is None:
        return ""
    return f"{failure.type}: {failure.message.partition(chr(10))[0]}"[:120]
