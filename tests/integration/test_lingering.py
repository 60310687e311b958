"""Slots that wait a moment for the next call themselves, while a caller makes one after another."""

from __future__ import annotations

import threading

import pytest
from support import files_under, wait_until

from fsqueue.runner.slots.messages import Grant
from fsqueue.runner.slots.process_slots import ProcessSlots
from fsqueue.runner.slots.self_claiming import Service
from fsqueue.runner.slots.slot_main import Setup
from fsqueue.spool.store.open_spool import open_store
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import FaultyFilesystem
from integration import sample_tasks
from integration.conftest import working
from integration.test_self_claiming import tasks  # noqa: F401 - a fixture

pytestmark = [pytest.mark.concurrent, pytest.mark.leaves_strays]  # results that the client keeps


class Claimants(FaultyFilesystem):
    """Notes which threads of this process try to claim calls."""

    def __init__(self) -> None:
        super().__init__()
        self.claimants: list[str] = []

    def rename(self, source, target):
        if "/pending/" in source and "/running/" in target:
            self.claimants.append(threading.current_thread().name)
        return super().rename(source, target)


def test_a_thread_claims_what_comes_after_its_call(make_app):
    app, fs = make_app(concurrency=1), Claimants()
    app._session._store = open_store(app.conf.root, fs)
    task, runner = app.task(sample_tasks.add), app.runner
    with working(app, runner):
        assert task(1, 1).get(60) == 2
        loop = runner._runs[0].loop
        for number in range(10):
            wait_until_lingering(loop, task)
            fs.claimants.clear()
            assert task(number, 1).get(60) == number + 1
            assert fs.claimants[0].startswith("fsqueue-slot_")


def wait_until_lingering(loop, task):
    """Make calls until a thread waits for the next one, and the claim loop leaves that to it."""
    loop.lingering.patience = 1000.0
    waits = lambda: loop.lingering.active and loop._bells.deaf  # noqa: E731
    wait_until(lambda: waits() or (task(0, 1).get(60) and None))


class Stopped(FaultyFilesystem):
    """Asks the worker to stop in the middle of a claim of one of its threads.

    Attributes:
        stop: asks it, and waits until it closes its slots.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stop = None

    def rename(self, source, target):
        renamed = super().rename(source, target)
        if self.stop is not None and "/pending/" in source and "/running/" in target:
            stop, self.stop = self.stop, None
            stop()
        return renamed


def test_a_worker_that_stops_waits_for_the_call_that_a_thread_is_about_to_have(make_app):
    """It would deregister otherwise, and the call would run while others take it for lost."""
    app, fs, stays = make_app(concurrency=1), Stopped(), []
    app._session._store = open_store(app.conf.root, fs)
    task, runner = app.task(sample_tasks.add), app.runner
    with working(app, runner):
        assert task(1, 1).get(60) == 2
        loop = runner._runs[0].loop
        wait_until_lingering(loop, task)

        def stop():
            loop.stop()
            wait_until(lambda: loop._stopping._slots._closed or not runner._runs)
            stays.append(bool(runner._runs))

        fs.stop = stop
        assert task(2, 1).get(60) == 3
    assert stays == [True]


def test_a_slot_of_many_calls_does_not_serve_alone(tasks, request):  # noqa: F811
    """While it finds the next call whenever one ends, others may wait; not while it waits."""
    app = tasks.module.app
    queue = Service({"claiming.default": 1.0}, weighted=False)
    worker = Worker(app.store, queues=tuple(queue.queues), runner="process", concurrency=2)
    worker.register()
    worker.shared = True
    setup = Setup.of(app, service=queue)
    slots = ProcessSlots(setup, 2, lambda *_: None, ledger=LongGrants(queue))
    request.addfinalizer(worker.deregister)
    request.addfinalizer(slots.drop)  # they wait for long
    wait_until(lambda: len(slots._idle) == 2)
    first = tasks.module.mark(1)
    (path,) = [path for path in files_under(app.conf.root) if path.startswith("pending/")]
    second = tasks.module.hold("held")
    slots.start(worker.claim(f"{app.conf.root}/{path}"))
    assert first.get(60) == 1
    wait_until(lambda: tasks.runs()["held"])
    wait_until(lambda: not any(slot.has_just_begun for slot in slots._members))
    assert not slots.serves_alone()
    open(f"{tasks.notes}/go", "w").close()
    assert second.get(60) == "held"
    wait_until(slots.serves_alone)


class LongGrants:
    """The ledger of a worker that gives long grants, and forgets what was claimed in them."""

    def __init__(self, service) -> None:
        self.service = service

    def grant(self):
        return Grant(1000.0)

    def begin(self, origin):
        """Hold nothing."""

    def end(self, claim, ending):
        """Settle nothing."""

    note = end

    def end_grant(self):
        """Free nothing."""


def test_a_search_that_finds_nothing_does_not_wake_the_claim_loop(make_app):
    loop = make_app(concurrency=2).runner._make_loop()
    loop._prepare_queues()
    assert loop._claiming.wait(0.001, lambda: True)  # as while a slot serves alone
    assert loop._claiming.next() is None
    assert not loop._wake.wait(0.0)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_second_call_runs_while_the_first_one_takes_long(tasks, kind):  # noqa: F811
    """The slot that would hear of it has a call, so the claim loop listens again."""
    app = tasks.module.app
    with working(app, app.make_runner(kind=kind, concurrency=2)):
        for number in range(10):
            assert tasks.module.mark(number).get(60) == number
        held = tasks.module.hold("held")
        wait_until(lambda: tasks.runs()["held"])
        for number in range(10):
            assert tasks.module.mark(number).get(60) == number
        assert held.cancel()
        open(f"{tasks.notes}/go", "w").close()


@pytest.mark.parametrize("slots", [1, 2])
def test_calls_that_wait_for_one_of_a_process_that_lingers(tasks, slots):  # noqa: F811
    with working(tasks.module.app, tasks.runner(slots)):
        for number in range(40):
            first = tasks.module.mark(number)
            assert tasks.module.add_one(first).get(60) == number + 1
