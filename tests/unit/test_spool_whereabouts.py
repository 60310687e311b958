"""The walk over all folders in which a call's file can be."""

from __future__ import annotations

import pytest
from spool_pair import QUEUE, opened_pair
from support import publish_call

from fsqueue.spool.files.whereabouts import all_folders, unfinished
from fsqueue.spool.worker.expiry import expire

LIMIT = f"{'0' * 32}-1"
DAY = 86_400.0


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        yield pair


def waiting_for_a_limit(pair) -> str:
    """Path of a call that waits, as another one runs; and its claim."""
    receipts = [
        publish_call(
            pair.client,
            pair.client.new_id(),
            "t.f",
            QUEUE,
            [b"x"],
            max_attempts=3,
            keep=True,
            lanes=(LIMIT,),
        )
        for _ in range(2)
    ]
    holder, waiting = (pair.worker.claim(receipt.path) for receipt in receipts)
    assert pair.store.limits.acquire(LIMIT, holder) is not None
    call, _ = pair.store.calls.read_claimed(waiting)
    assert pair.worker.release(waiting)
    assert pair.store.claims.park(waiting, call, LIMIT)
    pair.worker.forget(waiting)
    return waiting.name.invocation_id


def test_every_place_of_an_unfinished_call_is_found(pair):
    waiting = waiting_for_a_limit(pair)
    pending = pair.publish().invocation_id
    child = publish_call(
        pair.client,
        pair.client.new_id(),
        *("t.f", QUEUE, [b"x"]),
        max_attempts=3,
        keep=True,
        after=(pending,),
        parent=pending,
    ).invocation_id
    running = {claim.name.invocation_id for claim in pair.worker.claims}
    assert unfinished(pair.store.files) == {waiting, pending, child, *running}
    assert len(list(all_folders(pair.store.files))) >= 4


def test_a_call_that_waits_for_one_at_a_limit_is_not_woken_by_the_expiry(pair):
    parent = waiting_for_a_limit(pair)
    child = publish_call(
        pair.client,
        pair.client.new_id(),
        *("t.f", QUEUE, [b"x"]),
        max_attempts=3,
        keep=True,
        after=(parent,),
        parent=parent,
    ).invocation_id
    expire(pair.store, result_ttl=DAY)
    assert pair.fs.names(pair.store.layout.after(parent)) == [f"{child}.1"]
