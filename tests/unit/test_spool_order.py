"""The order in which a worker claims the calls of a queue."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from spool_pair import QUEUE, Pair, StillClock, opened_pair

from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.spool.format.names import AttemptName, Slot
from fsqueue.spool.format.resources import NONE
from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.spool.worker.backlog.worker import WorkerBacklog
from fsqueue.testing import FaultyFilesystem


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        yield pair


def put(pair: Pair, slot: Slot, number: int) -> None:
    folder = pair.store.layout.slot(QUEUE, str(slot))
    pair.fs.make_folders(folder)
    pair.fs.create(f"{folder}/abcd-{number}.1", [])


def served(pair: Pair) -> list[str]:
    backlog = FolderBacklog(pair.store, QUEUE)
    names = []
    while (path := backlog.next()) is not None:
        names.append(os.path.basename(path))
        os.unlink(path)
    return names


def order_of_service(pair: Pair) -> list[str]:
    """The calls in the order in which a worker would claim them; they stay."""
    slots = FolderBacklog(pair.store, QUEUE)._due_slots()
    queue = pair.store.layout.queue(QUEUE)
    return [name for slot in reversed(slots) for name in os.listdir(f"{queue}/{slot}")]


def test_higher_priority_and_earlier_calls_come_first(pair):
    now = pair.store.clock.now()
    put(pair, Slot(5, now - 2), 3)
    put(pair, Slot(5, now - 9), 2)
    put(pair, Slot(9, now - 1), 1)
    put(pair, Slot(0, now - 99), 4)
    assert served(pair) == ["abcd-1.1", "abcd-2.1", "abcd-3.1", "abcd-4.1"]


def test_claimants_spread_over_the_slots_of_a_second_and_no_further(pair):
    second = int(pair.store.clock.now()) - 10
    for number in range(8):
        put(pair, Slot(5, second + number / 8), number + 1)
    put(pair, Slot(5, second + 1), 9)
    firsts = {os.path.basename(FolderBacklog(pair.store, QUEUE).next()) for _ in range(200)}
    assert firsts == {f"abcd-{number}.1" for number in range(1, 9)}
    assert served(pair)[-1] == "abcd-9.1"


def test_a_delayed_call_is_not_claimed_early(pair):
    put(pair, Slot(5, pair.store.clock.now() + 60), 1)
    backlog = FolderBacklog(pair.store, QUEUE)
    assert backlog.next() is None
    pair.fs.clock_offset += 61
    assert backlog.next() is not None


@pytest.mark.parametrize(
    ("tried", "age", "remote", "listings"),
    [(30, 0.3, True, 2), (30, 0.2, True, 1), (7, 0.3, True, 1), (30, 0.3, False, 1)],
)
def test_a_busy_worker_lists_again_soon_on_a_file_server(spool, tried, age, remote, listings):
    """Each call that it knows from a listing made before the folder changed costs a request."""
    with opened_pair(spool, StillClock(remote=remote)) as pair:
        slot = Slot(5, pair.store.clock.now() - 9)
        for number in range(1, 101):
            put(pair, slot, number)
        backlog = FolderBacklog(pair.store, QUEUE)
        pair.fs.inject()
        for _ in range(tried):
            os.unlink(backlog.next())
        pair.fs.clock_offset += age
        assert backlog.next()
        folder = pair.store.layout.slot(QUEUE, str(slot))
        listed = [each for each in pair.fs.trace if (each.verb, each.path) == ("listdir", folder)]
        assert len(listed) == listings


def test_empty_slots_are_removed_but_not_those_in_use(pair):
    now = pair.store.clock.now()
    for due in (now - 10, now - 1, now + 10):
        pair.fs.make_folders(pair.store.layout.slot(QUEUE, str(Slot(5, due))))
    assert FolderBacklog(pair.store, QUEUE).next() is None
    left = [Slot.parse(name).due for name in os.listdir(pair.store.layout.queue(QUEUE))]
    assert sorted(left) == pytest.approx([now - 1, now + 10], abs=0.01)


def test_a_slot_that_was_removed_is_made_again(pair):
    first = pair.publish()
    os.unlink(first.path)
    os.rmdir(os.path.dirname(first.path))
    assert os.path.lexists(pair.publish().path)


def test_folders_that_are_not_slots_are_ignored(pair):
    pair.fs.make_folders(pair.store.layout.slot(QUEUE, "lost+found"))
    pair.fs.create(f"{pair.store.layout.queue(QUEUE)}/README", [])
    receipt = pair.publish()
    assert FolderBacklog(pair.store, QUEUE).next() == receipt.path


def test_a_skipped_call_is_left_alone(pair):
    receipt = pair.publish()
    backlogs = WorkerBacklog(pair.store, {QUEUE: 1.0}, ResourcePool(NONE), weighted=False)
    backlogs.skip(AttemptName(receipt.invocation_id, 1))
    assert list(backlogs) == []


def test_on_a_file_server_the_slot_in_use_is_served_after_the_others_of_its_second(spool):
    with opened_pair(spool, FaultyFilesystem(remote=True)) as pair:
        second = int(pair.store.clock.now()) - 10
        for number in range(4):
            put(pair, Slot(5, second + number / 8), number + 1)
        orders = [order_of_service(pair) for _ in range(100)]
        assert {order[-1] for order in orders} == {"abcd-4.1"}
        assert {order[0] for order in orders} == {"abcd-1.1", "abcd-2.1", "abcd-3.1"}


@pytest.mark.parametrize(("remote", "sizes"), [(True, [64, 128, 256, 512, 40]), (False, [1000])])
def test_the_slots_of_a_publisher_are_small_at_first_on_a_file_server(spool, remote, sizes):
    """A worker claims from the full ones undisturbed."""
    with opened_pair(spool, StillClock(remote=remote)) as pair:
        pair.client.ticket(5)  # reads the clock
        pair.fs.clock_offset += 1.01 - pair.store.clock.now() % 1.0
        slots = []
        for _ in range(sum(sizes)):
            pair.fs.clock_offset += 0.0005
            slots.append(pair.client.ticket(5).slot)
        assert list(Counter(slots).values()) == sizes
        assert slots == sorted(slots)
