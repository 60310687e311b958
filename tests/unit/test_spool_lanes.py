"""Permits of concurrency limits, and obstacles in their folders."""

from __future__ import annotations

import errno
import os

import pytest
from msgspec import structs
from spool_pair import opened_pair
from support import rewrite

from fsqueue.errors import EnvelopeError
from fsqueue.spool.disk.identity import host_name
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import AttemptName, Holder, WaitingFolder, lane_limit
from fsqueue.spool.worker.limit_upkeep import LimitUpkeep, recover_limits
from fsqueue.testing import Fault

LANE = "0123456789abcdef-2"
# Larger than any that Linux gives.
NO_PID = 1 << 23


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        yield pair


@pytest.fixture
def claims(pair):
    """A function that makes claims."""
    made = []

    def make():
        made.append(pair.worker.claim(pair.publish().path))
        return made[-1]

    yield make
    for claim in made:
        os.unlink(claim.path)
        pair.worker.release(claim)
        pair.worker.forget(claim)


def test_a_limit_admits_as_many_calls_as_its_name_states(pair, claims):
    lanes = pair.store.limits
    first, second = lanes.acquire(LANE, claims()), lanes.acquire(LANE, claims())
    assert {first.number, second.number} == {1, 2}
    third = claims()
    assert lanes.acquire(LANE, third) is None
    assert sorted(os.listdir(pair.store.layout.lane(LANE))) == ["1", "2"]
    lanes.release(first)
    again = lanes.acquire(LANE, third)
    assert again.number == first.number
    lanes.release(first)  # late, as if its worker had been stopped in between
    assert lanes.acquire(LANE, claims()) is None
    lanes.release(second)
    lanes.release(again)
    assert os.listdir(pair.store.layout.lanes_folder) == []


def test_a_permit_is_kept_while_its_worker_holds_the_call(pair, claims):
    claim = claims()
    pair.store.limits.acquire(LANE, claim)
    recover_limits(pair.store)
    assert os.listdir(pair.store.layout.lane(LANE)) == ["1"]
    os.rename(claim.path, f"{pair.store.layout.root}/away")
    recover_limits(pair.store)
    assert os.listdir(pair.store.layout.lanes_folder) == []
    os.rename(f"{pair.store.layout.root}/away", claim.path)


def test_the_permit_of_a_living_process_outlasts_its_worker(pair, claims):
    claim = claims()
    place = pair.store.limits.acquire(LANE, claim)
    holder = f"{pair.store.layout.in_lane(LANE, 1)}/{place.holder}"
    orphan = place.holder._replace(worker=f"{host_name()}-{NO_PID}-aaaaaa")
    os.rename(holder, f"{pair.store.layout.in_lane(LANE, 1)}/{orphan}")
    recover_limits(pair.store)
    assert os.listdir(pair.store.layout.lane(LANE)) == ["1"]
    dead = orphan._replace(process="1-1")
    os.rename(
        f"{pair.store.layout.in_lane(LANE, 1)}/{orphan}",
        f"{pair.store.layout.in_lane(LANE, 1)}/{dead}",
    )
    recover_limits(pair.store)
    assert os.listdir(pair.store.layout.lanes_folder) == []


def test_a_living_worker_that_was_declared_dead_keeps_no_permit(pair, claims):
    """It is suspended: its folder is gone, but its process exists."""
    claim = claims()
    place = pair.store.limits.acquire(LANE, claim)
    holder = f"{pair.store.layout.in_lane(LANE, 1)}/{place.holder}"
    suspended = place.holder._replace(worker=f"{claim.worker[:-1]}1")  # no letter of a token
    os.rename(holder, f"{pair.store.layout.in_lane(LANE, 1)}/{suspended}")
    recover_limits(pair.store)
    assert os.listdir(pair.store.layout.lanes_folder) == []


def test_a_lender_finds_a_call_that_has_come_back_by_a_retry(pair):
    """Another process published it, and it waits in a later slot than the original one."""
    store, worker = pair.store, pair.worker
    published = pair.publish().path
    claim = worker.claim(published)
    call, _ = store.calls.read_claimed(claim)
    worker.release(claim)
    assert store.claims.retry(claim, call, store.clock.now() - 1.0)
    worker.forget(claim)
    queue = store.layout.queue(call.queue)
    (again,) = (
        f"{queue}/{slot}/{name}"
        for slot in os.listdir(queue)
        for name in os.listdir(f"{queue}/{slot}")
    )
    claim = worker.claim(again)
    worker.release(claim)
    assert store.claims.park(claim, call, LANE)
    worker.forget(claim)
    found = store.limits.find(LANE, call.id, "somebody-1", published)
    assert found is not None
    assert store.limits.find(LANE, "somebody-2", "somebody-1", published) is None
    os.unlink(found)
    recover_limits(store)


def test_a_limit_that_cannot_be_recovered_does_not_stop_the_others(pair):
    layout = pair.store.layout
    lanes = [f"012345678{digit}-1" for digit in "abc"]
    for lane in lanes:
        os.makedirs(layout.lane(lane))
    pair.fs.inject(Fault.fail(errno.EIO, at=None, path=lanes[1]))
    recover_limits(pair.store)
    assert os.listdir(layout.lanes_folder) == [lanes[1]]
    os.mkdir(layout.lane(lanes[0]))
    os.mkdir(layout.lane(lanes[2]))
    LimitUpkeep(pair.store).round()
    assert os.listdir(layout.lanes_folder) == [lanes[1]]
    pair.fs.inject()
    recover_limits(pair.store)
    assert os.listdir(layout.lanes_folder) == []


def test_a_forged_header_leads_nowhere_when_a_cancelled_call_is_dropped(pair):
    claim = pair.worker.claim(pair.publish().path)
    call, _ = pair.store.calls.read_claimed(claim)
    chunks = envelope.encode(structs.replace(call, lanes=("../x",)), [b""])
    rewrite(claim.path, b"".join(chunks))
    outside = f"{pair.store.layout.root}/x"
    os.mkdir(outside)
    pair.worker.release(claim)
    pair.store.recovery.drop(claim.path, claim.name)
    pair.worker.forget(claim)
    os.rmdir(outside)


@pytest.mark.parametrize("where", ["", "/1", "/2", "/1/foreign", "/what", "/4.1000000000000~q"])
def test_obstacles_are_set_aside_or_passed_over(pair, claims, where):
    lane = pair.store.layout.lane(LANE)
    path = f"{lane}{where}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii"):
        pass
    recover_limits(pair.store)
    places = [pair.store.limits.acquire(LANE, claims()) for _ in range(2)]
    assert all(places)
    for place in places:
        pair.store.limits.release(place)
    recover_limits(pair.store)


@pytest.mark.parametrize(
    "name", ["abc-1", "0123456789-0", "0123456789-01", "0123456789", "../x-1", "0123456789-1\n"]
)
def test_invalid_names_of_limits_are_refused(pair, name):
    assert lane_limit(name) == 0
    call = structs.replace(
        pair.store.calls.read(path := pair.publish().path, _name(path))[0], lanes=(name,)
    )
    os.unlink(path)
    path = pair.store.publish(call, [b""])
    with pytest.raises(EnvelopeError, match="names no lanes"):
        pair.store.calls.read(path, _name(path))
    os.unlink(path)


def _name(path):
    return AttemptName.parse(os.path.basename(path))


def test_names_of_waiting_folders_and_holders():
    for lender in ("", "abcdefgh-7"):
        waiting = WaitingFolder("4.1000000000000", "app.q", lender)
        assert WaitingFolder.parse(str(waiting)) == waiting
    holder = Holder("abcdefgh-1", "host-1-abc", "12-345", "abcdef")
    assert Holder.parse(str(holder)) == holder
    for text in (
        "",
        "4.1000000000000",
        "4.1000000000000~",
        "x~q",
        "4.1000000000000~q~nobody",
        "a~b~c~d",
    ):
        assert WaitingFolder.parse(text) is None
    assert Holder.parse("abcdefgh-1@../x.1-1.abcdef") is None
