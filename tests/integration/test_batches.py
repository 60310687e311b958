"""Calls of a fan-out that share a file, and arguments that share one."""

from __future__ import annotations

import os

import pytest
from support import wait_until

from fsqueue import FSQueue, InvocationError, State
from fsqueue.calls.batching import BatchSizer
from integration import sample_tasks
from integration.conftest import working


def pending(app):
    found = []
    for _, _, names in os.walk(app.store.layout.pending_folder):
        found += names
    return found


@pytest.mark.parametrize(("size", "count", "files"), [(4, 10, 3), (10, 10, 1), (100, 3, 1)])
def test_batches(app, size, count, files):
    task = app.task(parallel_batch_size=size)(sample_tasks.scaled)
    group = task.parallelize([(n,) for n in range(count)], common_args={"factor": 3})
    assert len(pending(app)) == files
    assert len({invocation.id for invocation in group}) == count
    with working(app):
        assert group.get(timeout=60) == [3 * n for n in range(count)]
    assert {invocation.status for invocation in group} == {State.SUCCEEDED}


def test_a_batch_of_one_is_a_call(app):
    task = app.task(parallel_batch_size=4)(sample_tasks.add)
    group = task.parallelize([(n,) for n in range(5)])
    assert ":" in group[3].id
    assert ":" not in group[4].id
    group.abandon()


def test_each_member_has_its_own_outcome(worked):
    group = worked.task(parallel_batch_size=10)(sample_tasks.odd).parallelize(
        [(n,) for n in range(4)]
    )
    assert [group[n].get(timeout=60) for n in (0, 2)] == [0, 2]
    for n in (1, 3):
        with pytest.raises(LookupError, match=str(n)):
            group[n].get(timeout=60)
    assert [invocation.status for invocation in group] == [State.SUCCEEDED, State.FAILED] * 2
    with pytest.raises(LookupError) as caught:
        group.get(timeout=60)
    assert "item 1 of a fan-out over 4" in caught.value.__notes__[-1]


def test_a_member_is_known_to_others_by_its_id(worked, spool):
    group = worked.task(parallel_batch_size=3)(sample_tasks.add).parallelize(
        [(n,) for n in range(3)]
    )
    assert group.get(timeout=60) == [1, 2, 3]
    other = FSQueue("t", root=spool)
    try:
        assert [other.invocation(invocation.id).get(timeout=60) for invocation in group] == [
            1,
            2,
            3,
        ]
        assert other.invocation(group[1].id).status is State.SUCCEEDED
        with pytest.raises(InvocationError, match="holds 3 calls"):
            other.invocation(f"{group[0].id.partition(':')[0]}:3").get(timeout=60)
    finally:
        other.close()


def test_an_argument_that_cannot_be_read_fails_its_member_only(worked):
    group = worked.task(parallel_batch_size=3)(sample_tasks.echo).parallelize(
        [(1,), (sample_tasks.Unreadable(),), (3,)]
    )
    assert group[0].get(timeout=60) == 1
    with pytest.raises(InvocationError, match="arguments"):
        group[1].get(timeout=60)
    assert group[2].get(timeout=60) == 3


def test_a_member_is_retried_within_its_batch(worked, tmp_path):
    task = worked.task(parallel_batch_size=5, retry_for=ConnectionError, retry_delay=0.0)(
        sample_tasks.fail_before
    )
    group = task.parallelize([(str(tmp_path / str(n)), n) for n in range(4)])
    assert group.get(timeout=60) == [1, 2, 3, 4]


def test_direct_fan_out_in_batches(app):
    total = app.direct_task(
        parallel_func=lambda call: [(n,) for n in range(call["value"])],
        aggregate_func=sum,
        parallel_batch_size="auto",
    )(sample_tasks.echo)
    with working(app):
        assert total(100) == 4950
    assert os.listdir(app.store.layout.done_folder) in ([], [app._session.client.name])


def test_dropping_a_batch_drops_all_of_it(app):
    group = app.task(parallel_batch_size=5)(sample_tasks.add).parallelize([(n,) for n in range(10)])
    group.abandon()
    assert pending(app) == []


# -- how large ------------------------------------------------------------------------------


def test_small_at_first_and_then_by_what_calls_take():
    pace = BatchSizer()
    assert pace.batch_size(10_000, 4) == 16
    assert pace.batch_size(20, 4) == 2
    pace.learn(0.001)
    assert pace.batch_size(10_000, 4) == 50
    assert pace.batch_size(100, 4) == 7  # each slot gets some
    for _ in range(50):
        pace.learn(1.0)
    assert pace.batch_size(10_000, 4) == 1
    for _ in range(200):
        pace.learn(0.0)
    assert pace.batch_size(100_000, 4) == 1000


# -- common arguments -----------------------------------------------------------------------


def test_large_common_arguments_are_stored_once(app):
    text = "x" * 100_000
    task = app.task(sample_tasks.length)
    group = task.parallelize([{"number": n} for n in range(5)], common_args={"text": text})
    (blob,) = os.listdir(app.store.layout.blobs_folder)
    again = task.parallelize([{"number": 7}], common_args={"text": text})
    assert os.listdir(app.store.layout.blobs_folder) == [blob]
    sizes = [
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(app.store.layout.pending_folder)
        for name in names
    ]
    assert max(sizes) < 1000
    with working(app):
        assert group.get(timeout=60) == [100_000 + n for n in range(5)]
        assert again.get(timeout=60) == [100_007]


def test_a_blob_that_is_damaged_fails_its_calls_clearly(app):
    group = app.task(sample_tasks.length).parallelize([()], common_args={"text": "x" * 100_000})
    (blob,) = os.listdir(app.store.layout.blobs_folder)
    with open(app.store.layout.blob(blob), "r+b") as file:
        file.seek(50_000)
        file.write(b"y")
    with (
        working(app),
        pytest.raises(InvocationError, match=f"{blob} is truncated or damaged"),
    ):
        group.get(timeout=60)


def test_a_blob_that_is_gone_fails_its_calls_clearly(app):
    group = app.task(sample_tasks.length).parallelize([()], common_args={"text": "x" * 100_000})
    (blob,) = os.listdir(app.store.layout.blobs_folder)
    os.unlink(app.store.layout.blob(blob))
    with working(app), pytest.raises(InvocationError, match=f"blobs/{blob} is missing"):
        group.get(timeout=60)
    wait_until(lambda: not pending(app))
