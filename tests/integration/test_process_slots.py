"""Slots that are processes, as the claim loop sees them."""

from __future__ import annotations

import os
import signal

import pytest
from support import files_under, wait_until

from fsqueue.errors import FSQueueError
from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.runner.slots.process_slots import ProcessSlots
from fsqueue.runner.slots.slot_main import Setup
from fsqueue.spool.disk.identity import Process, boot_id, is_gone
from fsqueue.spool.format.resources import amounts
from fsqueue.spool.worker.registration import Worker


@pytest.mark.leaves_strays  # the worker is not asked to leave
def test_a_watcher_that_fails_is_reported(nested):
    """Nobody would see any more that a call has ended, so the worker must not wait for that."""
    invocation = nested.leaf(3)
    root = nested.app.store.layout.root
    (origin,) = [path for path in files_under(root) if path.startswith("pending/")]
    worker = Worker(nested.app.store, queues=("nested.default",), runner="process", concurrency=1)
    worker.register()

    def on_end(claim, ending):
        raise ZeroDivisionError

    slots = ProcessSlots(Setup.of(nested.app), 1, on_end)

    def told():
        try:
            slots.check()
        except FSQueueError as error:
            return error
        return None

    assert told() is None
    wait_until(slots.has_room)
    slots.start(worker.claim(f"{root}/{origin}"))
    assert invocation.get(timeout=60) == 9
    error = wait_until(told)
    assert isinstance(error.__cause__, ZeroDivisionError)
    slots._close_pipes()


@pytest.fixture
def replacing(nested):
    """Slots whose only process is being replaced for a claim, since it has used another GPU."""
    app, endings = nested.app, {}
    budget = ResourcePool(amounts("gpu=2"), devices=("0", "1"))
    worker = Worker(app.store, queues=("nested.default",), runner="process", concurrency=1)
    worker.register()
    calls = [nested.leaf.options(resources={"gpu": 1})(number) for number in range(2)]
    root = app.store.layout.root
    paths = [f"{root}/{path}" for path in files_under(root) if path.startswith("pending/")]
    first, second = (worker.claim(path) for path in sorted(paths))
    setup = Setup.of(app, "GPUS_OF_TEST")
    slots = ProcessSlots(setup, 1, endings.__setitem__, budget=budget)
    for claim in (first, second):
        wait_until(slots.has_room)
        assert budget.take(claim.text, amounts("gpu=1"))
        slots.start(claim)
        wait_until(lambda: first in endings)
    yield slots, second, endings
    slots.close()
    assert endings[first] is Ending.FINISHED
    for claim in worker.claims:
        worker.release(claim)
        app.store.claims.give_back(claim)
    worker.deregister()
    for each in calls:
        each.cancel()


def test_a_claim_whose_process_is_being_replaced_is_not_started_if_the_slots_close(replacing):
    slots, claim, endings = replacing
    assert claim not in endings
    slots.close()
    assert endings[claim] is Ending.NOT_STARTED


def test_a_claim_whose_process_is_being_replaced_can_be_cancelled(replacing):
    slots, claim, endings = replacing
    slots.cancel(claim)
    assert endings[claim] is Ending.CANCELLED


def test_a_claim_runs_in_the_process_that_replaces_another(replacing):
    slots, claim, endings = replacing

    def ended():
        slots.check()
        return endings.get(claim)

    assert wait_until(ended) is Ending.FINISHED


@pytest.mark.parametrize("kind", ["coroutine", "timeout"])
def test_a_slot_whose_worker_has_died_publishes_nothing(nested, kind):
    """The error of its pipe must not become that of the call, which another worker runs again."""
    app = nested.app
    task = nested.async_leaf if kind == "coroutine" else nested.leaf.options(timeout=60)
    invocation = task(3)
    root = app.store.layout.root
    (origin,) = [path for path in files_under(root) if path.startswith("pending/")]
    worker = Worker(app.store, queues=("nested.default",), runner="process", concurrency=1)
    worker.register()
    claim = worker.claim(f"{root}/{origin}")
    slots = ProcessSlots(Setup.of(app), 1, lambda *_: None)
    wait_until(slots.has_room)
    (slot,) = slots._members
    os.kill(slot.pid, signal.SIGSTOP)
    slots.start(claim)
    slots._close_pipes()  # as if this process had died
    os.kill(slot.pid, signal.SIGCONT)
    wait_until(lambda: is_gone(Process(boot_id(), slot.pid, slot._start)), what="its end")

    assert not os.path.exists(app.store.layout.done(invocation.id))
    assert os.path.exists(claim.path)
    worker.release(claim)
    assert app.store.claims.give_back(claim)
    worker.deregister()
    assert invocation.cancel()
