"""``fsqueue runs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.command import option, subcommand
from fsqueue.cli.options import json_option, on_target, seconds
from fsqueue.cli.output import print_json, print_table
from fsqueue.common.printable import counted, duration

if TYPE_CHECKING:
    from fsqueue.cli.finding.target import Target
    from fsqueue.spool.admin.runs import Run


_HEADS = (
    *("RUN", "BEGAN", "PROCESS", "ENDED", "FAILED", "RUNNING", "WAITING", "ENDS IN"),
    *("HOST", "USER", "COMMAND"),
)


@subcommand("runs", "runs --since 7d")
@on_target
@option(
    "--since",
    type=seconds(),
    default="24h",
    metavar="AGE",
    help="Only runs that began, or whose calls ended, in this time: 90, 15m, 2h, 7d.",
)
@json_option
def command(target: Target, since: float, as_json: bool) -> None:
    """List the processes that made calls, and how many calls have ended, failed, run and wait.

    A run is one process. The ids of its calls begin with the name of the run. ENDED and FAILED
    count its calls. PROCESS says whether it may still make more. ENDS IN estimates when its running
    and waiting calls will have ended, at the rate of the last five minutes.
    """
    from fsqueue.cli.overview import looks
    from fsqueue.spool.admin.runs import runs
    from fsqueue.spool.history.statistics import read_stats

    store = target.look()
    now = store.clock.now()
    glance = looks(target).look()
    found = runs(store, read_stats(store, max(60.0, since)), now - since, glance)
    if as_json:
        print_json({"runs": found})
    elif found:
        print_table(_HEADS, [_row(each, now) for each in found])
        print(counted(len(found), "run"))
    else:
        print(f"no runs in the last {duration(since)}")


def _row(run: Run, now: float) -> tuple[object, ...]:
    record = run.record
    return (
        run.client,
        duration(max(0.0, now - record.started)) if record else "-",
        "is here" if run.here else "has ended",
        run.ended,
        run.failed,
        run.running,
        f"{'' if run.exact else '>= '}{run.waiting}",
        "-" if run.ends is None else duration(run.ends),
        record.host if record else "?",
        record.user if record else "?",
        record.command if record else "",
    )
