"""Waits on a file server, where each look costs requests."""

from __future__ import annotations

import pytest
from spool_pair import QUEUE, opened_pair
from support import open_store, publish_call

from fsqueue import FSQueue
from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.spool.format.names import queue_folder
from fsqueue.spool.format.resources import NONE
from fsqueue.spool.wakeups.pauses import Rhythm
from fsqueue.spool.worker.backlog.worker import WorkerBacklog
from fsqueue.testing import FaultyFilesystem


def waits(rhythm, *seconds):
    """Several waits in a row; returns for how long a look was put off in each."""
    put_off = []
    for each in seconds:
        put_off.append(rhythm.begin(0.0))
        rhythm.end(each)
    return put_off


def test_a_look_is_put_off_for_most_of_the_usual_wait():
    put_off = waits(Rhythm(remote=True), *[0.02] * 20)
    assert put_off[0] == 0
    assert put_off == sorted(put_off)
    assert put_off[-1] == pytest.approx(0.015, rel=0.05)


def test_looks_are_as_far_apart_as_befits_the_usual_wait():
    local, remote = Rhythm(remote=False), Rhythm(remote=True)
    for rhythm in (local, remote):
        waits(rhythm, *[0.2] * 20)
    assert local.step == 0
    assert 0.02 < remote.step <= 0.025


def test_it_adapts_to_quicker_answers():
    put_off = waits(Rhythm(remote=True), *[0.05] * 20, *[0.002] * 20)
    assert put_off[-1] < 0.002


def test_one_slow_answer_puts_off_hardly_anything():
    put_off = waits(Rhythm(remote=True), *[0.01] * 20, 0.4, *[0.01] * 4)
    assert max(put_off) < 0.01
    assert put_off[-1] == pytest.approx(0.0075, rel=0.1)


def test_slow_calls_put_nothing_off_for_long():
    assert max(waits(Rhythm(remote=True), *[0.4] * 20)) <= 0.05
    assert waits(Rhythm(remote=True), 60.0, 5.0, 1.0) == [0, 0, 0]


def test_no_look_is_put_off_for_longer_than_the_poll_interval():
    rhythm = Rhythm(remote=True, longest=0.01)
    assert max(waits(rhythm, *[0.4] * 20)) <= 0.01
    assert rhythm.step <= 0.01


def polls(rhythm, *, until, rung=False):
    """The times of a caller's polls that all find nothing, in seconds after its call."""
    found, pause = [], rhythm.first
    now = max(pause, rhythm.begin(0.0))
    while now < until:
        found.append(now)
        pause, longer = rhythm.pauses(pause, now, rung=rung)
        now, pause = now + pause, longer
    return found


def test_a_caller_that_knows_nothing_of_waits_polls_rarely():
    found = polls(Rhythm(remote=True), until=1.0)
    assert found[:2] == [0.03, 0.06]
    assert len(found) <= 10
    assert polls(Rhythm(remote=True), until=1.0, rung=True) == pytest.approx(
        [0.03, 0.11, 0.27, 0.59]
    )


def test_polls_are_close_together_only_while_a_result_is_likely():
    rhythm = Rhythm(remote=True)
    waits(rhythm, *[0.014] * 20)
    found = polls(rhythm, until=1.0)
    likely = [each for each in found if each < 0.028]
    assert likely[0] == pytest.approx(0.0105, rel=0.05)
    assert 5 <= len(likely) <= 8
    assert len(found) - len(likely) <= 10


def test_without_a_file_server_pauses_grow_as_everywhere():
    assert Rhythm(remote=False).first == 0
    assert Rhythm(remote=False).pauses(0.5, 9.0) == (0.5, 0.65)


def test_after_several_calls_a_moment_passes_so_that_one_listing_shows_more():
    assert Rhythm(remote=True).begin(100.0, several=True) == 0.02
    assert Rhythm(remote=True, longest=0.01).begin(100.0, several=True) == 0.01
    assert Rhythm(remote=False).begin(100.0, several=True) == 0


def test_on_a_local_disk_nothing_is_put_off():
    assert set(waits(Rhythm(remote=False), *[0.02] * 20)) == {0.0}


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        yield pair


def backlogs_of(pair, *queues):
    room = ResourcePool(NONE)
    return WorkerBacklog(pair.store, dict.fromkeys(queues, 1.0), room, weighted=False)


def test_a_queue_is_exhausted_when_all_that_was_listed_has_been_tried(pair):
    receipts = [pair.publish() for _ in range(3)]
    backlogs = backlogs_of(pair, QUEUE)
    seen = []
    for path in backlogs:
        seen.append((path, backlogs.is_exhausted))
        pair.store.withdraw(path)
        if len(seen) == len(receipts):
            break
    slots = {receipt.path.rpartition("/")[0] for receipt in receipts}
    assert {path for path, _ in seen} == {receipt.path for receipt in receipts}
    assert not seen[0][1]
    if len(slots) == 1:  # otherwise a second has begun, and the last slot alone shows it
        assert not seen[1][1]
    assert seen[2][1]


def test_of_several_queues_a_search_shows_one(pair):
    receipt = pair.publish()
    backlogs = backlogs_of(pair, QUEUE, "other")
    assert next(iter(backlogs)) == receipt.path
    assert not backlogs.is_exhausted
    pair.store.withdraw(receipt.path)


class SlowServer(FaultyFilesystem):
    """Each listing takes a second of its clock, which stands still otherwise."""

    def __init__(self):
        super().__init__(remote=True)
        self._began = super().monotonic()

    def monotonic(self):
        return self._began + self.clock_offset

    def names(self, *args, **kwargs):
        self.clock_offset += 1.0
        return super().names(*args, **kwargs)


def test_a_call_that_becomes_due_is_claimed_although_the_queue_was_empty_a_moment_ago(spool):
    """On a file server it counts as empty for as long as the search has taken."""
    app, fs = FSQueue("app", root=spool), SlowServer()
    app._session._store = open_store(spool, fs)
    loop = app.make_runner(kind="thread", concurrency=1)._make_loop()
    loop._worker.register()
    client, queue, claiming = app._session.client, queue_folder("app", "default"), loop._claiming
    receipt = publish_call(
        client, client.new_id(), "t.f", queue, [b"args"], delay=60.0, keep=False, max_attempts=3
    )
    assert claiming.next() is None
    fs.clock_offset += 60.0
    claiming.wait(1.0, lambda: False)
    claim = claiming.next()
    assert claim is not None
    assert claim.name.invocation_id == receipt.invocation_id
    app._session.store.recovery.drop(claim.path, claim.name)
    loop._worker.deregister()
    app.close()
