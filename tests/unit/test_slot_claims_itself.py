"""What a slot process claims itself, while a grant of its parent holds."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe

import pytest
from spool_pair import QUEUE, opened_pair
from support import wait_until

from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.slots.messages import Grant, Return, Work, take_steps
from fsqueue.runner.slots.self_claiming import SelfClaiming, Service

LONG = 1000.0  # seconds: no test waits for them


class Slot:
    """What claims for a slot, and the ends of its pipes that its parent has."""

    def __init__(self, pair) -> None:
        self.pair, self.pool = pair, ThreadPoolExecutor(1)
        self.orders, self.theirs = Pipe()
        self.records, writer = Pipe(duplex=False)
        os.set_blocking(self.records.fileno(), False)
        self.claiming = SelfClaiming(
            pair.store, Service({QUEUE: 1.0}, weighted=False), self.theirs, writer
        )
        self.claiming.longest = LONG
        self._unread = bytearray()

    def begin(self, grant):
        claim = self.pair.worker.claim(self.pair.publish().path)
        self.claiming.begin(Work(claim, grant=grant))
        return claim

    def next(self, ending=Ending.FINISHED):
        """The next claim, as a future."""
        return self.pool.submit(self.claiming.next, ending, [])

    def steps(self):
        """What was recorded, and not returned before, as endings and paths."""
        try:
            self._unread += os.read(self.records.fileno(), 1 << 16)
        except BlockingIOError:
            return []
        return [(step.ending, step.origin) for step in take_steps(self._unread)]


@pytest.fixture
def slot(spool):
    with opened_pair(spool) as pair:
        pair.worker.shared = True
        slot = Slot(pair)
        yield slot
        slot.orders.send(Return())
        slot.pool.shutdown()


def test_it_waits_for_the_next_call(slot):
    slot.begin(Grant(LONG))
    ending = Ending.FINISHED
    for _ in range(3):
        waiting = slot.next(ending)
        assert wait_until(slot.steps) == [(ending, "")]
        path = slot.pair.publish().path
        claim = waiting.result(60)
        assert claim.origin == slot.pair.store.layout.home(path)
        slot.pair.worker.adopt(claim)
        assert slot.steps() == [(None, path)]


def test_without_patience_it_does_not_wait(slot):
    slot.begin(Grant())
    assert slot.next().result(60) is None
    assert slot.steps() == []
    assert not slot.claiming.told


def test_an_order_of_its_parent_ends_the_grant(slot):
    slot.begin(Grant(LONG))
    slot.orders.send(Return())
    assert slot.next().result(60) is None
    assert slot.steps() == []


def test_it_has_told_the_end_of_its_call_when_it_gives_up_waiting(slot):
    slot.begin(Grant(1e-9))
    assert slot.next().result(60) is None
    assert slot.steps() == [(Ending.FINISHED, "")]
    assert slot.claiming.told
