"""Decides what an autoscaler does: a pure function from a snapshot to decisions with reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fsqueue.spool.fleets.records import usable_time
from fsqueue.spool.format.resources import NONE, covers, demand_in_words, times, with_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.launch.pace import Pace
    from fsqueue.launch.sightings import JobInfo
    from fsqueue.spool.fleets.records import Member, PastRecord
    from fsqueue.spool.format.resources import Amounts

# A fleet is paused after this many jobs in a row that ended early, or refused submissions.
MOST_DEATHS = 3
MOST_REFUSALS = 10
# A waiting job is cancelled when it has not been needed for this many ticks.
_TICKS = 2


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Due calls of one queue that need the same resources."""

    queue: str
    """Folder name of the queue, without a profile."""
    due: int
    needs: Amounts = field(default_factory=lambda: NONE)
    walltime: float = 0.0
    """Seconds that one of them may take; 0: not known."""

    def __str__(self) -> str:
        return demand_in_words(self.due, self.queue, with_time(self.needs, self.walltime or None))


@dataclass(frozen=True, kw_only=True)
class Supply:
    """A live worker, of any kind."""

    queues: tuple[str, ...]
    free: int
    """Slots without a call."""
    slots: int
    resources: Amounts = field(default_factory=lambda: NONE)
    left: float = math.inf
    """Seconds until its job ends, less its margin."""


@dataclass(frozen=True, kw_only=True)
class FleetView:
    """A fleet at one moment.

    Args:
        name: its name.
        queues: folder names of the queues that its workers serve.
        walltime: time limit of a job, in seconds; 0: none.
        slots: calls that a job runs at a time.
        resources: the resources of a worker.
        min: jobs to keep.
        max: jobs that may exist.
        backlog: jobs that may wait.
        jobs: the jobs that have slots.
        past: how the jobs since the last `resume` ended, the latest last.
        stopped: an operator has stopped it, so nothing is submitted.
        paused: the reason, if it was paused after failures or by an operator: nothing is submitted.
        unneeded_for: for how many seconds more jobs have waited than are needed; None: no more do.
        now: the present time, on the clock of `past`.
    """

    name: str
    queues: tuple[str, ...]
    walltime: float
    slots: int
    max: int
    min: int = 0
    backlog: int = 2
    resources: Amounts = field(default_factory=lambda: NONE)
    jobs: tuple[JobInfo, ...] = ()
    past: tuple[PastRecord, ...] = ()
    stopped: bool = False
    paused: str | None = None
    unneeded_for: float | None = None
    now: float = 0.0

    @property
    def usable(self) -> float:
        """Seconds of a job in which calls can run: its time limit less start-up and margin."""
        return usable_time(self.walltime)

    def at_once(self, demand: Demand) -> int:
        """How many of these calls one job can run at a time; 0 if it cannot run them."""
        fits = demand.queue in self.queues and demand.walltime <= self.usable
        if not fits or not covers(self.resources, demand.needs):
            return 0
        most = times(self.resources, demand.needs)
        return self.slots if most is None else min(self.slots, most)

    def in_state(self, *states: str) -> list[JobInfo]:
        """Jobs in one of these states."""
        return [job for job in self.jobs if job.state in states]


Action = Literal["submit", "cancel", "pause", "unneeded", "needed", "wait"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do about one fleet, and why."""

    fleet: str
    action: Action
    why: str
    count: int = 0
    """Jobs to submit."""
    members: tuple[Member, ...] = ()
    """Jobs to cancel."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The input of a decision: due calls, live workers and fleets."""

    demands: Sequence[Demand]
    supplies: Sequence[Supply]
    fleets: Sequence[FleetView]
    """In the order in which they get the demand."""


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What to do, and which calls no worker or fleet can run."""

    decisions: tuple[Decision, ...]
    uncovered: tuple[Demand, ...]


def decide(snapshot: Snapshot, pace: Pace) -> Decisions:
    """Decide what to submit and what to cancel.

    Free slots of live workers take the demand first. What remains goes to the fleets in their
    order, to each as much as its `max` jobs can run at a time.
    """
    left = _after_supplies(snapshot)
    decisions = []
    for fleet in snapshot.fleets:
        if fleet.paused is not None and any(calls and fleet.at_once(each) for each, calls in left):
            why = f"paused: {fleet.paused}"
            decisions.append(Decision(fleet=fleet.name, action="wait", why=why))
        wanted = _take(fleet, left)
        decisions += _decide_one(fleet, wanted, pace)
    uncovered = [each for each in snapshot.demands if each.due and not _can_run(each, snapshot)]
    return Decisions(decisions=tuple(decisions), uncovered=tuple(uncovered))


def _can_run(demand: Demand, snapshot: Snapshot) -> bool:
    return any(fleet.at_once(demand) for fleet in snapshot.fleets) or any(
        _may_take(each, demand) for each in snapshot.supplies
    )


def _may_take(supply: Supply, demand: Demand) -> bool:
    fits = demand.queue in supply.queues and demand.walltime <= supply.left
    return fits and covers(supply.resources, demand.needs)


def _after_supplies(snapshot: Snapshot) -> list[tuple[Demand, float]]:
    """The calls that remain after live workers have filled their free slots."""
    free = [each.free for each in snapshot.supplies]
    left = []
    for demand in snapshot.demands:
        rest = demand.due
        for number, supply in enumerate(snapshot.supplies):
            if _may_take(supply, demand):
                most = times(supply.resources, demand.needs)
                taken = min(rest, free[number], free[number] if most is None else most)
                free[number] -= taken
                rest -= taken
        left.append((demand, float(rest)))
    return left


def _take(fleet: FleetView, left: list[tuple[Demand, float]]) -> int:
    """The number of jobs that a fleet needs besides those that run; subtracts their calls."""
    room = float(fleet.max - len(fleet.in_state("running", "ending")))
    if fleet.stopped or fleet.paused is not None:
        room = float(len(fleet.in_state("waiting", "starting", "submitting")))
    wanted = 0.0
    for number, (demand, calls) in enumerate(left):
        at_once = fleet.at_once(demand)
        if not at_once or not calls or wanted >= room:
            continue
        jobs = min(calls / at_once, room - wanted)
        wanted += jobs
        left[number] = (demand, calls - jobs * at_once)
    return math.ceil(wanted - 1e-9)  # a rounding error must not add a job


def _decide_one(fleet: FleetView, wanted: int, pace: Pace) -> list[Decision]:
    waiting = fleet.in_state("waiting", "submitting")
    started = fleet.in_state("running", "starting")
    wanted = max(wanted - len(fleet.in_state("starting")), fleet.min - len(started))
    if fleet.stopped:
        wanted = 0
    elif fleet.paused is not None:
        wanted = min(wanted, len(waiting))
    if len(waiting) > max(0, wanted):
        return _too_many(fleet, max(0, wanted), pace)
    found = []
    if fleet.unneeded_for is not None:
        found.append(Decision(fleet=fleet.name, action="needed", why="all waiting jobs are needed"))
    if wanted > len(waiting):
        found.append(_too_few(fleet, wanted - len(waiting), pace))
    return found


def _too_many(fleet: FleetView, wanted: int, pace: Pace) -> list[Decision]:
    """Cancel waiting jobs that have not been needed for a while, starting with the last ones."""
    waiting = [job for job in fleet.in_state("waiting") if job.id]
    surplus = len(fleet.in_state("waiting", "submitting")) - wanted
    why = f"{surplus} waiting jobs are not needed"
    if not fleet.stopped:
        if fleet.unneeded_for is None:
            return [Decision(fleet=fleet.name, action="unneeded", why=why)]
        if fleet.unneeded_for < _TICKS * pace.tick:
            return []
    members = tuple(job.member for job in reversed(waiting))[:surplus]
    return [Decision(fleet=fleet.name, action="cancel", why=why, members=members)] * bool(members)


def _too_few(fleet: FleetView, missing: int, pace: Pace) -> Decision:
    def wait(why: str) -> Decision:
        return Decision(fleet=fleet.name, action="wait", why=why)

    if (failed := _failures(fleet, pace)) is not None:
        return failed
    room = fleet.max - len(fleet.jobs)
    slack = fleet.backlog - len(fleet.in_state("waiting", "submitting"))
    step = _step(fleet)
    if room <= 0:
        return wait(f"there are {len(fleet.jobs)} jobs, the most that max allows")
    if slack <= 0:
        return wait(f"{fleet.backlog} jobs are waiting, the most that backlog allows")
    if step <= 0:
        return wait("the first job has not started its worker yet")
    count = min(missing, room, slack, step)
    jobs = "1 more job is" if missing == 1 else f"{missing} more jobs are"
    return Decision(fleet=fleet.name, action="submit", count=count, why=f"{jobs} needed")


def _step(fleet: FleetView) -> int:
    """The most jobs to submit now: 1 until a job has worked, then as many as there are already."""
    last = next((past for past in reversed(fleet.past) if past.kind != "cancelled"), None)
    if not fleet.in_state("running") and (last is None or last.kind not in _GOOD):
        return 1 - len(fleet.in_state("waiting", "submitting", "starting"))
    return max(1, len(fleet.jobs))


_GOOD = frozenset({"idle", "walltime", "drained", "done"})


def _failures(fleet: FleetView, pace: Pace) -> Decision | None:
    """The decision to submit nothing after failures, for some time or until `resume`; or None."""
    deaths = refusals = 0
    last: PastRecord | None = None
    for past in reversed(fleet.past):
        if past.kind in _GOOD:
            break
        if past.kind in {"young", "refused"}:
            last = last or past
            deaths += past.kind == "young"
            refusals += past.kind == "refused"
    if last is None:
        return None
    if deaths >= MOST_DEATHS or refusals >= MOST_REFUSALS:
        what = f"{deaths} jobs ended" if deaths >= MOST_DEATHS else f"{refusals} were refused"
        why = f"{what} in a row, the last one: {last.detail or last.kind}"
        return Decision(fleet=fleet.name, action="pause", why=why)
    pause = min(pace.longest_back_off, pace.back_off * 2 ** (deaths + refusals - 1))
    rest = pause - (fleet.now - last.at)
    if rest <= 0:
        return None
    why = f"the last job failed ({last.detail or last.kind}): trying again in {rest:.0f} s"
    return Decision(fleet=fleet.name, action="wait", why=why)
