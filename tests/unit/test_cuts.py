"""Calls that the end of their worker's job cuts off: the notes, and when they are too many."""

from __future__ import annotations

import os

import pytest
from spool_pair import opened_pair

from fsqueue.runner.job.cuts import JobEnded
from fsqueue.runner.loop.give_back import give_all_back
from fsqueue.spool.features.cuts import Cut, add_cut, cuts_of
from fsqueue.spool.format.states import State
from fsqueue.spool.worker.expiry import expire
from fsqueue.testing import Fault

FULL = Cut(worker="w", at=0.0, ran=48.0, limit=60.0, job="7")


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        yield pair


def claimed(pair, **options):
    receipt = pair.publish(**options)
    return pair.worker.claim(receipt.path)


def run_again(pair, claim):
    """Claim it from where it was given back."""
    folder = pair.store.layout.slot("default", os.listdir(pair.store.layout.queue("default"))[0])
    return pair.worker.claim(f"{folder}/{claim.name}")


@pytest.mark.parametrize(
    ("ran", "limit", "full"),
    [(48.0, 60.0, True), (47.9, 60.0, False), (60.0, 60.0, True), (500.0, 0.0, False)],
)
def test_a_cut_counts_after_four_fifths_of_the_workers_time(ran, limit, full):
    assert Cut(worker="w", at=0.0, ran=ran, limit=limit).is_full is full


def test_a_cut_call_is_pending_again_as_the_same_attempt(pair):
    claim = claimed(pair)
    pair.fs.clock_offset += 50.0
    give_all_back(pair.store, pair.worker, JobEnded("77", 60.0))
    assert not os.path.exists(claim.path)
    assert os.path.exists(claim.origin)
    (cut,) = cuts_of(pair.store.files, claim.name.invocation_id)
    assert (cut.worker, cut.job, cut.limit) == (pair.worker.name, "77", 60.0)
    assert 49.9 <= cut.ran < 60.0
    assert not pair.worker.claims
    os.unlink(claim.origin)


def test_the_third_full_cut_fails_the_call(pair):
    claim = claimed(pair)
    ended = JobEnded("77", 60.0)
    pair.fs.clock_offset = 58.0  # since each claim: the time of a file is not shifted
    for number in (1, 2, 3):
        give_all_back(pair.store, pair.worker, ended)
        pair.worker.forget(claim)
        assert len(cuts_of(pair.store.files, claim.name.invocation_id)) == number
        if number < 3:
            claim = run_again(pair, claim)
    data = pair.store.outcomes.collect(claim.name.invocation_id, keep=False)
    outcome, _ = pair.store.outcomes.read(claim.name.invocation_id, data)
    assert (outcome.state, outcome.failure.type) == (State.FAILED, "WalltimeError")
    assert "of t.f ran 58 s of 60 s in 3 jobs, whose end cut it off" in outcome.failure.message
    assert "it needs a longer walltime, or smaller pieces" in outcome.failure.message
    assert os.path.exists(pair.store.layout.failed(claim.name)), "it can be retried"


def test_cuts_of_calls_that_began_late_never_fail_them(pair):
    claim = claimed(pair)
    pair.fs.clock_offset = 20.0
    for _ in range(5):
        give_all_back(pair.store, pair.worker, JobEnded("77", 60.0))
        pair.worker.forget(claim)
        claim = run_again(pair, claim)
    assert len(cuts_of(pair.store.files, claim.name.invocation_id)) == 5
    assert pair.complete(claim)


def test_a_call_that_has_ended_is_not_cut(pair):
    claim = claimed(pair)
    outcome = pair.outcome(claim)
    assert pair.store.outcomes.publish(outcome, [b"value"])
    give_all_back(pair.store, pair.worker, JobEnded("", 60.0))
    assert cuts_of(pair.store.files, claim.name.invocation_id) == []
    assert not os.path.exists(claim.path)
    assert not os.path.exists(claim.origin)


def test_a_call_is_given_back_though_its_cut_cannot_be_noted(pair, caplog):
    claim = claimed(pair)
    pair.fs.inject(Fault.fail(28, at=None, path=pair.store.layout.cuts_folder))
    give_all_back(pair.store, pair.worker, JobEnded("77", 60.0))
    pair.fs.inject()
    assert os.path.exists(claim.origin)
    assert "it is not noted that" in caplog.text
    os.unlink(claim.origin)


JUNK = [
    b"",
    b"\n",
    b"{}",
    b"\xff\n",
    b"[" * 3000,
    b'{"worker": 1, "at": 1, "ran": 1}\n',
    b"\0" * 90_000,
]


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_damaged_notes_count_for_nothing(pair, junk):
    path = pair.store.layout.cuts("abcd-1")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(junk)
    assert cuts_of(pair.store.files, "abcd-1") == []
    assert add_cut(pair.store.files, "abcd-1", FULL) == [FULL]
    assert cuts_of(pair.store.files, "abcd-1") == ([FULL] if len(junk) < 1 << 16 else [])
    assert os.path.getsize(path) <= (1 << 16) + 30_000


def test_a_note_that_was_written_twice_counts_once(pair):
    add_cut(pair.store.files, "abcd-1", FULL)
    assert add_cut(pair.store.files, "abcd-1", FULL) == [FULL, FULL]
    assert cuts_of(pair.store.files, "abcd-1") == [FULL]


def test_a_folder_or_a_link_in_the_place_of_the_notes(pair, tmp_path):
    os.makedirs(pair.store.layout.cuts("abcd-1"))
    os.symlink(tmp_path / "elsewhere", pair.store.layout.cuts("abcd-2"))
    for name in ("abcd-1", "abcd-2"):
        assert cuts_of(pair.store.files, name) == []
        with pytest.raises(OSError):
            add_cut(pair.store.files, name, FULL)
    assert not (tmp_path / "elsewhere").exists()


def test_notes_expire_after_a_week(pair):
    add_cut(pair.store.files, "abcd-1", FULL)
    pair.fs.clock_offset += 86_400.0
    expire(pair.store, result_ttl=60.0)
    assert cuts_of(pair.store.files, "abcd-1") == [FULL], "calls may wait for days between jobs"
    pair.fs.clock_offset += 6.1 * 86_400.0
    expire(pair.store, result_ttl=60.0)
    assert cuts_of(pair.store.files, "abcd-1") == []
