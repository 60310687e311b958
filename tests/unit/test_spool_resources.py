"""Amounts of resources, and the names of folders that they make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.spool.format.names import folder_of, is_queue_name, queue_folder, split_profile
from fsqueue.spool.format.resources import (
    NONE,
    amounts,
    covers,
    given_amounts,
    in_words,
    needs_of,
    profile_of,
    profile_with_walltime,
    times,
    walltime_of,
)


@pytest.mark.parametrize(
    ("given", "profile"),
    [
        ({"gpu": 1, "mem": "64G"}, "gpu-1_mem-64G"),
        ("mem=65536M, gpu=1.0", "gpu-1_mem-64G"),
        (["mem=68719476736", "gpu=1"], "gpu-1_mem-64G"),
        ({"mem": 1.5}, "mem-1p5"),
        ("mem=1.5G", "mem-1536M"),
        ("p2=0.25 ppp=1", "p2-0p25_ppp-1"),
        ("gpu=0", ""),
        ("", ""),
    ],
)
def test_equal_needs_have_one_profile(given, profile):
    assert profile_of(amounts(given)) == profile
    assert needs_of(profile) == amounts(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"GPU": 1}, "'GPU': expected a name of small letters and digits"),
        ({"a-b": 1}, "'a-b': expected a name"),
        ({"gpu": -1}, "gpu=-1: expected a number"),
        ({"gpu": True}, "gpu=True: expected a number"),
        ({"gpu": float("nan")}, "gpu=nan"),
        ({"gpu": 0.0001}, "gpu=0.0001: expected a number with up to three decimals"),
        ({"gpu": None}, "gpu=None"),
        ("gpu", "gpu=: expected a number"),
        ("gpu=1 gpu=2", "gpu is given twice"),
        ({"a" * 70: 1}, "is longer than 64 characters"),
    ],
)
def test_what_is_no_amount_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        profile_of(amounts(given))


@pytest.mark.parametrize("text", ["mem-64G_gpu-1", "gpu-1024", "gpu-01", "gpu", "gpu-1_", "x"])
def test_another_spelling_is_no_profile(text):
    assert needs_of(text) is None


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), st.integers(1, 10**18), max_size=2
    )
)
def test_profiles_are_read_back(held):
    profile = profile_of(held)
    assert needs_of(profile) == held
    assert amounts(in_words(held)) == held
    folder = queue_folder("app", "gpu-1", profile)
    assert is_queue_name(folder)
    assert split_profile(folder) == ("app.gpu-1", profile)
    assert folder_of(f"/root/pending/{folder}/4.1/abcd-1.1") == folder


def test_amounts_are_compared():
    held = amounts("gpu=2 mem=10")
    assert covers(held, amounts("mem=10"))
    assert not covers(held, amounts("mem=10.001"))
    assert not covers(held, amounts("disk=1"))
    assert times(held, amounts("gpu=1 mem=4")) == 2
    assert times(held, {}) is None


# -- walltimes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "rounded"),
    [
        *((0.5, 60), (60, 60), (60.1, 120), (1500, 1800), (3601, 7200), (86_401, 172_800)),
        *((604_800, 604_800), (604_801, 1_209_600), (3_153_600_000, 3_154_032_000)),
    ],
)
def test_a_walltime_is_rounded_up_to_few_steps(seconds, rounded):
    profile = profile_with_walltime("gpu-1", seconds)
    assert profile == f"gpu-1_walltime-{rounded}"
    assert walltime_of(needs_of(profile)) == rounded
    assert needs_of(profile_with_walltime("", seconds)) == {"walltime": rounded * 1000}


def test_a_walltime_is_compared_with_the_time_left_and_not_used_up():
    needed = needs_of(profile_with_walltime("gpu-1", 1800))
    assert covers(amounts("gpu=1"), needed), "without a limit, time is endless"
    assert covers(amounts("gpu=1 walltime=1800"), needed)
    assert not covers(amounts("gpu=1 walltime=1799"), needed)
    assert not covers(amounts("walltime=1800"), needed)
    assert times(amounts("gpu=3"), needed) == 3
    assert times({}, needs_of("walltime-60")) is None
    assert in_words(needed) == "gpu=1 walltime=30m"
    assert amounts(in_words(needed)) == needed


def test_no_resource_may_be_called_walltime():
    with pytest.raises(ValueError, match="walltime is not a resource"):
        given_amounts("gpu=1 walltime=60")
    assert given_amounts("gpu=1") == amounts("gpu=1")


def test_an_older_worker_leaves_calls_with_a_walltime_alone():
    """It reads the profile as that of a resource; with as much of that, it runs such calls."""

    def older_covers(held, needed):
        return all(held.get(name, 0) >= amount for name, amount in needed.items())

    profile = profile_with_walltime("", 1500)
    needed = amounts(profile.replace("-", "=").replace("_", " "))
    assert profile_of(needed) == profile, "an older worker does not take it for damaged"
    assert not older_covers(amounts("gpu=1 mem=64G"), needed)
    assert older_covers(amounts("walltime=86400"), needed)


@pytest.mark.parametrize("resources", ["", "gpu=1"])
def test_a_pool_does_not_count_time(resources):
    left = [1800.0]
    pool = ResourcePool(amounts(resources), time_left=lambda: left[0])
    needed = needs_of("walltime-1800")
    assert pool.fits(needed)
    assert pool.has(needed)
    assert pool.take("a", needed)
    assert pool.fits(needed), "a running call does not use it up"
    left[0] = 10.0
    assert not pool.fits(needed)
    assert pool.fits(NONE)
    assert pool.take("nested", needed, "a"), "a waiting body runs it in its place"
    pool.give("a")


# -- who holds them ---------------------------------------------------------------------------


@pytest.fixture
def freed():
    return []


@pytest.fixture
def budget(freed):
    return ResourcePool(amounts("gpu=2"), lambda: freed.append(1))


def test_what_is_held_is_not_there_twice(budget, freed):
    one = amounts("gpu=1")
    assert budget.take("a", one)
    assert not budget.take("a", one), "another thread tries the same call"
    assert budget.take("b", one)
    assert budget.take("none", {})
    assert not budget.has(one)
    assert not budget.take("c", one)
    budget.give("none")
    budget.give("c")
    assert not freed
    budget.give("a")
    budget.give("a")
    assert len(freed) == 1
    assert budget.take("c", one)
    assert not budget.take("d", amounts("mem=1"))


def test_a_body_that_waits_lends_what_it_holds(budget):
    assert budget.take("outer", amounts("gpu=2"))
    assert budget.take("inner", amounts("gpu=2"), "outer")
    assert budget.take("innermost", amounts("gpu=1"), "inner")
    assert not budget.take("beside", amounts("gpu=1"), "outer"), "lent once"
    budget.give("inner")
    assert budget.take("beside", amounts("gpu=1"), "outer")
    budget.give("outer")
    assert budget.has(amounts("gpu=2")), "all within ended too"


def test_a_body_that_holds_nothing_has_calls_that_do(budget):
    assert budget.take("outer", {})
    assert budget.take("inner", amounts("gpu=2"), "outer")
    assert not budget.has(amounts("gpu=1"))
    budget.give("outer")
    assert budget.has(amounts("gpu=2"))
