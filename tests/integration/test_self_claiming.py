"""Slot processes that go on with calls that they claim themselves, while there are more."""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from support import wait_until

from fsqueue import CancelledError, TaskTimeoutError, WorkerLostError
from fsqueue.spool.store.open_spool import open_store
from fsqueue.spool.wakeups.watching import watches
from fsqueue.testing import FaultyFilesystem
from integration.conftest import working
from integration.test_journal import lines

pytestmark = [pytest.mark.concurrent, pytest.mark.leaves_strays]  # results that the client keeps

MANY = 120


class Tasks:
    """The tasks, and what their bodies have noted."""

    def __init__(self, module, notes) -> None:
        self.module, self.notes = module, notes
        self.fs = FaultyFilesystem()
        module.app._session._store = open_store(module.app.conf.root, self.fs)

    def runner(self, concurrency=1, **options):
        return self.module.app.make_runner(kind="process", concurrency=concurrency, **options)

    def runs(self):
        """How often the body of each name has run."""
        return Counter(name.partition(".")[0] for name in os.listdir(self.notes) if "." in name)

    def publish(self, count):
        return self.module.mark.parallelize([(number,) for number in range(count)])

    def claims_of_parent(self):
        """How many attempts the worker's own process has tried to claim."""
        return sum(op.verb == "rename" and "/pending/" in op.path for op in self.fs.trace)

    def before_and_after(self, publish):
        """Publish calls, a special one, and calls again, before there is a worker."""
        before = self.publish(30)
        special = publish()
        after = self.module.mark.parallelize([(number,) for number in range(30, 60)])
        return before, special, after

    def check_others(self, before, after):
        assert [*before.results, *after.results] == list(range(60))
        runs = self.runs()
        assert all(runs[str(number)] == 1 for number in range(60)), runs


@pytest.fixture
def tasks(spool, monkeypatch, tmp_path):
    monkeypatch.setenv("FSQUEUE__ROOT", spool)
    monkeypatch.setenv("NOTES_OF_TEST", str(tmp_path))
    name = "integration.self_claiming_tasks"
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    yield Tasks(module, str(tmp_path))
    module.app.close()
    sys.modules.pop(name, None)


def test_slots_claim_most_calls_of_a_backlog_and_each_runs_once(tasks):
    group = tasks.publish(MANY)
    tasks.fs.inject()
    runner = tasks.runner(2)
    with working(tasks.module.app, runner):
        assert list(group.results) == list(range(MANY))
        worker = runner._runs[0].loop._worker
        # A result may be there before the worker has read that its slot had claimed the call.
        wait_until(lambda: worker.claimed == MANY and not worker.claims, what="all is recorded")
        assert tasks.claims_of_parent() < MANY / 2
    assert worker.claimed == MANY
    assert set(tasks.runs().values()) == {1}
    entries = lines(tasks.module.app)
    assert Counter(entry["id"] for entry in entries) == Counter(each.id for each in group)
    assert {entry["state"] for entry in entries} == {"succeeded"}


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_slot_that_dies_loses_the_call_that_it_has_claimed_itself(tasks, how):
    publish = lambda: tasks.module.end_process("end", how)  # noqa: E731
    before, special, after = tasks.before_and_after(publish)
    with working(tasks.module.app, tasks.runner()):
        with pytest.raises(WorkerLostError):
            special.get(60)
        tasks.check_others(before, after)
    states = Counter(entry["state"] for entry in lines(tasks.module.app))
    assert states == {"succeeded": 60, "lost": 1}


def test_a_call_whose_slot_died_runs_again(tasks):
    before, special, after = tasks.before_and_after(lambda: tasks.module.end_process_once("end"))
    with working(tasks.module.app, tasks.runner()):
        assert special.get(60) == "end"
        tasks.check_others(before, after)
    assert tasks.runs()["end"] == 2


def test_a_timeout_ends_the_call_that_takes_too_long_and_no_other(tasks):
    before, special, after = tasks.before_and_after(lambda: tasks.module.too_long("late"))
    with working(tasks.module.app, tasks.runner()):
        with pytest.raises(TaskTimeoutError):
            special.get(60)
        tasks.check_others(before, after)


@pytest.mark.parametrize("task", ["hold", "hold_softly"])
def test_a_cancelled_call_ends_and_no_other(tasks, task):
    publish = lambda: getattr(tasks.module, task)("held")  # noqa: E731
    before, special, after = tasks.before_and_after(publish)
    with working(tasks.module.app, tasks.runner()):
        wait_until(lambda: tasks.runs()["held"], what="it runs")
        special.cancel()
        with pytest.raises(CancelledError):
            special.get(60)
        tasks.check_others(before, after)
    assert tasks.runs()["held"] == 1
    assert tasks.runs()["cleaned"] == (task == "hold_softly")


def test_a_stop_between_two_calls_costs_no_attempt(tasks):
    group = tasks.module.until_stopped.parallelize([(number, 60) for number in range(MANY)])
    with working(tasks.module.app, tasks.runner(2)) as runner:
        wait_until(lambda: len(tasks.runs()) > 20, what="some have run")
        runner.stop_runner_loop()
        Path(tasks.notes, "stopping").touch()
    done = tasks.runs()
    assert len(done) < MANY
    assert set(done.values()) == {1}
    with working(tasks.module.app, tasks.runner(2)):
        assert list(group.results) == list(range(MANY))
    assert set(tasks.runs().values()) == {1}


def test_upkeep_takes_no_claim_of_a_slot_for_a_stray(tasks):
    """The worker, whose heart beats ten times a second, learns of such claims late."""
    group = tasks.module.slowly.parallelize([(number, 0.25) for number in range(8)])
    with working(tasks.module.app, tasks.runner(2)):
        assert list(group.results) == list(range(8))
    assert set(tasks.runs().values()) == {1}


def test_calls_that_wait_for_a_call_of_a_turn_are_released(tasks):
    group = tasks.publish(60)
    late = [tasks.module.add_one(member) for member in list(group)[30:40]]
    with working(tasks.module.app, tasks.runner()):
        assert [each.get(60) for each in late] == list(range(31, 41))
        assert list(group.results) == list(range(60))


@contextlib.contextmanager
def stolen_events():
    """In the block, most file events of this process reach nobody."""
    over = threading.Event()

    def steal():
        while not over.is_set():
            if select.select([watches().handle], [], [], 0.01)[0]:
                with contextlib.suppress(BlockingIOError):
                    os.read(watches().handle, 1 << 16)

    thread = threading.Thread(target=steal)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_stolen_events_cost_polls_and_no_call(tasks):
    with working(tasks.module.app, tasks.runner(2)):
        assert tasks.module.mark("first").get(60) == "first"
        with stolen_events():
            for first in range(0, 90, 30):
                items = [(number,) for number in range(first, first + 30)]
                group = tasks.module.mark.parallelize(items)
                assert list(group.results) == list(range(first, first + 30))
    assert set(tasks.runs().values()) == {1}


def test_max_tasks_is_exact(tasks):
    group = tasks.publish(20)
    tasks.runner(2, max_tasks=7).run()
    assert sum(tasks.runs().values()) == 7
    with working(tasks.module.app, tasks.runner()):
        assert list(group.results) == list(range(20))


def test_a_worker_until_empty_leaves_after_the_last_turn(tasks):
    group = tasks.publish(60)
    tasks.runner(2, until_empty=True).run()
    assert len(tasks.runs()) == 60
    assert list(group.results) == list(range(60))
