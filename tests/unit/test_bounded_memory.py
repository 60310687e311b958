"""What a worker remembers of bad files is bounded, however many there are."""

from __future__ import annotations

import logging
import os
import shutil

import pytest
from spool_pair import QUEUE, opened_pair
from support import upgrade

from fsqueue.errors import EnvelopeError
from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.format.resources import NONE
from fsqueue.spool.worker import distant_callers
from fsqueue.spool.worker.backlog import folder as folder_module
from fsqueue.spool.worker.backlog.worker import WorkerBacklog
from fsqueue.spool.worker.reaper import reap

pytestmark = pytest.mark.leaves_strays


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        yield pair


def copies(path, count):
    """Copies of a call, as if many had been made."""
    folder, name = os.path.split(path)
    client = name.split("-")[0]
    names = [f"{client}-{number}.1" for number in range(1000, 1000 + count)]
    for each in names:
        shutil.copy(path, f"{folder}/{each}")
    return names


def test_calls_of_another_version_that_a_dead_worker_has_held(pair, caplog):
    claim = pair.worker.claim(pair.publish().path)
    with open(claim.path, "r+b") as file:
        data = file.read()
        file.seek(0)
        file.write(data.replace(b"fsqueue 1", b"fsqueue 9", 1))
    upgrade(pair.store.layout.root)
    copies(claim.path, 1_500)
    with caplog.at_level(logging.WARNING):
        reap(pair.store, claim.worker, "killed")
    assert len(caplog.messages) >= 1_500
    assert len(pair.store.files._left_alone) == 1_000
    shutil.rmtree(pair.store.layout.running(claim.worker))
    pair.worker.release(claim)


def test_paths_that_cannot_be_moved(pair):
    for number in range(1_500):
        pair.store.files.pass_over(f"path-{number}", PermissionError("no"))
    assert len(pair.store.files._passed_over) == 1_000


def test_calls_that_cannot_be_claimed(pair):
    receipt = pair.publish()
    backlogs = WorkerBacklog(pair.store, {QUEUE: 1.0}, ResourcePool(NONE), weighted=False)
    folder = os.path.dirname(receipt.path)
    names = copies(receipt.path, 2 * folder_module._REMEMBERED + 50)
    for name in names[: len(names) // 2]:
        backlogs.skip(AttemptName.parse(name))
    for name in names[len(names) // 2 :]:
        backlogs.defer(f"{folder}/{name}")
    unclaimable = backlogs._unclaimable
    assert len(unclaimable.unreadable) == len(unclaimable.last) == folder_module._REMEMBERED
    first = next(iter(backlogs))
    half = len(names) // 2
    assert os.path.basename(first) not in {*names[half - 10_000 : half], *names[-10_000:]}
    for name in names:
        os.unlink(f"{folder}/{name}")


def test_damaged_blobs(pair):
    for number in range(1_050):
        digest = f"{number:032x}"
        pair.store.files.make_folders(os.path.dirname(pair.store.layout.blob(digest)))
        with open(pair.store.layout.blob(digest), "wb") as file:
            file.write(b"rubbish")
        with pytest.raises(EnvelopeError, match="quarantine"):
            pair.store.blobs.get(digest)
    assert len(pair.store.blobs._damaged) == 1_000


def test_clients_that_leave_while_they_are_suspected(pair):
    observer = distant_callers.DistantCallers(pair.store, lease=60.0)
    for number in range(5):
        path = pair.store.layout.client_lock(f"client{number:04}")
        lock = pair.store.fs.lock(path)
        observer.round()
        lock.release()
        observer.round()
        os.unlink(path)
    observer.round()
    assert len(observer._free_since) == 0
