"""What the autoscaler decides; many rows are failures that users of other pools have reported."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fsqueue.launch.autoscaling.decisions import Demand, FleetView, Snapshot, Supply, decide
from fsqueue.launch.pace import Pace
from fsqueue.launch.sightings import JobInfo
from fsqueue.spool.fleets.records import Member, PastRecord
from fsqueue.spool.format.resources import amounts

QUEUE = "t.default"
FLEET = FleetView(
    name="cpu", queues=(QUEUE,), walltime=14_400, slots=4, max=20, backlog=20, now=1000.0
)


def jobs(**counts):
    """As many jobs in each state."""
    states = [state for state, count in counts.items() for _ in range(count)]
    return tuple(
        JobInfo(Member("aaaaaa", number), state, "" if state == "submitting" else f"7_{number}")
        for number, state in enumerate(states, 1)
    )


def past(*kinds, at=0.0):
    return tuple(PastRecord(kind=kind, at=at, detail=f"as {kind}") for kind in kinds)


def calls(due, **needs):
    walltime = needs.pop("walltime", 0.0)
    return Demand(queue=QUEUE, due=due, needs=amounts(needs), walltime=walltime)


def decisions(demand=0, supplies=(), fleet=FLEET, **changes):
    demands = [calls(demand)] if isinstance(demand, int) else demand
    snapshot = Snapshot(demands=demands, supplies=supplies, fleets=[replace(fleet, **changes)])
    return decide(snapshot, Pace(tick=30, back_off=30)).decisions


def submitted(*args, **kwargs):
    return sum(each.count for each in decisions(*args, **kwargs) if each.action == "submit")


def only(*args, **kwargs):
    (decision,) = decisions(*args, **kwargs)
    return decision


# -- how many -----------------------------------------------------------------------------------


def test_without_demand_nothing_is_submitted():
    assert decisions(0) == ()


def test_the_first_job_is_a_try_however_many_calls_wait():
    assert submitted(1000) == 1
    assert submitted(1000, jobs=jobs(submitting=1)) == 0
    assert submitted(1000, jobs=jobs(waiting=1)) == 0
    assert submitted(1000, jobs=jobs(starting=1)) == 0
    assert only(1000, jobs=jobs(waiting=1)).why == "the first job has not started its worker yet"


@pytest.mark.parametrize(("born", "more"), [(1, 1), (2, 2), (4, 4), (8, 8), (16, 4)])
def test_once_a_job_works_the_number_doubles_up_to_max(born, more):
    assert submitted(1000, jobs=jobs(running=born)) == more


def test_a_fleet_that_has_worked_before_still_begins_with_one_job():
    assert submitted(1000, past=past("idle")) == 1


def test_jobs_are_counted_by_the_calls_that_each_runs_at_a_time():
    assert submitted(4, jobs=jobs(running=8)) == 1
    assert submitted(5, jobs=jobs(running=8)) == 2
    assert submitted([calls(2, gpu=1)], jobs=jobs(running=8), resources=amounts("gpu=1")) == 2


def test_free_slots_of_live_workers_come_first():
    worker = Supply(queues=(QUEUE,), free=3, slots=4)
    assert submitted(3, [worker]) == 0
    assert submitted(4, [worker]) == 1


def test_workers_of_other_queues_and_without_the_resources_are_no_supply():
    assert submitted(3, [Supply(queues=("t.other",), free=8, slots=8)]) == 1
    gpu = replace(FLEET, resources=amounts("gpu=4"))
    assert submitted([calls(3, gpu=1)], [Supply(queues=(QUEUE,), free=8, slots=8)], gpu) == 1


def test_a_worker_whose_job_ends_too_soon_is_no_supply():
    demand = [calls(1, walltime=1800)]
    assert submitted(demand, [Supply(queues=(QUEUE,), free=4, slots=4, left=600)]) == 1
    assert submitted(demand, [Supply(queues=(QUEUE,), free=4, slots=4, left=3600)]) == 0


def test_one_slot_is_not_counted_for_two_queues():
    worker = Supply(queues=(QUEUE, "t.large"), free=1, slots=1)
    demands = [calls(1), Demand(queue="t.large", due=1)]
    assert submitted(demands, [worker], queues=(QUEUE, "t.large")) == 1


def test_jobs_that_wait_or_start_count_before_they_are_born():
    assert submitted(12, jobs=jobs(running=1, waiting=1, starting=1, submitting=1)) == 0


@pytest.mark.parametrize("running", [0, 3, 20])
def test_there_are_never_more_than_max(running):
    assert submitted(10_000, jobs=jobs(running=running), max=4) <= max(0, 4 - running)


def test_at_most_backlog_jobs_wait():
    assert submitted(100, jobs=jobs(running=4, waiting=1), backlog=2) == 1
    assert only(100, jobs=jobs(running=4, waiting=2), backlog=2).action == "wait"


def test_at_least_min_jobs_are_kept():
    assert submitted(0, min=2, past=past("idle")) == 1
    assert submitted(0, min=2, jobs=jobs(running=1)) == 1
    assert decisions(0, min=2, jobs=jobs(running=1, waiting=1)) == ()


# -- fit ----------------------------------------------------------------------------------------


def uncovered(*demands, fleet=FLEET, supplies=()):
    snapshot = Snapshot(demands=demands, supplies=supplies, fleets=[fleet])
    return [str(each) for each in decide(snapshot, Pace()).uncovered]


def test_calls_that_no_job_can_run_are_told_and_not_submitted_for():
    """HyperQueue: endless submissions for calls that cannot fit."""
    demand = calls(12, gpu=8, walltime=21_600)
    assert submitted([demand]) == 0
    assert uncovered(demand) == ["12 calls of queue default need gpu=8 and 6h"]


def test_a_call_needs_a_job_that_is_longer_by_the_margin_and_the_start():
    fits = replace(FLEET, walltime=3600.0)
    assert submitted([calls(1, walltime=3500)], fleet=fits) == 1
    assert submitted([calls(1, walltime=3600)], fleet=fits) == 0
    assert uncovered(calls(1, walltime=3600), fleet=fits) == ["1 call of queue default needs 1h"]


def test_a_worker_that_was_started_by_hand_covers_calls_too():
    worker = Supply(queues=(QUEUE,), free=0, slots=1, resources=amounts("gpu=8"), left=math.inf)
    assert uncovered(calls(1, gpu=8), supplies=[worker]) == []


def test_demand_that_the_first_fleet_has_no_room_for_goes_to_the_next():
    small = replace(FLEET, name="small", max=1, jobs=jobs(running=1))
    snapshot = Snapshot(demands=[calls(4)], supplies=[], fleets=[small, FLEET])
    found = decide(snapshot, Pace()).decisions
    assert [(each.fleet, each.action) for each in found] == [("cpu", "submit")]


def test_demand_that_the_first_fleet_takes_does_not_go_to_the_next_too():
    other = replace(FLEET, name="other")
    snapshot = Snapshot(demands=[calls(4)], supplies=[], fleets=[FLEET, other])
    found = decide(snapshot, Pace()).decisions
    assert [(each.fleet, each.count) for each in found] == [("cpu", 1)]


def test_calls_that_need_gpus_do_not_go_to_a_fleet_without():
    gpu = replace(FLEET, name="gpu", resources=amounts("gpu=4"))
    snapshot = Snapshot(demands=[calls(1, gpu=1)], supplies=[], fleets=[FLEET, gpu])
    assert [each.fleet for each in decide(snapshot, Pace()).decisions] == ["gpu"]


# -- too many -----------------------------------------------------------------------------------


def test_waiting_jobs_that_are_not_needed_for_two_ticks_are_cancelled_the_last_ones_first():
    waiting = jobs(waiting=3)
    assert only(4, jobs=waiting).action == "unneeded"
    assert decisions(4, jobs=waiting, unneeded_for=59.0) == ()
    decision = only(4, jobs=waiting, unneeded_for=60.0)
    assert decision.action == "cancel"
    assert [member.number for member in decision.members] == [3, 2]


def test_jobs_that_are_needed_again_stay():
    assert only(12, jobs=jobs(waiting=3), unneeded_for=45.0).action == "needed"


def test_running_jobs_are_never_cancelled():
    assert decisions(0, jobs=jobs(running=5, starting=2), unneeded_for=1e6) != ()
    found = decisions(0, jobs=jobs(running=5, starting=2), unneeded_for=1e6)
    assert [each.action for each in found] == ["needed"]


def test_the_waiting_jobs_of_a_stopped_fleet_are_cancelled_at_once():
    decision = only(100, jobs=jobs(waiting=2, running=1), stopped=True)
    assert (decision.action, len(decision.members)) == ("cancel", 2)


def test_a_stopped_fleet_takes_no_demand_from_others():
    stopped = replace(FLEET, name="stopped", stopped=True)
    snapshot = Snapshot(demands=[calls(4)], supplies=[], fleets=[stopped, FLEET])
    assert [each.fleet for each in decide(snapshot, Pace()).decisions] == ["cpu"]


# -- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("deaths", "seconds"), [(1, 30), (2, 60)])
def test_after_a_young_death_it_waits_twice_as_long_each_time(deaths, seconds):
    last = past(*["young"] * deaths, at=1000.0)
    assert only(4, past=last, now=1000.0 + seconds - 1).action == "wait"
    assert submitted(4, past=last, now=1000.0 + seconds) == 1


def test_three_young_deaths_in_a_row_pause_the_fleet_with_the_reason():
    decision = only(4, past=past("young", "young", "young"))
    assert decision.action == "pause"
    assert decision.why == "3 jobs ended in a row, the last one: as young"


def test_ten_refused_submissions_pause_the_fleet():
    assert submitted(4, past=past(*["refused"] * 4), now=1e6) == 1
    assert only(4, past=past(*["refused"] * 10), now=1e6).action == "pause"


def test_the_pause_is_at_most_half_an_hour():
    last = past(*["refused"] * 9, at=0.0)
    assert only(4, past=last, now=1799.0).action == "wait"
    assert submitted(4, past=last, now=1800.0) == 1


@pytest.mark.parametrize("kind", ["idle", "walltime", "drained", "vanished", "cancelled"])
def test_ends_that_are_nobodys_failure_do_not_count(kind):
    """HyperQueue and crew pause their pools when jobs are preempted or leave for want of work."""
    assert submitted(4, past=past(*[kind] * 10)) == 1


@pytest.mark.parametrize("kind", ["idle", "walltime", "drained", "done"])
def test_a_job_that_worked_ends_a_row_of_failures(kind):
    assert submitted(4, past=past("young", "young", kind, "young"), now=31.0) == 1


def test_a_cancelled_job_does_not_hide_failures():
    assert only(4, past=past("young", "young", "cancelled", "young")).action == "pause"


def test_a_paused_fleet_says_why_and_submits_nothing():
    decision = only(4, paused="3 jobs ended in a row")
    assert (decision.action, decision.why) == ("wait", "paused: 3 jobs ended in a row")


def test_jobs_that_wait_when_a_fleet_is_paused_stay_if_they_are_needed():
    assert [each.action for each in decisions(8, jobs=jobs(waiting=2), paused="why")] == ["wait"]
    found = decisions(0, jobs=jobs(waiting=2), paused="why", min=5)
    assert found == ()


def test_a_submission_says_how_many_jobs_are_needed():
    assert only(100, jobs=jobs(running=2)).why == "18 more jobs are needed"
