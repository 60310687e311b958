"""``fsqueue failures``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.command import argument, option, subcommand
from fsqueue.cli.finding.target import NotFoundError, Target
from fsqueue.cli.options import json_option, on_target, seconds
from fsqueue.cli.output import print_json, print_pairs, print_table
from fsqueue.common import commands
from fsqueue.common.printable import counted, duration, moment

if TYPE_CHECKING:
    from fsqueue.spool.admin.failures import FailureGroup

_LONGEST = 100


@subcommand("failures", "failures --since 2h", "failures 0123abcd")
@argument("group", metavar="[GROUP]", required=False, help="Show this group in full.")
@on_target
@option(
    "--since",
    type=seconds(),
    default="24h",
    metavar="AGE",
    help="Only failures of this time until now: 90, 15m, 2h, 7d.",
)
@option("--task", metavar="MODULE.FUNC", help="Only failures of this task.")
@json_option
def command(
    target: Target, group: str | None, since: float, task: str | None, as_json: bool
) -> None:
    """Show what failed, grouped by reason.

    Failures form a group if they have the same type, the same message (apart from numbers, names
    and paths), and were raised by the same function. A call that did not run because another one
    failed belongs to the group of that one. `fsqueue retry --failed-with GROUP` runs a group again.

    CALLS counts the calls that have failed. RETRIED counts the attempts that failed and were
    followed by another one.

    The figures come from the workers' journals, which are kept for `journal_ttl` (a day).
    """
    from fsqueue.spool.admin.failures import failure_groups

    store = target.look()
    now = store.clock.now()
    found = failure_groups(store, now - since, task=task or "")
    if group is not None:
        found = [each for each in found if group in {each.fp, each.type}]
        if not found:
            raise NotFoundError(f"there is no group {group} in the last {duration(since)}")
    if as_json:
        print_json({"groups": found, "since": now - since})
    elif group is not None:
        for each in found:
            _print_group(each, now)
    elif found:
        heads = ("GROUP", "CALLS", "RETRIED", "LAST", "FIRST", "FAILURE", "WHERE", "TASK")
        print_table(heads, [_row(each, now) for each in found])
        print(counted(len(found), "group"))
    else:
        print(f"nothing has failed in the last {duration(since)}")


def _row(group: FailureGroup, now: float) -> tuple[object, ...]:
    tasks = sorted(group.tasks, key=lambda name: -group.tasks[name])
    more = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
    return (
        group.fp or group.type,
        group.calls,
        group.retried,
        duration(max(0.0, now - group.last)),
        duration(max(0.0, now - group.first)),
        f"{group.type}: {group.message.partition(chr(10))[0]}"[:_LONGEST],
        group.at,
        f"{tasks[0] or '?'}{more}",
    )


def _print_group(group: FailureGroup, now: float) -> None:
    print_pairs(
        [
            ("group", group.fp),
            ("failure", f"{group.type}: {group.message}"),
            ("where", group.at),
            ("failed calls", str(group.calls)),
            ("retried attempts", str(group.retried) if group.retried else ""),
            ("lost attempts", str(group.lost) if group.lost else ""),
            ("first", moment(group.first)),
            ("last", f"{moment(group.last)} ({duration(max(0.0, now - group.last))} ago)"),
            ("tasks", ", ".join(f"{name or '?'} ({count})" for name, count in _most(group.tasks))),
            ("workers", ", ".join(f"{name} ({n})" for name, n in _most(group.workers)[:_FEW])),
            ("run again", commands.command("retry", failed_with=group.fp or group.type)),
        ]
    )
    for sample in group.samples:
        label = f" ({sample.label})" if sample.label else ""
        print_pairs([("call", f"fsqueue show {sample.id}{label}")])


_FEW = 5


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])
