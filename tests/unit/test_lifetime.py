"""When a worker leaves by itself, on a clock of the test's own."""

from __future__ import annotations

import math

import pytest

from fsqueue.errors import ConfigError
from fsqueue.runner.job.lifetime import Allowance, Idleness, JobEnd, Terms
from fsqueue.runner.processes.job import this_host
from fsqueue.spool.fleets.records import usable_time

START = 1000.0


def ending_in(seconds: float, **keys) -> JobEnd:
    end = JobEnd(**keys)
    end.learn(START + seconds, START)
    return end


def first_closing(end: JobEnd) -> float:
    """Seconds before the end at which claiming stops, to a hundredth."""
    before = next(n for n in range(1, 10**6) if not end.closing(end.at - n / 100))
    return before / 100


# -- the end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "last_call"),
    [(14_400, 15), (120, 15), (60, 7.5), (8, 1), (0, 0), (-5, 0)],
    ids=["4h", "2m", "1m", "8s", "over", "long over"],
)
def test_the_last_call_is_15_s_before_the_end_or_an_eighth_of_a_short_limit(limit, last_call):
    end = ending_in(limit)
    assert end.at - end.last_call == last_call


@pytest.mark.parametrize(
    ("limit", "run_times", "margin"),
    [
        (14_400, [], 30),
        (14_400, [1.0] * 100, 30),
        (14_400, [600.0] * 100, 615),
        (14_400, [600.0] * 80 + [1.0] * 20, 615),
        (14_400, [600.0] * 9 + [1.0] * 91, 30),
        (14_400, [9000.0], 3600),
        (60, [], 15),
        (60, [59.0], 15),
        (8, [], 2),
        (14_400, [600.0] * 200 + [1.0] * 200, 30),
    ],
    ids=["none", "short", "long", "most", "few", "longest", "1m", "too long", "8s", "latest"],
)
def test_the_margin_covers_nine_of_ten_calls_within_bounds(limit, run_times, margin):
    end = ending_in(limit)
    for seconds in run_times:
        end.ran(seconds)
    assert end.margin == margin
    assert end.closes == START + limit - margin
    assert first_closing(end) == pytest.approx(margin, abs=0.02)


def test_a_call_of_the_ninetieth_percentile_ends_before_the_last_call():
    end = ending_in(14_400)
    for number in range(200):
        end.ran(float(number))
    latest = end.at - end.margin
    assert latest + 179.0 <= end.last_call


def test_a_margin_of_the_users_replaces_the_automatic_one():
    end = ending_in(14_400, margin=3600.0)
    end.ran(1.0)
    assert end.margin == 3600


def test_a_call_whose_time_is_known_needs_no_automatic_margin():
    end = ending_in(14_400)
    end.ran(9000.0)
    assert end.room(START) == 14_400 - 15
    assert end.room(START + 60) == 14_400 - 75
    assert ending_in(14_400, margin=600.0).room(START) == 13_800


def test_calls_with_a_timeout_wait_for_a_worker_with_more_time_if_any_can_have_it():
    now = this_host().monotonic()
    end = JobEnd()
    end.learn(now + 1000.0, now - 3000.0)  # 985 s of 3985 s are left
    left = end.time_left
    assert not left.lacks(900.0)
    assert left.lacks(1100.0)
    assert left.lacks(3100.0)
    assert not left.lacks(3200.0), "perhaps no worker would ever have that left"
    assert not JobEnd().time_left.lacks(1e9)


@pytest.mark.parametrize("walltime", [8.0, 60.0, 600.0, 3600.0, 14_400.0])
def test_what_fits_into_a_fleets_job_fits_into_its_worker(walltime):
    """Otherwise jobs would be submitted for calls that none of their workers claims."""
    start_up = min(60.0, walltime / 10)
    end = JobEnd()
    end.learn(START + walltime, START + start_up)
    end.ran(1e9)
    assert usable_time(walltime) <= end.room(START + start_up)


@pytest.mark.parametrize("margin", [0.0, 5.0])
def test_claiming_never_stops_after_the_last_call(margin):
    end = ending_in(14_400, margin=margin)
    assert end.margin == 15


def test_a_job_that_should_be_over_closes_at_once():
    assert ending_in(-5).closing(START).reason == "walltime"


def test_without_an_end_nothing_closes():
    end = JobEnd()
    end.ran(1e9)
    assert end.closing(1e12) is None
    assert end.last_call == end.room(1e12) == math.inf


# -- the number of calls ----------------------------------------------------------------------


def test_no_more_calls_than_allowed_are_reserved():
    allowance = Allowance(2)
    assert [allowance.reserve() for _ in range(3)] == [True, True, False]
    assert allowance.spent() is None, "they still run"
    allowance.settle(ran=True)
    assert not allowance.reserve()
    allowance.settle(ran=True)
    assert allowance.spent().reason == "max-tasks"


def test_a_claim_that_did_not_run_does_not_count():
    allowance = Allowance(1)
    assert allowance.reserve()
    allowance.settle(ran=False)
    assert allowance.spent() is None
    assert allowance.reserve()


def test_any_number_is_allowed_without_a_limit():
    allowance = Allowance(None)
    assert all(allowance.reserve() for _ in range(1000))
    allowance.settle(ran=True)
    assert allowance.spent() is None


# -- idleness -----------------------------------------------------------------------------------


def test_an_idle_worker_leaves_after_its_timeout():
    idleness = Idleness(Terms(idle_timeout=5.0), START)
    idleness.since = START + 3
    assert idleness.next_check == START + 8
    assert idleness.leaving(START + 7.9, START + 7) is None
    assert idleness.leaving(START + 8, START + 7).reason == "idle"


def test_empty_queues_count_only_if_searched_after_the_last_call():
    idleness = Idleness(Terms(until_empty=True), START)
    idleness.since = START + 3
    assert idleness.leaving(START + 9, START + 2) is None
    assert idleness.leaving(START + 9, START + 4).reason == "until-empty"
    assert idleness.next_check == math.inf


def test_by_default_an_idle_worker_stays():
    idleness = Idleness(Terms(), START)
    assert idleness.leaving(1e9, 1e9) is None


# -- terms ----------------------------------------------------------------------------------------


def test_durations_are_numbers_or_texts():
    terms = Terms.checked(
        time_limit="1-02:00:00", stop_margin=" 40M", idle_timeout=90, max_tasks=3, until_empty=True
    )
    assert terms == Terms(
        time_limit=93_600.0, stop_margin=2400.0, idle_timeout=90.0, max_tasks=3, until_empty=True
    )


def test_words_stand_for_the_job_and_for_none():
    assert Terms.checked(time_limit="auto", stop_margin="Auto") == Terms(time_limit="auto")
    assert Terms.checked(time_limit="none", idle_timeout="none") == Terms()


@pytest.mark.parametrize(
    "given",
    [
        {"time_limit": "10:00"},
        {"time_limit": 0},
        {"time_limit": -5},
        {"time_limit": "soon"},
        {"time_limit": True},
        {"stop_margin": "none"},
        {"stop_margin": float("nan")},
        {"idle_timeout": 0},
        {"idle_timeout": "auto"},
        {"max_tasks": 0},
        {"max_tasks": 2.5},
        {"max_tasks": True},
    ],
    ids=str,
)
def test_a_bad_value_is_named(given):
    (name,) = given
    with pytest.raises(ConfigError, match=f"{name} = "):
        Terms.checked(**given)
