"""A worker and its slot processes that try to claim one attempt at the same time."""

from __future__ import annotations

import os
from copy import copy

import pytest
from spool_pair import opened_pair

from fsqueue.testing import FaultyFilesystem


class Raced(FaultyFilesystem):
    """Takes one step just before the next rename."""

    def __init__(self) -> None:
        super().__init__()
        self.step = None

    def rename(self, *arguments, **options):
        step, self.step = self.step, None
        if step is not None:
            step()
        return super().rename(*arguments, **options)


@pytest.fixture
def pair(spool):
    with opened_pair(spool, Raced()) as pair:
        pair.worker.shared = True
        yield pair


def claim_of_slot(pair, path):
    return pair.store.claims.claim(path, pair.worker.name, shared=True)


def is_held(pair, claim):
    """Whether it is the worker's one claim, and upkeep leaves its file alone."""
    pair.worker.return_strays()
    return pair.worker.claims == [claim] and os.path.exists(claim.path)


def test_a_slot_that_is_faster_than_its_worker_has_the_claim(pair):
    path, won = pair.publish().path, []

    def slot_claims():
        won.append(claim_of_slot(pair, path))
        pair.worker.adopt(won[0])

    pair.fs.step = slot_claims
    assert pair.worker.claim(path) is None
    assert is_held(pair, won[0])
    assert (pair.worker.claimed, pair.worker.lost) == (1, 1)


def test_a_slot_that_dies_in_such_a_call_has_had_it(pair):
    path, released = pair.publish().path, []

    def slot_claims_and_dies():
        claim = claim_of_slot(pair, path)
        pair.worker.adopt(claim)
        released.append(pair.worker.release(claim))
        pair.store.recovery.recover(claim.path, claim.name, "its slot failed")
        pair.worker.forget(claim)

    pair.fs.step = slot_claims_and_dies
    assert pair.worker.claim(path) is None
    assert released == [True]
    assert pair.worker.claims == []
    again = pair.worker.claim(path.removesuffix(".1") + ".2")
    assert again is not None, "this attempt was counted"


def test_of_two_slots_the_one_that_has_not_lost_has_the_claim(pair):
    path = pair.publish().path
    loser = claim_of_slot(pair, path)
    winner = copy(loser)  # their records are alike
    pair.worker.adopt(loser)
    pair.worker.adopt(winner)
    pair.worker.disown(loser)
    assert is_held(pair, winner)
    assert pair.worker.claims[0] is winner


def test_a_slot_that_has_lost_to_its_worker_takes_nothing_from_it(pair):
    path = pair.publish().path
    claim = pair.worker.claim(path)
    assert claim is not None
    for end in (pair.worker.disown, pair.worker.release):
        late = copy(claim)
        pair.worker.adopt(late)
        assert not end(late)
        pair.worker.forget(late)
        assert is_held(pair, claim)
    assert pair.complete(claim)
    assert pair.worker.claims == []
