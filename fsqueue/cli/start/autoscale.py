"""``fsqueue autoscale``."""

from __future__ import annotations

import contextlib
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from fsqueue.cli.command import argument, flag, option, subcommand
from fsqueue.cli.finding.target import report_errors
from fsqueue.cli.options import app_option, json_option, root_option, seconds
from fsqueue.cli.output import print_json
from fsqueue.cli.start.profiles import COUNT, NUMBER, open_launch
from fsqueue.common.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fsqueue.launch.autoscaling.autoscaler import Autoscaler
    from fsqueue.launch.autoscaling.decisions import Decisions

_LEAST_INTERVAL = 1.0


@subcommand("autoscale", "autoscale cpu gpu --max 20", "autoscale cpu --once")
@argument("profiles", metavar="PROFILE...", nargs=-1, required=True, help="Launch profiles.")
@app_option
@root_option
@option("--min", type=NUMBER, metavar="NUMBER", help="Jobs to keep.")
@option("--max", type=COUNT, metavar="NUMBER", help="Most jobs at a time.")
@option("--backlog", type=COUNT, metavar="NUMBER", help="Most jobs that may wait.")
@option(
    "--interval",
    type=seconds(least=_LEAST_INTERVAL),
    default="30s",
    metavar="DURATION",
    help="Time between two checks of the calls and jobs.",
)
@flag("--once", help="Check once, and exit: for cron.")
@flag("--dry-run", help="Check once, and only show the decisions with their reasons.")
@json_option
def command(
    profiles: tuple[str, ...],
    app: str | None,
    root: Path | None,
    interval: float,
    once: bool,
    dry_run: bool,
    as_json: bool,
    **overrides: int | None,
) -> None:
    """Keep as many batch jobs of workers as the due calls need.

    Runs until Ctrl-C or SIGTERM; the jobs go on after that. Several may run at once, on any host: a
    fleet never has more than its maximum of jobs. The first profile gets the calls first.
    """
    with report_errors():
        target, templates = open_launch(profiles, app, root, overrides)
        try:
            from fsqueue.launch.autoscaling.autoscaler import Autoscaler, Managed
            from fsqueue.launch.launcher import Launcher
            from fsqueue.launch.pace import Pace

            store = target.app.store
            for template in templates:
                template.check()
                if not dry_run:
                    Launcher(store, template).define()
            scaler = Autoscaler(
                store,
                target.app.app_id,
                [Managed(each.name, each.script_of, each.record) for each in templates],
                heartbeat=target.app.conf.heartbeat,
                pace=replace(Pace(), tick=interval),
            )
            if once or dry_run:
                _print(scaler.tick(dry_run=dry_run), as_json=as_json)
            else:
                _run(scaler, as_json=as_json)
        finally:
            target.app.close()


def _run(scaler: Autoscaler, *, as_json: bool) -> None:
    with _stopped_by_signals() as stop:
        scaler.run(stop, lambda found: _print(found, as_json=as_json))


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(found: Decisions, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for each in found.decisions:
        what = f"{each.action} {each.count or len(each.members) or ''}".strip()
        print(printable(f"{each.fleet}: {what}: {each.why}"), flush=True)
    for demand in found.uncovered:
        print(printable(f"no profile can run these: {demand}"), flush=True)
