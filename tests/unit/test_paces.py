"""Paces of workers: fair for any mix of tasks, and not upset by a single long call."""

from __future__ import annotations

import pytest

from fsqueue.spool.history import sketch
from fsqueue.spool.history.entries import Sums, TaskSums
from fsqueue.spool.history.paces import Paces

HOUR = 3600.0


def line(until=HOUR / 2, **runs):
    """A line with run times by task."""
    tasks = {}
    for task, seconds in runs.items():
        tasks[task] = TaskSums()
        for each in seconds:
            sketch.add(tasks[task].run, {sketch.bucket_of(each): 1})
    return Sums(serial=1, began=0.0, since=0.0, until=until, slots=1, tasks=tasks)


def test_a_slow_worker_stands_out_among_many():
    paces = Paces()
    for number in range(9):
        paces.add(f"w{number}", line(fit=[1.0] * 100))
    paces.add("slow", line(fit=[3.0] * 100))
    found = paces.compared(0.0)
    assert 2.4 < found["slow"] < 3.0
    assert all(0.8 < found[f"w{number}"] < 1.0 for number in range(9))


def test_it_does_not_matter_which_tasks_a_worker_has_had():
    paces = Paces()
    paces.add("short", line(short=[0.1] * 90, long=[10.0] * 10))
    paces.add("long", line(short=[0.1] * 10, long=[10.0] * 90))
    assert paces.compared(0.0) == {"short": pytest.approx(1), "long": pytest.approx(1)}


def test_one_long_call_hardly_counts_and_few_calls_do_not():
    paces = Paces()
    paces.add("a", line(fit=[1.0] * 100, train=[9000.0]))
    paces.add("b", line(fit=[*[1.0] * 99, 9000.0]))
    paces.add("new", line(fit=[50.0] * 3))
    found = paces.compared(0.0)
    assert set(found) == {"a", "b"}
    assert found["b"] < 1.2


def test_hours_are_forgotten():
    paces = Paces()
    paces.add("a", line(fit=[1.0] * 50))
    paces.add("b", line(until=5 * HOUR, fit=[1.0] * 50))
    assert set(paces.compared(0.0)) == {"a", "b"}
    assert set(paces.compared(4 * HOUR)) == {"b"}
    paces.forget(4 * HOUR)
    assert set(paces.compared(0.0)) == {"b"}
