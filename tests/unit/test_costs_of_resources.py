"""The extra requests to the file server of a worker that serves calls with needs."""

from __future__ import annotations

import itertools
import os

import pytest
from spool_pair import StillClock, opened_pair

from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.spool.format.claim import Claim
from fsqueue.spool.format.names import AttemptName, Slot
from fsqueue.spool.format.resources import NONE, amounts
from fsqueue.spool.worker.backlog import worker as backlogs_module
from fsqueue.spool.worker.backlog.worker import WorkerBacklog

PLAIN = "app.default"
NEEDY = "app.default.gpu-1"
LIMITED = "app.default.walltime-1800"
ROUNDS = 20


@pytest.fixture
def remote(spool):
    with opened_pair(spool, StillClock(remote=True)) as pair:
        pair.fs.make_folders(pair.store.layout.queue(PLAIN))
        yield pair


def backlogs_of(pair, resources):
    return WorkerBacklog(pair.store, {PLAIN: 1.0}, ResourcePool(amounts(resources)), weighted=False)


def file_call(pair, folder, name="abcd-1.1"):
    slot = pair.store.layout.slot(folder, str(Slot(5, 1.0)))
    pair.fs.make_folders(slot)
    pair.fs.create(f"{slot}/{name}", [])
    return f"{slot}/{name}"


def idle_operations(pair, backlogs):
    """The operations of a worker that searches once a second and has found nothing for a while."""
    for _ in range(2 * backlogs_module._FULL_SEARCHES):
        pair.fs.clock_offset += 1.1
        assert list(backlogs) == []
    pair.fs.inject()
    for _ in range(ROUNDS):
        pair.fs.clock_offset += 1.1
        assert list(backlogs) == []
    return [operation for operation in pair.fs.trace if operation.verb != "clock"]


@pytest.mark.parametrize("resources", ["", "gpu=1 mem=64G"])
def test_an_idle_worker_asks_no_more_than_if_there_were_no_needs(remote, resources):
    trace = idle_operations(remote, backlogs_of(remote, resources))
    assert len(trace) == 2 * ROUNDS, "a touch and a listing a second"
    folders = {operation.path for operation in trace}
    assert folders == {remote.store.layout.queue(PLAIN), remote.store.layout.pending_folder}


def test_an_idle_worker_without_resources_mostly_lists_the_plain_folder(remote):
    trace = idle_operations(remote, backlogs_of(remote, ""))
    listed = [operation.path for operation in trace if operation.verb == "listdir"]
    assert listed.count(remote.store.layout.pending_folder) <= ROUNDS // 8 + 1


def test_a_worker_without_resources_never_lists_calls_that_need_some(remote):
    path = file_call(remote, NEEDY)
    paths = {operation.path for operation in idle_operations(remote, backlogs_of(remote, ""))}
    assert remote.store.layout.queue(NEEDY) not in paths
    os.unlink(path)


# -- calls with a walltime ----------------------------------------------------------------------


def test_a_busy_worker_looks_for_walltimes_once_in_a_while(remote):
    paths = [file_call(remote, PLAIN, f"abcd-{number}.1") for number in range(1, 101)]
    backlogs = backlogs_of(remote, "")
    remote.fs.inject()
    for _ in paths:
        remote.fs.clock_offset += 0.1
        os.unlink(next(iter(backlogs)))
    trace = [operation for operation in remote.fs.trace if operation.verb == "listdir"]
    assert sum(each.path == remote.store.layout.pending_folder for each in trace) <= 2


def test_an_idle_worker_finds_a_walltime_within_eight_searches(remote):
    backlogs = backlogs_of(remote, "")
    idle_operations(remote, backlogs)
    path = file_call(remote, LIMITED)
    found = []
    for _ in range(8):
        remote.fs.clock_offset += 1.1
        found += list(itertools.islice(backlogs, 1))
    assert found[0] == path
    os.unlink(path)


def test_a_bell_has_a_walltime_found_at_once(remote):
    backlogs = backlogs_of(remote, "")
    idle_operations(remote, backlogs)
    path = file_call(remote, LIMITED)
    backlogs.bell_rang(needs=True)
    assert next(iter(backlogs)) == path
    os.unlink(path)


def test_calls_that_do_not_fit_cost_nothing_however_many_there_are(remote):
    """The whole folder is skipped by its name."""
    left = [1799.0]
    room = ResourcePool(NONE, time_left=lambda: left[0])
    backlogs = WorkerBacklog(remote.store, {PLAIN: 1.0}, room, weighted=False)
    paths = [file_call(remote, LIMITED, f"abcd-{number}.1") for number in range(1, 51)]
    trace = idle_operations(remote, backlogs)
    assert len(trace) == 2 * ROUNDS
    assert remote.store.layout.queue(LIMITED) not in {operation.path for operation in trace}
    fits = file_call(remote, "app.default.walltime-900")
    backlogs.bell_rang(needs=True)
    assert next(iter(backlogs)) == fits
    left[0] = 899.0
    assert list(backlogs) == [], "it would not fit any more"
    left[0] = 1800.0
    backlogs.bell_rang(needs=True)
    assert next(iter(backlogs)) in {*paths, fits}
    for path in (*paths, fits):
        os.unlink(path)


def test_calls_that_turn_out_too_long_are_tried_a_hundred_times_at_most(remote):
    """Their timeout is in their files, so they must be claimed to find out."""
    paths = [file_call(remote, PLAIN, f"abcd-{number}.1") for number in range(1, 301)]
    backlogs = backlogs_of(remote, "")
    tried = []
    for origin in backlogs:
        name = AttemptName.parse(os.path.basename(origin))
        claim = Claim(name, "", origin, "w", str(name))
        tried.append(origin)
        if len(tried) == 50:
            backlogs.was_run(origin)
            os.unlink(origin)
        else:
            backlogs.was_too_long(claim)
        remote.fs.clock_offset += 0.01
    assert len(set(tried)) == len(tried) == 150, "a call that fits begins a new count"
    assert len(idle_operations(remote, backlogs)) == 2 * ROUNDS
    for path in {*paths} - {tried[49]}:
        os.unlink(path)


# -- calls with resources -----------------------------------------------------------------------


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
    backlogs = WorkerBacklog(remote.store, {PLAIN: 1.0}, budget, weighted=False)
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
