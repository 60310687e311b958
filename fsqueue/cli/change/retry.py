"""``fsqueue retry``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fsqueue.cli import completion, exits
from fsqueue.cli.command import flag, option, subcommand
from fsqueue.cli.filters import filter_options
from fsqueue.cli.finding.target import NotFoundError, Target, check_id
from fsqueue.cli.options import ids_argument, json_option, on_target
from fsqueue.cli.output import print_error, print_json
from fsqueue.common.printable import counted
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from fsqueue.spool.admin.controls import FailedCall
    from fsqueue.spool.store.store import Store


@subcommand("retry", "retry jq3v8k2m5c-7", "retry --all-failed --task tasks.render")
@ids_argument("failed", required=False, help="Ids of failed calls.")
@on_target
@flag("--all-failed", help="Retry all failed calls.")
@option(
    "--task",
    shell_complete=completion.tasks,
    metavar="MODULE.FUNC",
    help="With --all-failed: only calls of this task.",
)
@filter_options
@json_option
def command(
    target: Target,
    invocation_ids: tuple[str, ...],
    all_failed: bool,
    task: str | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """Run failed calls again, as new calls.

    Prints the id of each new call. The failed call keeps its outcome, and a caller that has seen
    the failure does not learn of the retry. All calls of a batch run again.
    """
    from fsqueue.spool.admin.controls import retry_all, retryable_matching
    from fsqueue.spool.admin.filters import Filters

    wanted = Filters(**filters)
    several = all_failed or wanted.failed_with is not None
    if bool(invocation_ids) == several or ((task or any(wanted)) and not several):
        raise ConfigError(
            "which calls? Give their ids, or --all-failed or --failed-with, with or without "
            "--task, --since, --run and --queue"
        )
    store = target.store
    if any(wanted):
        calls = retryable_matching(store, wanted, task or "")
    else:
        calls = _failed(store, invocation_ids, task or "")
    made, problems = retry_all(store, calls)
    if as_json:
        print_json({"retried": made, "problems": problems})
    else:
        for old, new in made.items():
            print(f"{old} runs again as {new}")
        print(f"retried: {counted(len(made), 'call')}")
    for problem in problems.values():
        print_error(problem)
    raise click.exceptions.Exit(exits.NEGATIVE if problems else exits.OK)


def _failed(store: Store, invocation_ids: tuple[str, ...], task: str) -> list[FailedCall]:
    from fsqueue.spool.admin.controls import retryable

    if not invocation_ids:
        return list(retryable(store, task))
    there = {failed.id: failed for failed in retryable(store)}
    carriers = [check_id(each)[0] for each in invocation_ids]
    for each in carriers:
        if each not in there:
            raise NotFoundError(
                f"there is no failed call {each} in {store.layout.failed_folder}: it did not "
                "fail, was already retried, or has expired"
            )
    return [there[each] for each in dict.fromkeys(carriers)]
