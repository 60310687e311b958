from __future__ import annotations

import errno
import os

import pytest
from support import open_store, publish_call

from fsqueue.errors import UnknownInvocationError
from fsqueue.spool.caller.client import Client
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.format.states import State
from fsqueue.spool.store.lookup import find_pending, find_pending_by_listing, is_running, state_of
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import FaultyFilesystem

pytestmark = pytest.mark.leaves_strays


@pytest.fixture
def store(spool):
    return open_store(spool)


@pytest.fixture
def receipt(store):
    client = Client(store, events=False, poll_interval=0.05, on_silence=lambda: True)
    yield publish_call(client, client.new_id(), "t.f", "default", [b""], max_attempts=3, keep=True)
    client.close()


@pytest.fixture
def worker(store):
    worker = Worker(store, queues=("default",), runner="thread", concurrency=1)
    worker.register()
    yield worker
    worker.deregister()


class Believing(FaultyFilesystem):
    """Takes outcomes for missing until it has listed their folder, as a client on NFSv3 may do."""

    def __init__(self):
        super().__init__(remote=True)
        self.listed = set()

    def names(self, path, **options):
        self.listed.add(path)
        return super().names(path, **options)

    def exists(self, path, **options):
        return self._knows(path) and super().exists(path, **options)

    def read_content(self, path, *args, **options):
        if not self._knows(path):
            raise FileNotFoundError(errno.ENOENT, "so it believes", path)
        return super().read_content(path, *args, **options)

    def _knows(self, path):
        return "/done/" not in path or os.path.dirname(path) in self.listed


def test_an_outcome_that_a_client_takes_for_missing_is_found(spool, store, receipt, worker):
    claim = worker.claim(receipt.path)
    store.endings.complete(claim, outcome_of(store, receipt.invocation_id, State.SUCCEEDED))
    worker.release(claim)
    assert state_of(open_store(spool, Believing()), receipt.invocation_id) is State.SUCCEEDED


def outcome_of(store, invocation_id, state):
    return Outcome(
        id=invocation_id,
        spool=store.files.info.id,
        attempt=1,
        state=state,
        worker="",
        started=0.0,
        ended=0.0,
        codec="",
    )


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
@pytest.mark.parametrize("keep", [None, True])
def test_states_from_birth_to_end(store, receipt, worker, state, keep):
    invocation_id = receipt.invocation_id
    assert state_of(store, invocation_id) is State.PENDING
    assert not is_running(store, invocation_id)
    claim = worker.claim(receipt.path)
    assert state_of(store, invocation_id) is State.RUNNING
    assert is_running(store, invocation_id)
    worker.release(claim)
    store.endings.complete(claim, outcome_of(store, invocation_id, state))
    if keep:
        store.outcomes.collect(invocation_id, keep=True)
    assert state_of(store, invocation_id) is state
    assert state.finished


def test_an_unknown_invocation(store, receipt):
    with pytest.raises(UnknownInvocationError, match="knows no invocation"):
        state_of(store, "abcd-1")
    store.outcomes.collect(receipt.invocation_id, keep=False)


def test_a_pending_call_is_found_with_and_without_a_hint(store, receipt):
    invocation_id = receipt.invocation_id
    for attempt in (1, 2, 3):
        assert find_pending(store, invocation_id) is not None
        found = find_pending(store, invocation_id, receipt.path)
        assert found == receipt.path.removesuffix(".1") + f".{attempt}"
        os.rename(found, receipt.path.removesuffix(".1") + f".{attempt + 1}")
    assert find_pending(store, invocation_id) is None
    assert find_pending_by_listing(store, invocation_id).endswith(".4")
    assert state_of(store, invocation_id) is State.PENDING


def test_one_id_is_not_taken_for_the_beginning_of_another(store, receipt):
    longer = f"{receipt.invocation_id}1"
    os.rename(receipt.path, receipt.path.replace(receipt.invocation_id, longer))
    assert find_pending_by_listing(store, receipt.invocation_id) is None
    with pytest.raises(UnknownInvocationError):
        state_of(store, receipt.invocation_id)


def stale_looks(trace):
    """Looks at a folder, or at a name in one, that an NFS client may answer from its cache."""
    touched = set()
    for operation in trace:
        folder = operation.path
        if operation.verb == "utime":
            touched.add(folder)
            continue
        if operation.verb in {"read", "stat"}:
            folder = os.path.dirname(folder)
        if folder not in touched:
            yield operation


def test_on_a_network_filesystem_no_state_comes_from_a_cache(spool, receipt, worker):
    fs = FaultyFilesystem(remote=True)
    store = open_store(spool, fs)
    worker.claim(receipt.path)
    fs.inject()
    assert state_of(store, receipt.invocation_id) is State.RUNNING
    assert fs.count("read", "stat", "listdir") > 4
    assert list(stale_looks(fs.trace)) == []
    fs.inject()
    with pytest.raises(UnknownInvocationError):
        state_of(store, f"{receipt.invocation_id}0")
    assert list(stale_looks(fs.trace)) == []
    fs.inject()
    assert store.outcomes.exists(receipt.invocation_id) is False
    assert list(stale_looks(fs.trace)) == []
    worker.release(worker.claims[0])
    os.unlink(os.path.join(store.layout.running(worker.name), os.path.basename(receipt.path)))
