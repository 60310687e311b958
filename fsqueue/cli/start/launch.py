"""``fsqueue launch``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fsqueue.cli import exits
from fsqueue.cli.command import argument, flag, option, subcommand
from fsqueue.cli.finding.target import report_errors
from fsqueue.cli.options import app_option, json_option, root_option, timeout_option
from fsqueue.cli.output import print_error, print_json, print_outcome
from fsqueue.cli.start.profiles import COUNT, open_launch, resource_options
from fsqueue.common.printable import counted

if TYPE_CHECKING:
    from pathlib import Path

    from fsqueue.cli.finding.target import Target
    from fsqueue.launch.fleet import Fleet
    from fsqueue.launch.launcher import JobTemplate
    from fsqueue.spool.fleets.records import Member


@subcommand(
    "launch", "launch slurm --count 4 --walltime 4h --dry-run", "launch cpu -- --account=physics"
)
@argument("profile", metavar="PROFILE", help="Launch profile, or the name of a batch system.")
@argument("raw", metavar="[-- FLAGS]", nargs=-1, help="Directives for the batch system.")
@app_option
@root_option
@option("--count", type=COUNT, default=1, metavar="NUMBER", help="Jobs to submit.")
@resource_options
@flag("--dry-run", help="Submit nothing: show the script, and let the batch system check it.")
@flag("--wait", "wait_for_it", help="Wait until a worker of each job has started.")
@timeout_option()
@json_option
def command(
    profile: str,
    raw: tuple[str, ...],
    app: str | None,
    root: Path | None,
    count: int,
    dry_run: bool,
    wait_for_it: bool,
    timeout: float | None,
    **overrides: Any,
) -> None:
    """Submit batch jobs that run workers.

    The profile is a table [launch.NAME] of the configuration file. It describes what a job asks
    for. The jobs of a profile are a fleet: see `fsqueue fleet`.
    """
    as_json = overrides.pop("as_json")
    with report_errors():
        target, (template,) = open_launch((profile,), app, root, overrides, raw)
        try:
            if dry_run:
                raise click.exceptions.Exit(_rehearse(template, count, as_json=as_json))
            fleet, members = _submit(target, template, count)
            _print(fleet, members, as_json=as_json)
            code = exits.OK if len(members) == count else exits.NEGATIVE
            if wait_for_it and members:
                code = max(code, _wait(fleet, members, timeout))
        finally:
            target.app.close()
        raise click.exceptions.Exit(code)


def _rehearse(template: JobTemplate, count: int, *, as_json: bool) -> int:
    """Show the command and the script, and return the exit code."""
    from fsqueue.launch.batch import BatchError

    try:
        shown = template.rehearse(count)
        verdict = shown.verdict
        answer = "" if verdict is None else (verdict.err.strip() or verdict.out.strip())
        refused = verdict is not None and verdict.code != 0
    except BatchError as error:
        print_error(f"not checked by the batch system: {error}")
        shown, answer, refused = template.rehearse(count, ask=False), "", False
    document: dict[str, object] = {
        "command": shown.command.argv,
        "script": shown.script,
        "verdict": answer,
    }
    text = f"{shown.command} <<'END'\n{shown.script}END"
    print_outcome(document, text, as_json=as_json)
    if answer and not as_json:
        sys.stdout.flush()  # if both go to one file or pipe, the script comes first
        print_error("the batch system's answer:", answer)
    return exits.USAGE if refused else exits.OK


def _submit(target: Target, template: JobTemplate, count: int) -> tuple[Fleet, list[Member]]:
    from fsqueue.launch.launcher import Launcher

    template.check()
    launcher = Launcher(target.app.store, template)
    launcher.define()
    fleet = launcher.fleet
    if fleet.files.marked("stopped") is not None or fleet.files.marked("paused") is not None:
        print_error(f"fleet {fleet.name} was stopped or paused: this resumes it")
        fleet.resume()
    fleet.make_room(count)
    return fleet, launcher.submit(count)


def _print(fleet: Fleet, members: list[Member], *, as_json: bool) -> None:
    ids = [fleet.files.ids(each.token).get(each.number, "") for each in members]
    if as_json:
        print_json({"fleet": fleet.name, "jobs": ids})
        return
    if ids:
        print(f"fleet {fleet.name}: submitted {counted(len(ids), 'job')}: {' '.join(ids)}")
    if len(fleet.files.slots.taken()) >= (most := fleet.record.max):
        print_error(
            f"fleet {fleet.name} has {counted(most, 'job')}, its max: "
            f"`fsqueue fleet scale {fleet.name} NUMBER` changes that"
        )


def _wait(fleet: Fleet, members: list[Member], timeout: float | None) -> int:
    """Wait until a worker of each job has started; returns the exit code."""
    from fsqueue.launch.waiting import wait_for_workers

    if wait_for_workers(fleet, members, timeout):
        return exits.OK
    ended = [str(each) for each in members if each not in fleet.files.slots.taken().values()]
    if ended:
        print_error(
            f"{counted(len(ended), 'job')} ended before a worker started: see `fsqueue fleet logs "
            f"{fleet.name}`"
        )
        return exits.NEGATIVE
    print_error(f"not all workers have started yet: see `fsqueue fleet show {fleet.name}`")
    return exits.TIMEOUT
