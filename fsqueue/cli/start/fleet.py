"""``fsqueue fleet`` and its subcommands."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from fsqueue.cli import exits
from fsqueue.cli.command import Decorator, Page, argument, flag, option, subcommand
from fsqueue.cli.finding.target import NotFoundError, Target
from fsqueue.cli.options import json_option, on_target
from fsqueue.cli.output import (
    print_error,
    print_json,
    print_outcome,
    print_pairs,
    print_table,
)
from fsqueue.cli.start.profiles import COUNT, NUMBER
from fsqueue.common.printable import counted, duration, moment, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsqueue.launch.fleet import Fleet
    from fsqueue.launch.sightings import JobInfo
    from fsqueue.spool.fleets.records import FleetRecord
    from fsqueue.spool.store.store import Store


class FleetCommands(Page, click.Group):
    """The group of these commands."""


@click.group(
    "fleet", cls=FleetCommands, invoke_without_command=True, examples=("fleet", "fleet stop cpu")
)
@click.pass_context
def command(context: click.Context) -> None:
    """See and change the fleets: the batch jobs that run workers.

    Without a command it lists the fleets.
    """
    if context.invoked_subcommand is None:
        default = command.commands["list"]
        with default.make_context("list", [], parent=context) as inner:
            default.invoke(inner)


_LOOKS = frozenset({"list", "show"})
"""The commands that write nothing."""

name_argument: Decorator = argument(
    "name", metavar="NAME", help="Name of the fleet: that of its profile."
)


def fleet_command(name: str, *examples: str) -> Decorator:
    """Make a function a subcommand with --app, --root and --json; it gets the spool."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(target: Target, **given: Any) -> None:
            function(target.look() if name in _LOOKS else target.store, **given)

        made = subcommand(f"fleet {name}", *examples)(on_target(json_option(run)))
        command.add_command(made)
        return made

    return decorate


def _find(store: Store, name: str) -> Fleet:
    from fsqueue.launch.fleet import Fleet
    from fsqueue.spool.fleets.fleets import fleet_names

    names = fleet_names(store.files)
    if name not in names:
        there = f"there are: {', '.join(names)}" if names else "there are none"
        raise NotFoundError(f"{store.layout.root} has no fleet {name!r}; {there}")
    return Fleet(store.files, name)


# -- inspecting ---------------------------------------------------------------------------------


class FleetInfo(NamedTuple):
    """The facts about a fleet that are shown."""

    name: str
    state: str
    reason: str
    record: FleetRecord | None
    jobs: list[JobInfo]
    asked: bool
    """Whether the batch system was asked for the jobs, or the spool alone."""

    @property
    def document(self) -> dict[str, Any]:
        """The fleet for `--json`."""
        return {**self._asdict(), "jobs": _documents(self.jobs)}

    def count(self, *states: str) -> int:
        """The number of jobs in one of these states."""
        return sum(job.state in states for job in self.jobs)


def _documents(jobs: list[JobInfo]) -> list[dict[str, str]]:
    return [job._asdict() | {"member": str(job.member)} for job in jobs]


def _info(fleet: Fleet) -> FleetInfo:
    from fsqueue.errors import ConfigError
    from fsqueue.launch.batch import BatchError

    state, reason = "open", ""
    for mark in ("paused", "stopped"):
        if (found := fleet.files.marked(mark)) is not None:
            state, reason = mark, found
    record = fleet.files.record()
    asked = False
    try:
        listing = fleet.list_batch_jobs() if record is not None else ()
        asked = record is not None
    except (BatchError, ConfigError):  # not possible here: the spool has enough for a list
        listing = ()
    return FleetInfo(fleet.name, state, reason, record, fleet.sightings(listing), asked)


@fleet_command("list", "fleet list")
def list_fleets(store: Store, as_json: bool) -> None:
    """List the fleets, with the number of their jobs."""
    from fsqueue.launch.fleet import Fleet
    from fsqueue.spool.fleets.fleets import fleet_names

    found = []
    for name in fleet_names(store.files):
        try:
            found.append(_info(Fleet(store.files, name)))
        except PermissionError as error:  # closed to this user
            store.files.pass_over(store.layout.fleet(name), error)
    if as_json:
        print_json({"fleets": [info.document for info in found]})
    elif not found:
        print("no fleets: `fsqueue launch PROFILE` starts one")
    else:
        heads = ("FLEET", "SYSTEM", "STATE", "RUNNING", "WAITING", "MAX", "SLOTS", "QUEUES")
        print_table(heads, map(_row, found))


def _row(info: FleetInfo) -> tuple[object, ...]:
    record, running = info.record, info.count("running", "starting", "ending")
    numbers = (running, len(info.jobs) - running)
    if record is None:
        return (info.name, "?", "damaged", *numbers, 0, 0, "")
    fixed = (record.max, record.slots, ",".join(record.queues))
    return (info.name, record.system, info.state, *numbers, *fixed)


@fleet_command("show", "fleet show cpu")
@name_argument
def show(store: Store, name: str, as_json: bool) -> None:
    """Show a fleet: its jobs, how earlier ones ended, and what was decided and why."""
    from fsqueue.launch.job_logs import log_tail

    fleet = _find(store, name)
    info, past, trail = _info(fleet), fleet.files.past(), fleet.files.trail(20)
    if as_json:
        ended = [{"job": str(member), **msgspec.to_builtins(each)} for member, each in past]
        print_json({**info.document, "past": ended, "trail": trail})
        return
    print_pairs(_facts(info))
    if info.jobs:
        print()
        jobs = [(str(j.member), j.id, j.state, j.reason, j.start) for j in info.jobs]
        print_table(("JOB", "ID", "STATE", "REASON", "START"), jobs)
    if past:
        print()
        ends = [(moment(each.at), each.id, each.kind, each.detail) for _, each in past[-10:]]
        print_table(("ENDED", "ID", "HOW", "DETAIL"), ends)
    if trail:
        print()
        for note in trail:
            print(printable(f"{moment(note.at)}  {note.what}{f': {note.why}' * bool(note.why)}"))
    if info.state == "paused" and (lines := log_tail(store.files, fleet.files)):
        print("\nthe end of the last log:")
        print("\n".join(f"    {printable(line)}" for line in lines))


def _facts(info: FleetInfo) -> Iterator[tuple[str, object]]:
    yield "fleet", info.name
    yield "state", f"{info.state}: {info.reason}" if info.reason else info.state
    if (record := info.record) is not None:
        yield "system", record.system
        yield "application", record.app_id
        yield "queues", " ".join(record.queues)
        yield "walltime", duration(record.walltime) if record.walltime else None
        yield "slots", f"{record.slots} in each job"
        yield "resources", record.resources
        yield "jobs", f"{record.min} to {record.max}; at most {record.backlog} wait"
    if not info.asked:
        yield "note", "the batch system cannot be asked here: states are those in the spool"


@fleet_command("logs", "fleet logs cpu --lines 200")
@name_argument
@option("--job", metavar="ID", default="", help="Only logs of this job of the batch system.")
@option("--lines", type=COUNT, default=50, metavar="NUMBER", help="Lines to print.")
def logs(store: Store, name: str, job: str, lines: int, as_json: bool) -> None:
    """Print the end of the log that a job of the fleet wrote to last."""
    from fsqueue.launch.job_logs import log_tail

    fleet = _find(store, name)
    found = log_tail(store.files, fleet.files, lines, job)
    if not found and not as_json:
        which = f"job {job}" if job else "any job"
        raise NotFoundError(f"fleet {name} has no log of {which} in {fleet.files.logs}")
    print_outcome({"lines": found}, "\n".join(map(printable, found)), as_json=as_json)


# -- changing -----------------------------------------------------------------------------------


@fleet_command("scale", "fleet scale cpu 20")
@name_argument
@argument("number", type=NUMBER, metavar="NUMBER", help="Most jobs at a time.")
def scale(store: Store, name: str, number: int, as_json: bool) -> None:
    """Change how many jobs a fleet may have. Existing jobs go on."""
    _find(store, name).scale(number)
    text = f"fleet {name} may have {counted(number, 'job')}"
    print_outcome({"fleet": name, "max": number}, text, as_json=as_json)


@fleet_command("pause", "fleet pause cpu")
@name_argument
def pause(store: Store, name: str, as_json: bool) -> None:
    """Submit no more jobs until `fsqueue fleet resume`. Existing jobs go on."""
    _find(store, name).pause("by `fsqueue fleet pause`")
    text = f"fleet {name} is paused"
    print_outcome({"fleet": name, "state": "paused"}, text, as_json=as_json)


@fleet_command("resume", "fleet resume cpu")
@name_argument
def resume(store: Store, name: str, as_json: bool) -> None:
    """Submit jobs again after a pause or a stop: one at first, to see whether it works."""
    _find(store, name).resume()
    text = f"fleet {name} is open again"
    print_outcome({"fleet": name, "state": "open"}, text, as_json=as_json)


@fleet_command("stop", "fleet stop cpu --now")
@name_argument
@flag("--now", help="Also cancel the running jobs: their workers give their calls back at once.")
def stop(store: Store, name: str, now: bool, as_json: bool) -> None:
    """Stop a fleet: cancel the waiting jobs; workers finish their calls and leave.

    Works on any host. Where the commands of the batch system are missing, the workers see the
    stop in the shared directory, and jobs that start later leave at once.
    """
    from fsqueue.errors import ConfigError
    from fsqueue.launch.batch import BatchError

    fleet = _find(store, name)
    try:
        jobs = fleet.refresh()
    except (BatchError, ConfigError) as error:
        print_error(f"the batch system cannot be asked here, so nothing is cancelled: {error}")
        jobs = fleet.sightings()
    fleet.stop(jobs, now=now, why="by `fsqueue fleet stop`")
    text = f"fleet {name} stops; {counted(len(jobs), 'job')} had not ended"
    document = {"fleet": name, "state": "stopped", "jobs": _documents(jobs)}
    print_outcome(document, text, as_json=as_json)


@fleet_command("forget", "fleet forget cpu")
@name_argument
def forget(store: Store, name: str, as_json: bool) -> None:
    """Remove all records and logs of a fleet that no longer has jobs."""
    fleet = _find(store, name)
    if fleet.files.slots.taken():
        fleet.make_room(fleet.record.max)
    if not fleet.files.forget():
        print_error(f"fleet {name} still has jobs: stop it first, see `fsqueue fleet show {name}`")
        raise click.exceptions.Exit(exits.NEGATIVE)
    print_outcome({"fleet": name, "forgotten": True}, f"fleet {name} is forgotten", as_json=as_json)
