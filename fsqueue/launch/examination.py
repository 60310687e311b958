"""Examines the compute nodes of a profile with one short job: ``fsqueue doctor --launch``."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import structs

from fsqueue.common.values import format_duration
from fsqueue.doctor.findings import Finding, Verdict
from fsqueue.launch.batch import BatchError
from fsqueue.launch.launcher import JobTemplate, Launcher
from fsqueue.launch.probe import EVENTS, FACTS
from fsqueue.spool.format.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsqueue.launch.fleet import Fleet
    from fsqueue.launch.profiles import Profile
    from fsqueue.spool.fleets.records import Member
    from fsqueue.spool.store.store import Store

_MODULE: Final = "fsqueue.launch.probe"
_TOKEN_LENGTH: Final = 6
_LOOK: Final = 0.5
_LISTING: Final = 10.0


@dataclass(frozen=True)
class Times:
    """Time limits of an examination, in seconds.

    Args:
        wait: how long to wait for the job to start.
        walltime: time limit of the job.
        warning: how long before its end the job asks for a signal.
        after: from its end until it is killed.
        silence: after so long without a beat, the job counts as ended.
    """

    wait: float = 600.0
    walltime: float = 120.0
    warning: float = 60.0
    after: float = 150.0
    silence: float = 10.0


class _Event(NamedTuple):
    name: str
    at: float


class _Visit(NamedTuple):
    """The reports of the job."""

    facts: dict[str, Any]
    events: list[_Event]

    def first(self, *names: str) -> float | None:
        """When one of these signals arrived; None if none did."""
        return next((event.at for event in self.events if event.name in names), None)


def examine_nodes(
    store: Store,
    model: JobTemplate,
    *,
    times: Times | None = None,
    report: Callable[[str], None] = print,
) -> list[Finding]:
    """Submit a job of a profile that examines its node, and wait until it has ended.

    Args:
        model: the jobs of the profile; the one that is submitted has a shorter time limit.
        times: how long it may take.
        report: called with messages about the progress.

    Raises:
        RefusedError: the batch system refuses the job.
        DoubtfulError: the job may exist, and its id is not known.
        ConfigError: no job of this profile could work.
    """
    times, token = times or Times(), new_token(_TOKEN_LENGTH)
    short = structs.replace(
        model.profile,
        walltime=times.walltime,
        signal_before=times.warning,
        requeue=False,
        min=0,
        max=1,
    )
    template = JobTemplate(
        model.application, f"doctor-{token}", short, options=model.options, run=model.run
    )
    template.check()
    launcher = Launcher(store, template)
    launcher.define()
    fleet = launcher.fleet
    folder = f"{fleet.files.folder}/visit"
    store.files.make_folders(folder)
    module = (_MODULE, folder, model.application.target, template.batch.submission("").argv[0])
    members: list[Member] = []
    try:
        members = fleet.submit(1, lambda name, count: template.script_of(name, count, module))
        began = time.time()
        report(f"job {_id_of(fleet, members)} is submitted; waiting until it starts")
        visit = _visit(store, fleet, folder, times, report)
        return list(_findings(visit, template, short, began, store))
    finally:
        _clear_up(store, fleet, folder, members)


def _id_of(fleet: Fleet, members: list[Member]) -> str:
    return next((fleet.files.ids(each.token).get(each.number, "?") for each in members), "?")


# -- waiting ------------------------------------------------------------------------------------


def _visit(
    store: Store, fleet: Fleet, folder: str, times: Times, report: Callable[[str], None]
) -> _Visit | None:
    """Wait for the reports of the job; None if it has not started, or ended without a report."""
    facts: dict[str, Any] | None = None
    deadline, listed = time.monotonic() + times.wait, time.monotonic()
    while (facts := _facts(store, folder)) is None and time.monotonic() < deadline:
        if time.monotonic() - listed > _LISTING:
            listed = time.monotonic()
            if not _is_listed(fleet):
                facts = _facts(store, folder)
                break
        time.sleep(_LOOK)
    if facts is None:
        return None
    span = times.walltime + times.after
    report(f"it runs on {facts['node']}; waiting for its end, {format_duration(span)} at most")
    deadline = time.monotonic() + span
    while time.monotonic() < deadline and _beats(store, folder, times.silence):
        time.sleep(_LOOK)
    return _Visit(facts, _events(store, folder))


def _is_listed(fleet: Fleet) -> bool:
    try:
        return any(job.id and job.state != "submitting" for job in _jobs(fleet))
    except BatchError:
        return True


def _jobs(fleet: Fleet) -> list[Any]:
    listing = {job.id for job in fleet.list_batch_jobs() if job.state != "ended"}
    return [job for job in fleet.sightings() if job.id in listing]


def _facts(store: Store, folder: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(store.fs.read(f"{folder}/{FACTS}"))
    except (FileNotFoundError, ValueError):
        return None
    return found


def _events(store: Store, folder: str) -> list[_Event]:
    try:
        lines = store.fs.read(f"{folder}/{EVENTS}").decode("ascii", "replace").splitlines()
    except FileNotFoundError:
        return []
    words = (line.split() for line in lines)
    return [_Event(pair[0], float(pair[1])) for pair in words if len(pair) == 2]  # noqa: PLR2004


def _beats(store: Store, folder: str, silence: float) -> bool:
    """Whether the job has written recently, by the file server's clock."""
    status = store.fs.status(f"{folder}/{EVENTS}") if _events(store, folder) else None
    if status is None:
        return True  # it has just begun
    store.files.sync_clock()
    return store.clock.now() - status.st_mtime < silence


def _clear_up(store: Store, fleet: Fleet, folder: str, members: list[Member]) -> None:
    """Cancel the job if it is still there, and remove all files."""
    ids = [each for member in members if (each := fleet.files.ids(member.token).get(member.number))]
    if ids:
        fleet.end_jobs(ids)
    for member in fleet.files.slots.taken().values():
        fleet.files.free(member, None)
    for name in store.fs.names(folder):
        store.fs.discard(f"{folder}/{name}")
    store.fs.rmdir(folder)
    fleet.files.forget()


# -- judging ------------------------------------------------------------------------------------


def _findings(
    visit: _Visit | None, template: JobTemplate, profile: Profile, began: float, store: Store
) -> Iterator[Finding]:
    if visit is None:
        yield Finding(
            "start",
            Verdict.BAD,
            "the job has not started, or has ended without a report",
            "nothing is known about the nodes of this profile",
            "see why it waits in the batch system's own listing, or give --wait more time",
        )
        return
    started = max(0.0, min((event.at for event in visit.events), default=began) - began)
    yield _ok("start", f"on {visit.facts['node']}, after {started:.0f} s")
    yield _spool(visit, store.files.info.id)
    yield _code(visit)
    yield _python(visit)
    yield _end(visit)
    yield _cores(visit, profile)
    yield from _gpus(visit, profile)
    yield _warning(visit)
    yield from _kill_delay(visit, template.application.stop_grace)
    can = "can" if visit.facts["can_submit"] else "cannot"
    yield _ok("jobs from jobs", f"the node {can} submit jobs")
    yield _ok("arrays", f"at most {template.longest_array} jobs in a submission")


def _ok(name: str, measured: str) -> Finding:
    return Finding(name, Verdict.OK, measured, "")


def _spool(visit: _Visit, spool_id: str) -> Finding:
    if visit.facts["spool"] == spool_id:
        return _ok("spool", "the node sees the same spool")
    return Finding(
        "spool",
        Verdict.BAD,
        f"the node sees another directory: {visit.facts['spool']}",
        "workers there would never get a call",
        "use a root on a disk that is mounted there under the same path",
    )


def _code(visit: _Visit) -> Finding:
    if not visit.facts["import"]:
        return _ok("code", "the application can be imported")
    return Finding(
        "code",
        Verdict.BAD,
        f"the application cannot be imported: {visit.facts['import']}",
        "workers there would end at once",
        "put its folder on a shared disk, and load what it needs with setup lines of the profile",
    )


def _python(visit: _Visit) -> Finding:
    here, there = platform.python_version(), visit.facts["python"]
    if here.split(".")[:2] == there.split(".")[:2]:
        return _ok("python", there)
    return Finding(
        "python",
        Verdict.WEAK,
        f"Python {there} there, {here} here",
        "values that are pickled here may not load there",
        "set python in the profile to the interpreter of this version",
    )


def _end(visit: _Visit) -> Finding:
    if visit.facts["left"] is not None:
        return _ok("end of the job", f"known from {visit.facts['source']}")
    return Finding(
        "end of the job",
        Verdict.WEAK,
        "not known in the job",
        "workers claim calls until they are signalled or killed",
        "give workers --time-limit",
    )


def _cores(visit: _Visit, profile: Profile) -> Finding:
    cores = visit.facts["cores"]
    if cores == profile.cores:
        return _ok("cores", str(cores))
    return Finding(
        "cores",
        Verdict.WEAK,
        f"{cores} in the job, {profile.cores} in the profile",
        "workers run as many calls at a time as the job has cores",
    )


def _gpus(visit: _Visit, profile: Profile) -> Iterator[Finding]:
    names = visit.facts["gpus"]
    if profile.gpus and len(names) != profile.gpus:
        yield Finding(
            "gpus",
            Verdict.BAD,
            f"{len(names)} are visible, {profile.gpus} in the profile",
            "calls that need gpu= would not run, or share devices",
            "compare with what the site's documentation asks for, and use options",
        )
    elif names:
        yield _ok("gpus", ", ".join(names))


def _warning(visit: _Visit) -> Finding:
    at, last = visit.first("SIGUSR1", "SIGUSR2", "SIGXCPU"), visit.first("SIGTERM")
    if at is not None:
        before = "" if last is None else f", {last - at:.0f} s before SIGTERM"
        return _ok("warning", f"it arrived{before}")
    return Finding(
        "warning",
        Verdict.WEAK,
        "no signal announced the end",
        "workers go by their own clocks, which is enough where the end is known",
    )


def _kill_delay(visit: _Visit, grace: float) -> Iterator[Finding]:
    term = visit.first("SIGTERM")
    if term is None:
        yield Finding(
            "kill delay",
            Verdict.WEAK,
            "the job was killed without SIGTERM",
            "what runs when the job is cancelled loses an attempt",
        )
        return
    delay = visit.events[-1].at - term
    text = f"{delay:.0f} s between SIGTERM and SIGKILL"
    if delay < grace:
        text += f", less than workers need for their stop_grace of {format_duration(grace)}"
    yield _ok("kill delay", text)
