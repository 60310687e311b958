"""The retry of a failed call, ended or failed at every one of its filesystem calls."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import traceback
import warnings

import pytest

from fsqueue.spool import controls
from fsqueue.spool.client import Client
from fsqueue.spool.opening import open_store
from fsqueue.spool.records import Outcome
from fsqueue.spool.sightings import pending_calls
from fsqueue.spool.states import State
from fsqueue.spool.worker import Worker
from fsqueue.testing import CRASH_STATUS, Fault, FaultyFilesystem

QUEUE = "default"


@pytest.fixture
def folders(tmp_path):
    """Roots of spools, in memory where that is possible."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    base = tempfile.mkdtemp(prefix="fsqueue-retry-", dir=parent)
    yield (f"{base}/{number}" for number in itertools.count())
    shutil.rmtree(base)


class Stage:
    """A spool with one failed call, and a worker."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.store = open_store(root)
        self.worker = Worker(self.store, queues=(QUEUE,), runner="thread", concurrency=1)
        self.worker.register()
        client = Client(self.store, events=False, poll_interval=0.05, on_silence=lambda: True)
        self.id = client.new_id()
        client.publish(self.id, "t.f", QUEUE, [b"args"], max_attempts=3, keep=True)
        self.run_all(State.FAILED)
        self.new_id = controls.retried_id(self.id)

    def run_all(self, state: State) -> int:
        """Let the worker run what is pending; returns how much that was."""
        calls = list(pending_calls(self.store))
        for pending in calls:
            claim = self.worker.claim(pending.path)
            assert claim is not None
            call, payload = self.store.read_call(claim)
            assert bytes(payload.data) == b"args"
            self.worker.release(claim)
            outcome = Outcome(
                id=call.id,
                spool=call.spool,
                attempt=1,
                state=state,
                worker="",
                started=0.0,
                ended=0.0,
                codec="",
            )
            self.store.complete(claim, outcome, [])
            self.worker.forget(claim.name)
        return len(calls)

    def retry(self, fs: FaultyFilesystem | None = None) -> None:
        store = self.store if fs is None else open_store(self.root, fs)
        calls = list(controls.retryable(store))
        if fs is not None:
            store.sync_clock()
            fs.inject(*self.faults)
        for failed in calls:
            assert controls.retry_failed(store, failed) in {self.new_id, None}

    def check(self) -> None:
        """Nothing is lost, whatever has happened; and in the end there is one new outcome."""
        failed = self.store.fs.names(self.store.layout.failed_folder)
        pending = [each.name.invocation_id for each in pending_calls(self.store)]
        assert failed or pending, "the call is lost"
        assert set(pending) <= {self.new_id}
        self.retry()
        assert self.store.fs.names(self.store.layout.failed_folder) == []
        assert self.run_all(State.SUCCEEDED) in {1, 2}, "at least once"
        assert self.state_of(self.new_id) is State.SUCCEEDED
        assert self.state_of(self.id) is State.FAILED
        self.retry()
        assert self.run_all(State.SUCCEEDED) == 0

    def state_of(self, invocation_id: str) -> State:
        data = self.store.peek(invocation_id)
        assert data is not None
        return self.store.read_outcome(invocation_id, data)[0].state


def test_dying_at_each_step(folders):
    for number in itertools.count():
        stage = Stage(next(folders))
        stage.faults = [Fault.crash(after=number > 0, at=max(1, number))]
        status = in_child(lambda each=stage: each.retry(FaultyFilesystem()))
        stage.check()
        if status == 0:
            break
        assert status == CRASH_STATUS
    assert number > 8


@pytest.mark.parametrize("fault", [Fault.lost_reply, Fault.fail], ids=["lost reply", "error"])
def test_a_fault_at_each_step(folders, fault):
    for number in itertools.count(1):
        stage = Stage(next(folders))
        fs = FaultyFilesystem()
        stage.faults = [fault(at=number)]
        try:
            stage.retry(fs)
        except OSError:
            done = False
        else:
            done = len(fs.trace) < number
        stage.check()
        if done:
            break
    assert number > 8


def test_two_operators_at_once(folders):
    stage = Stage(next(folders))
    (failed,) = controls.retryable(stage.store)
    call, payload = stage.store.read_failed(failed.files[0])
    other = open_store(stage.root)
    other.sync_clock()
    assert controls.retry_failed(stage.store, failed) == stage.new_id
    assert stage.run_all(State.SUCCEEDED) == 1
    # The other one had read the call before, and goes on now.
    controls._publish_again(other, call, stage.new_id, payload)
    assert stage.run_all(State.FAILED) == 1
    assert stage.state_of(stage.new_id) is State.SUCCEEDED, "the first outcome"


def in_child(action) -> int:
    """Run in a forked process; returns its exit status, 0 if the action returned."""
    with warnings.catch_warnings():  # pytest-xdist has a thread that takes no lock of ours
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:  # noqa: BLE001 - nothing may leave a forked child
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
