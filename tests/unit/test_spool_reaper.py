from __future__ import annotations

import contextlib
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support import open_store, publish_call, read_record, rewrite, upgrade, wait_until

from fsqueue.spool.caller.client import Client
from fsqueue.spool.format.states import State
from fsqueue.spool.worker.reaper import reap
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import Fault, FaultyFilesystem

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

QUEUE = "default"
pytestmark = pytest.mark.leaves_strays


@pytest.fixture
def fs() -> FaultyFilesystem:
    return FaultyFilesystem()


@pytest.fixture
def store(spool, fs) -> Store:
    store = open_store(spool, fs)
    store.files.sync_clock()
    return store


@pytest.fixture
def client(store):
    client = Client(store, events=False, poll_interval=0.05, on_silence=lambda: True)
    yield client
    client.close()


@pytest.fixture
def worker(store):
    worker = Worker(store, queues=(QUEUE,), runner="thread", concurrency=1)
    worker.register()
    yield worker
    worker.deregister()


def claim(client: Client, worker: Worker, *, max_attempts: int = 3):
    receipt = publish_call(
        client, client.new_id(), "t.f", QUEUE, [b"args"], max_attempts=max_attempts, keep=False
    )
    held = worker.claim(receipt.path)
    assert held is not None
    return held


def pending(store: Store) -> list[str]:
    return sorted(name for _, _, names in os.walk(store.layout.pending_folder) for name in names)


def traces(store: Store, worker: Worker) -> list[str]:
    layout = store.layout
    left = [*os.listdir(layout.workers_folder), *os.listdir(layout.running_folder)]
    return [name for name in left if name.startswith(worker.name)]


def test_work_comes_back_as_the_next_attempt(store, client, worker):
    held = claim(client, worker)
    assert reap(store, worker.name, "killed") == 1
    assert pending(store) == [f"{held.name.invocation_id}.2"]
    assert os.path.dirname(held.origin).endswith(os.listdir(store.layout.queue(QUEUE))[0])
    assert traces(store, worker) == []


def test_other_renames_of_this_host_need_not_wait_for_a_dead_clients_cache(
    store, client, worker, fs
):
    held = claim(client, worker)
    fs.remote = True
    fs.inject()
    assert reap(store, worker.name, "killed") == 1
    verbs = [operation.verb for operation in fs.trace if operation.path == held.path]
    assert verbs.index("open") < verbs.index("rename")


def changed_after(path: str, last: float) -> float:
    os.utime(path, follow_symlinks=False)
    now = os.lstat(path).st_ctime
    return now if now > last else 0.0


def test_the_latest_claims_of_a_dead_host_are_recovered_last(store, client, worker, fs):
    """The host may still have a hold on these."""
    held = [claim(client, worker) for _ in range(4)]
    latest = 0.0
    for number in (2, 0, 3, 1):
        latest = wait_until(lambda path=held[number].path, last=latest: changed_after(path, last))
    fs.remote = True
    fs.inject()
    assert reap(store, worker.name, "killed") == 4
    opened = [operation.path for operation in fs.trace if operation.verb == "open"]
    assert opened == [held[number].path for number in (2, 0, 3, 1)]


def test_the_last_attempt_fails_with_the_reason(store, client, worker):
    held = claim(client, worker, max_attempts=1)
    reap(store, worker.name, "its process was killed")
    assert pending(store) == []
    data = store.outcomes.peek(held.name.invocation_id)
    outcome, payload = store.outcomes.read(held.name.invocation_id, data)
    assert outcome.state is State.FAILED
    assert outcome.failure.type == "WorkerLostError"
    assert "its process was killed" in outcome.failure.message
    assert payload.data == b""
    assert os.listdir(store.layout.failed_folder) == [str(held.name)]


def test_a_worker_without_work_leaves_nothing(store, worker):
    assert reap(store, worker.name, "killed") == 0
    assert traces(store, worker) == []
    assert reap(store, worker.name, "killed") == 0


def test_a_finished_attempt_is_not_run_again(store, client, worker):
    held = claim(client, worker)
    store.outcomes.publish(store.outcomes.queue_failure(held.name, "WorkerLostError", "x"), ())
    reap(store, worker.name, "killed")
    assert pending(store) == []
    assert traces(store, worker) == []


def test_a_damaged_call_goes_into_quarantine_and_its_caller_knows(store, client, worker):
    held = claim(client, worker)
    rewrite(held.path, read_record(held.path)[:100])
    good = claim(client, worker)
    assert reap(store, worker.name, "killed") == 2
    data = store.outcomes.peek(held.name.invocation_id)
    outcome, _ = store.outcomes.read(held.name.invocation_id, data)
    assert outcome.failure.type == "InvocationCorruptError"
    assert sorted(os.listdir(store.layout.quarantine_folder)) == [
        str(held.name),
        f"{held.name}.reason",
    ]
    assert pending(store) == [f"{good.name.invocation_id}.2"]


def test_a_foreign_file_goes_into_quarantine(store, worker):
    with open(f"{store.layout.running(worker.name)}/core", "wb"):
        pass
    reap(store, worker.name, "killed")
    assert sorted(os.listdir(store.layout.quarantine_folder)) == ["core", "core.reason"]
    assert traces(store, worker) == []


def test_a_call_of_another_version_is_left_alone(store, client, worker):
    held = claim(client, worker)
    rewrite(held.path, read_record(held.path).replace(b"fsqueue 1", b"fsqueue 9", 1))
    upgrade(store.layout.root)
    good = claim(client, worker)
    reap(store, worker.name, "killed")
    assert os.path.lexists(held.path)
    assert pending(store) == [f"{good.name.invocation_id}.2"]


def test_a_call_that_cannot_be_read_does_not_stop_the_others(store, client, worker, fs):
    bad, *good = [claim(client, worker) for _ in range(5)]
    fs.inject(Fault.fail(errno.EIO, at=None, verb="read", path=bad.path))
    with contextlib.suppress(OSError):  # it may raise, once all the others are safe
        reap(store, worker.name, "killed")
    assert pending(store) == sorted(f"{held.name.invocation_id}.2" for held in good)
    fs.inject()
    reap(store, worker.name, "killed")
    assert len(pending(store)) == 5


def test_a_claim_at_the_last_moment_is_found_the_next_time(store, client, worker, fs):
    claim(client, worker)
    folder = store.layout.running(worker.name)
    store.fs.names(folder)
    late = claim(client, worker)
    fs.inject(Fault.stale(path=folder, at=1))
    assert reap(store, worker.name, "killed") == 1
    assert os.path.lexists(late.path)
    assert len(traces(store, worker)) == 4
    assert reap(store, worker.name, "killed") == 1
    assert len(pending(store)) == 2
    assert traces(store, worker) == []


def test_many_reapers_give_back_once(store, client, worker, spool):
    held = [claim(client, worker) for _ in range(60)]
    stores = [open_store(spool) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: reap(each, worker.name, "killed"), stores))
    assert pending(store) == sorted(f"{each.name.invocation_id}.2" for each in held)
    assert traces(store, worker) == []
