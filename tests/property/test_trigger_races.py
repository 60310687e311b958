"""Two workers fire triggers at once: one does all of its work in the middle of the other's."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
from sweep import LOCAL, NO_LINKS
from trigger_sweep import TRIGGERS, Side


@pytest.mark.parametrize("step", [step for step in TRIGGERS if step.name != "emit"], ids=str)
def test_another_worker_does_the_same_in_the_middle(folder, step):
    """It does all of it before some filesystem call of the first one; and more ticks."""
    for number in itertools.count(1):
        root = f"{folder}/{number}"
        step.begin(root)
        side, other = Side(root, ahead=step.ahead), Side(root, ahead=2 * step.ahead)
        overtake = other.take_over if step.name == "end-of-call" else partial(step.act, other)
        side.fs.inject()
        side.fs.interrupt(number, overtake)
        step.act(side)
        interrupted = side.fs._action is None
        side.close()
        other.close()
        step.finish((root, LOCAL))
        if not interrupted:
            break


def test_what_a_round_left_out_does_not_count_for_the_next_one(folder):
    """Another worker leaves it out and begins the next round, while the first one looks at it."""
    for number in itertools.count(1):
        side, other = Side(f"{folder}/{number}"), Side(f"{folder}/{number}")
        side.emit("one")
        side.attend()
        side.emit("one")

        def overtake(other: Side = other) -> None:
            other.attend()
            other.emit("two")
            other.attend()

        side.fs.inject()
        side.fs.interrupt(number, overtake)
        side.attend()
        interrupted = side.fs._action is None
        side.fs.heal()
        side.emit("two")
        side.attend()
        assert len(side.made()["both"]) == 1
        side.close()
        other.close()
        if not interrupted:
            break


@pytest.mark.parametrize("step", TRIGGERS, ids=str)
def test_without_hard_links_and_faults(folder, step):
    step.begin(folder + "/spool")
    for run in (step.act, step.act, step.check):
        if run is step.act and step.name == "emit":
            continue
        side = Side(folder + "/spool", ahead=step.ahead, habits=NO_LINKS.habits)
        run(side)
        side.close()
