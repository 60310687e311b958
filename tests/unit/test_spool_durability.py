"""``durability="power"``: what is on the disk at each moment, judged by the system calls."""

from __future__ import annotations

import errno
import os

import pytest
from spool_pair import QUEUE, opened_pair
from support import open_store

from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.format.states import State
from fsqueue.spool.worker.reaper import reap
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import NAME_VERBS, Fault, FaultyFilesystem


@pytest.fixture
def pair(spool):
    with opened_pair(spool, FaultyFilesystem(durable=True)) as pair:
        pair.publish()  # slot and mailbox are there
        yield pair


def check_order(trace):
    """Each change of a name is settled before the next one, and no name leads to unsafe bytes.

    Returns the folders that were settled.
    """
    unsafe, unsettled, settled = set(), None, []
    for operation, following in zip(trace, [*trace[1:], None], strict=True):
        if operation.verb == "fsync":
            settled.append(operation.path)
            unsafe.discard(operation.path)
            unsettled = None if operation.path == unsettled else unsettled
            continue
        if operation.verb in NAME_VERBS:
            assert unsettled is None, f"{operation} before {unsettled} was settled"
        if operation.verb == "write":
            unsafe.add(operation.path)
        if operation.verb == "rename" and following and following.verb == "stat":
            continue  # its target's folder was missing
        if operation.verb in {"rename", "link"}:
            assert operation.path not in unsafe, f"{operation} of bytes that may be lost"
            unsettled = os.path.dirname(operation.target)
        if operation.verb == "mkdir":
            unsettled = os.path.dirname(operation.path)
    assert unsettled is None, f"{unsettled} was never settled"
    assert not unsafe
    return settled


def index_of(trace, verb, text):
    (found,) = [
        number
        for number, operation in enumerate(trace)
        if operation.verb == verb and text in (operation.target or operation.path)
    ]
    return found


def test_a_new_spool(spool):
    fs = FaultyFilesystem(durable=True)
    store = open_store(spool, fs)
    settled = check_order(fs.trace)
    assert {os.path.dirname(spool), spool} <= set(settled)
    assert f"{store.layout.tmp_folder}/" in next(path for path in settled if "/tmp/" in path)


def test_publish(pair):
    pair.fs.inject()
    receipt = pair.publish()
    settled = check_order(pair.fs.trace)
    assert os.path.dirname(receipt.path) in settled


def test_publish_into_a_new_slot(pair):
    pair.client._slots.clear()
    for folder in pair.fs.names(pair.store.layout.queue(QUEUE)):
        pair.worker.claim(f"{pair.store.layout.slot(QUEUE, folder)}/{pair.client.name}-1.1")
        assert pair.fs.rmdir(pair.store.layout.slot(QUEUE, folder))
    pair.fs.inject()
    receipt = pair.publish()
    settled = check_order(pair.fs.trace)
    assert pair.store.layout.queue(QUEUE) in settled  # the slot itself
    assert os.path.dirname(receipt.path) in settled


def claimed(pair):
    claim = pair.worker.claim(pair.publish().path)
    assert claim is not None
    return claim


def test_claim(pair):
    receipt = pair.publish()
    pair.fs.inject()
    assert pair.worker.claim(receipt.path)
    settled = check_order(pair.fs.trace)
    assert settled == [pair.store.layout.running(pair.worker.name), os.path.dirname(receipt.path)]


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_complete(pair, state):
    claim = claimed(pair)
    pair.fs.inject()
    assert pair.complete(claim, state)
    check_order(pair.fs.trace)
    published = index_of(pair.fs.trace, "fsync", pair.store.layout.mailbox(pair.client.name))
    if state is State.SUCCEEDED:
        gone = index_of(pair.fs.trace, "unlink", claim.path)
    else:
        gone = index_of(pair.fs.trace, "rename", pair.store.layout.failed_folder)
    assert published < gone


def test_give_back(pair):
    claim = claimed(pair)
    pair.worker.release(claim)
    pair.fs.inject()
    assert pair.store.claims.give_back(claim)
    assert os.path.dirname(claim.origin) in check_order(pair.fs.trace)
    pair.worker.forget(claim)


@pytest.mark.parametrize("attempts", [1, 3])
def test_reap(pair, attempts):
    other = Worker(pair.store, queues=(QUEUE,), runner="thread", concurrency=1)
    other.register()
    receipt = pair.publish()
    last = receipt.path.removesuffix(".1") + f".{attempts}"
    os.rename(receipt.path, last)
    claim = other.claim(last)
    assert claim is not None
    pair.fs.inject()
    assert reap(pair.store, other.name, "killed") == 1
    other.abandon()
    settled = check_order(pair.fs.trace)
    lost = attempts == 3
    wanted = pair.store.layout.failed_folder if lost else os.path.dirname(receipt.path)
    assert wanted in settled
    if lost:
        published = index_of(pair.fs.trace, "fsync", pair.store.layout.mailbox(pair.client.name))
        assert published < index_of(pair.fs.trace, "rename", pair.store.layout.failed_folder)


def test_quarantine(pair):
    claim = claimed(pair)
    pair.worker.release(claim)
    pair.fs.inject()
    pair.store.endings.quarantine(claim.path, AttemptName.parse(str(claim.name)), "damaged")
    check_order(pair.fs.trace)
    published = index_of(pair.fs.trace, "fsync", pair.store.layout.mailbox(pair.client.name))
    assert published < index_of(pair.fs.trace, "rename", f"/quarantine/{claim.name}.reason")


def test_collect_and_keep(pair):
    claim = claimed(pair)
    pair.complete(claim)
    pair.fs.inject()
    assert pair.store.outcomes.collect(claim.name.invocation_id, keep=True)
    assert pair.store.layout.kept_mailbox(pair.client.name) in check_order(pair.fs.trace)


def test_without_it_nothing_waits_for_the_disk(spool):
    with opened_pair(spool) as pair:
        pair.complete(claimed(pair))
        assert pair.fs.count("fsync") == 0
        assert pair.fs.count("rename") > 0


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOENT])
def test_a_filesystem_that_settles_no_folders_does_it_by_itself(pair, code):
    pair.fs.inject(Fault.fail(code, verb="fsync", path="/pending/"))
    assert pair.worker.claim(pair.publish().path)


def test_a_disk_that_fails_is_no_success(pair):
    pair.fs.inject(Fault.fail(errno.EIO, verb="fsync"))
    with pytest.raises(OSError, match="Input/output"):
        pair.publish()
