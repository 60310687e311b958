"""GPUs by name: which calls get which."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.spool.format.resources import amounts


def pool(count=2, more=""):
    names = tuple(map(str, range(count)))
    return ResourcePool(amounts(f"gpu={count} {more}"), devices=names)


def take(budget, name, gpus, within=""):
    """The GPUs that a call gets; None if it gets none."""
    if not budget.take(name, amounts({"gpu": gpus}), within):
        return None
    return budget.devices(name)


def test_each_call_gets_a_gpu_of_its_own():
    budget = pool()
    assert [take(budget, name, 1) for name in "abc"] == [("0",), ("1",), None]
    budget.give("a")
    assert budget.devices("a") == ()
    assert take(budget, "c", 1) == ("0",)


def test_halves_share_one_gpu_and_leave_the_others_whole():
    budget = pool()
    assert [take(budget, name, 0.5) for name in "ab"] == [("0",), ("0",)]
    assert take(budget, "c", 1) == ("1",)
    assert take(budget, "d", 0.5) is None
    budget.give("a")
    budget.give("c")
    assert take(budget, "d", 0.5) == ("0",), "not the one that is whole"
    assert take(budget, "e", 1) == ("1",)


def test_a_call_that_needs_two_gets_two_whole_ones():
    budget = pool(3)
    assert take(budget, "half", 0.5) == ("0",)
    assert take(budget, "two", 2) == ("1", "2")
    assert take(budget, "one", 1) is None
    budget.give("half")
    assert take(budget, "part", 0.3) == ("0",)
    budget.give("two")
    assert take(budget, "more", 1.5) == ("0", "1"), "a whole one, and a share of the used one"


def test_what_is_free_in_pieces_is_not_a_whole_gpu():
    budget = pool()
    for name in "abc":
        assert take(budget, name, 0.6) == {"a": ("0",), "b": ("1",)}.get(name)
    assert not budget.has(amounts("gpu=0.5"))
    assert budget.has(amounts("gpu=0.4"))
    assert budget.fits(amounts("gpu=2"))
    assert not budget.has(amounts("gpu=1"))


def test_other_resources_are_counted_as_before():
    budget = pool(2, "mem=10")
    assert budget.take("a", amounts("gpu=1 mem=8"))
    assert not budget.take("b", amounts("gpu=1 mem=3"))
    assert budget.devices("b") == ()
    assert budget.take("b", amounts("gpu=1 mem=2"))
    assert budget.take("none", amounts("mem=0"))
    assert budget.devices("none") == ()


def test_a_nested_call_gets_the_gpu_of_the_waiting_one():
    budget = pool()
    assert take(budget, "other", 1) == ("0",)
    assert take(budget, "outer", 1) == ("1",)
    assert take(budget, "inner", 1, "outer") == ("1",)
    assert take(budget, "innermost", 0.5, "inner") == ("1",)
    assert take(budget, "beside", 0.5, "outer") is None, "it is lent once"
    budget.give("inner")
    assert take(budget, "beside", 0.5, "outer") == ("1",)
    assert take(budget, "wide", 2, "other") is None
    budget.give("outer")
    assert take(budget, "wide", 2, "other") == ("0", "1"), "its own, and a free one"


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_no_gpu_is_ever_given_twice(seed, count):
    choose = random.Random(seed)
    budget = pool(count)
    held = {}
    for number in range(60):
        if held and choose.random() < 0.45:
            name = choose.choice(sorted(held))
            budget.give(name)
            del held[name]
            continue
        needed = choose.choice([0.25, 0.5, 0.75, 1, 2])
        could = budget.has(amounts({"gpu": needed}))
        found = take(budget, str(number), needed)
        assert (found is not None) == could, "what is said to be free can be taken"
        if found is None:
            continue
        held[str(number)] = needed
        shares = Counter()
        for name, amount in held.items():
            shares.update(dict.fromkeys(budget.devices(name), min(1, amount)))
        assert max(shares.values()) <= 1
        assert sum(shares.values()) == sum(held.values())
