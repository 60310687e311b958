"""The extra requests of a worker with resources to the file server."""

from __future__ import annotations

import os

import pytest
from spool_pair import opened_pair

from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.spool.format.names import AttemptName, Slot
from fsqueue.spool.format.resources import amounts
from fsqueue.spool.worker import backlog
from fsqueue.spool.worker.backlog import Backlogs
from fsqueue.testing import FaultyFilesystem

PLAIN = "app.default"
NEEDY = "app.default.gpu-1"
ROUNDS = 20


class StillClock(FaultyFilesystem):
    """Its clock moves only by `clock_offset`."""

    def monotonic(self) -> float:
        return self.clock_offset


@pytest.fixture
def remote(spool):
    with opened_pair(spool, StillClock(remote=True)) as pair:
        pair.fs.make_folders(pair.store.layout.queue(PLAIN))
        yield pair


def backlogs_of(pair, resources):
    room = ResourcePool(amounts(resources)) if resources else None
    return Backlogs(pair.store, {PLAIN: 1.0}, weighted=False, room=room)


def file_call(pair, folder, name="abcd-1.1"):
    slot = pair.store.layout.slot(folder, str(Slot(5, 1.0)))
    pair.fs.make_folders(slot)
    pair.fs.create(f"{slot}/{name}", [])
    return f"{slot}/{name}"


def idle_operations(pair, backlogs):
    """The operations of a worker that searches once a second and has found nothing for a while."""
    for _ in range(2 * backlog._FULL_SEARCHES):
        pair.fs.clock_offset += 1.1
        assert list(backlogs) == []
    pair.fs.inject()
    for _ in range(ROUNDS):
        pair.fs.clock_offset += 1.1
        assert list(backlogs) == []
    return [operation for operation in pair.fs.trace if operation.verb != "clock"]


def test_an_idle_worker_with_resources_asks_no_more_than_one_without(remote):
    plain = idle_operations(remote, backlogs_of(remote, None))
    needy = idle_operations(remote, backlogs_of(remote, "gpu=1 mem=64G"))
    assert len(plain) == len(needy) == 2 * ROUNDS, "a touch and a listing a second"
    folders = {operation.path for operation in needy}
    assert folders == {remote.store.layout.queue(PLAIN), remote.store.layout.pending_folder}


def test_a_worker_without_resources_never_lists_calls_that_need_some(remote):
    path = file_call(remote, NEEDY)
    paths = {operation.path for operation in idle_operations(remote, backlogs_of(remote, None))}
    assert paths == {remote.store.layout.queue(PLAIN)}
    os.unlink(path)


def test_needs_that_a_worker_cannot_meet_are_not_listed(remote):
    path = file_call(remote, "app.default.gpu-2")
    other = file_call(remote, "other.default.gpu-1")
    strange = file_call(remote, "app.default.gpu-01")
    trace = idle_operations(remote, backlogs_of(remote, {"gpu": 1}))
    assert len(trace) == 2 * ROUNDS
    for each in (path, other, strange):
        os.unlink(each)


def test_claiming_a_call_with_needs_costs_the_same_with_any_backlog(remote):
    def cost(count):
        paths = [file_call(remote, NEEDY, f"abcd-{number}.1") for number in range(1, count + 1)]
        remote.fs.inject()
        origin = next(iter(backlogs_of(remote, {"gpu": 1})))
        trace = [operation.verb for operation in remote.fs.trace if operation.verb != "clock"]
        assert origin in paths
        for path in paths:
            os.unlink(path)
        return trace

    # The plain queue, pending/, the folder and its first slot, and nothing is opened.
    assert cost(1) == cost(400) == ["utime", "listdir"] * 4


def test_a_call_whose_resources_are_in_use_is_not_claimed(remote):
    first, second = file_call(remote, NEEDY), file_call(remote, NEEDY, "abcd-2.1")
    budget = ResourcePool(amounts("gpu=1"))
    backlogs = Backlogs(remote.store, {PLAIN: 1.0}, weighted=False, room=budget)
    assert budget.take("a", amounts("gpu=1"))
    assert list(backlogs) == []
    assert backlogs.next_due == float("inf")
    budget.give("a")
    assert next(iter(backlogs)) in {first, second}
    os.unlink(first)
    os.unlink(second)


def test_a_call_that_was_skipped_is_not_claimed_when_its_folder_comes_back(remote):
    """A folder for resources goes with its last call: here one that is claimed and given back."""
    path = file_call(remote, NEEDY)
    backlogs = backlogs_of(remote, {"gpu": 1})
    assert next(iter(backlogs)) == path
    backlogs.skip(AttemptName("abcd-1", 1))
    os.unlink(path)
    for folder in (os.path.dirname(path), remote.store.layout.queue(NEEDY)):
        remote.fs.rmdir(folder)
    remote.fs.clock_offset += 1.1
    assert list(backlogs) == []
    assert file_call(remote, NEEDY) == path
    remote.fs.clock_offset += 1.1
    assert list(backlogs) == []
    os.unlink(path)
