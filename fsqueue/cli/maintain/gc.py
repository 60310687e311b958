"""``fsqueue gc``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.command import flag, option, subcommand
from fsqueue.cli.options import json_option, on_target, seconds
from fsqueue.cli.output import print_json

if TYPE_CHECKING:
    from fsqueue.cli.finding.target import Target


@subcommand("gc", "gc --older-than 2d")
@on_target
@option(
    "--older-than",
    type=seconds(),
    metavar="AGE",
    help="Age to use instead of result_ttl and journal_ttl: 90, 15m, 2h, 7d.",
)
@flag("--cache", help="Also remove all results of call_result_cache, whatever their age.")
@json_option
def command(target: Target, older_than: float | None, cache: bool, as_json: bool) -> None:
    """Remove everything that has expired.

    This includes results, failed calls, quarantined files, journals and the leftovers of crashes.
    Workers do the same every few minutes. Files in tmp/ are kept for at least a day, because
    another process may still be writing them.
    """
    from fsqueue.spool.worker.expiry import expire_by_kind

    conf = target.app.conf
    removed = expire_by_kind(
        target.store,
        result_ttl=conf.result_ttl if older_than is None else older_than,
        journal_ttl=conf.journal_ttl if older_than is None else older_than,
    )._asdict()
    if cache:
        removed["cached_results"] += target.store.cache.clear()
    if as_json:
        print_json({"removed": removed})
        return
    for kind, count in removed.items():
        print(f"{count:>7}  {kind.replace('_', ' ')}")
