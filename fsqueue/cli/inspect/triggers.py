"""``fsqueue triggers``."""

from __future__ import annotations

import time
from typing import Any

from fsqueue.cli.command import subcommand
from fsqueue.cli.finding.target import find_application, report_errors
from fsqueue.cli.options import app_option, json_option
from fsqueue.cli.output import print_json, print_table
from fsqueue.common.printable import moment


@subcommand("triggers", "triggers --app tasks")
@app_option
@json_option
def command(app: str | None, as_json: bool) -> None:
    """List the triggers of an application's tasks.

    For cron triggers, it also shows the times of the next tick and of the last handled one.
    """
    with report_errors():
        target = find_application(app)
        store = target.look()
        try:
            rows = [
                {
                    "task": each.task,
                    "trigger": each.trigger,
                    "next": each.upcoming,
                    "handled": each.handled,
                }
                for each in target.app.triggers.overview(time.time(), store)
            ]
        finally:
            target.app.close()
    if as_json:
        print_json(rows)
        return
    print_table(
        ("task", "trigger", "next", "handled until"),
        [
            (row["task"], row["trigger"], _moment(row["next"]), _moment(row["handled"]))
            for row in rows
        ],
    )


def _moment(seconds: Any) -> str:
    return "-" if seconds is None else moment(seconds)
