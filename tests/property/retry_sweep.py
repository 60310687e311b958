"""The retry of a failed call by an operator, for the sweep of every call."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from every_call import Swept
from support import open_store, publish_call

from fsqueue.errors import EnvelopeError
from fsqueue.spool.admin import controls
from fsqueue.spool.admin.listing import pending_calls
from fsqueue.spool.caller.client import Client
from fsqueue.spool.format.names import retried_id
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.format.states import State
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import FaultyFilesystem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sweep import Mount

    from fsqueue.testing import Fault
    from fsqueue.testing import Operation as Step

QUEUE = "default"


class Stage:
    """A spool with one failed call, and a worker."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.store = open_store(root)
        self.worker = Worker(self.store, queues=(QUEUE,), runner="thread", concurrency=1)
        self.worker.register()
        client = Client(self.store, events=False, poll_interval=0.05, on_silence=lambda: True)
        self.id = client.new_id()
        publish_call(client, self.id, "t.f", QUEUE, [b"args"], max_attempts=3, keep=True)
        self.run_all(State.FAILED)
        self.new_id = retried_id(self.id)

    def run_all(self, state: State) -> int:
        """Let the worker run what is pending; returns how much that was."""
        calls = list(pending_calls(self.store))
        for pending in calls:
            claim = self.worker.claim(pending.path)
            assert claim is not None
            call, payload = self.store.calls.read_claimed(claim)
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
            self.store.endings.complete(claim, outcome, [])
            self.worker.forget(claim)
        return len(calls)

    def retry(self, fs: FaultyFilesystem | None = None, faults: Sequence[Fault] = ()) -> None:
        store = self.store if fs is None else open_store(self.root, fs)
        calls = list(controls.retryable(store))
        if fs is not None:
            store.files.sync_clock()
            fs.inject(*faults)
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
        data = self.store.outcomes.peek(invocation_id)
        assert data is not None
        return self.store.outcomes.read(invocation_id, data)[0].state


class Retry(Swept):
    name = "retry"

    def begin(self, root: str, mount: Mount) -> Stage:
        del mount
        return Stage(root)

    def run(self, state: Stage, *faults: Fault) -> Sequence[Step]:
        fs = FaultyFilesystem()
        state.retry(fs, faults)
        return fs.trace

    def survive(self, state: Stage, fault: Fault, step: Step) -> None:
        """A file that may not be read is told of, and left where it is."""
        try:
            super().survive(state, fault, step)
        except EnvelopeError:
            assert fault.code == errno.EACCES

    def finish(self, state: Stage, *, dead: bool) -> None:
        del dead
        state.check()


RETRIES = (Retry(),)
