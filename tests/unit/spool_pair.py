"""A client and a worker on one spool, for tests of the moves."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from support import RECORDS, open_store, publish_call

from fsqueue.spool.caller.client import Client
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.format.states import State
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import FaultyFilesystem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.config import RecordKind

QUEUE = "default"


class StillClock(FaultyFilesystem):
    """Its clock moves only by `clock_offset`, so a slow machine changes nothing."""

    def monotonic(self) -> float:
        return self.clock_offset


class Pair:
    """A client and a worker on one spool, whose calls are counted."""

    def __init__(self, root: str, fs: FaultyFilesystem, records: RecordKind) -> None:
        self.fs = fs
        self.store = open_store(root, self.fs, records=records)
        self.client = Client(self.store, events=False, poll_interval=0.05, on_silence=lambda: True)
        self.worker = Worker(self.store, queues=(QUEUE,), runner="thread", concurrency=1)
        self.worker.register()

    def publish(self, *, keep: bool = False):
        return publish_call(
            self.client, self.client.new_id(), "t.f", QUEUE, [b"args"], max_attempts=3, keep=keep
        )

    def outcome(self, claim, state: State = State.SUCCEEDED) -> Outcome:
        return Outcome(
            id=claim.name.invocation_id,
            spool=self.store.files.info.id,
            attempt=claim.name.attempt,
            state=state,
            worker=claim.worker,
            started=0.0,
            ended=0.0,
            codec="cloudpickle",
        )

    def complete(self, claim, state: State = State.SUCCEEDED) -> bool:
        self.worker.release(claim)
        published = self.store.endings.complete(claim, self.outcome(claim, state), [b"value"])
        self.worker.forget(claim)
        return published

    def close(self) -> None:
        for claim in self.worker.claims:
            self.complete(claim)
        self.worker.deregister()
        mailbox = self.store.layout.mailbox(self.client.name)
        for name in self.store.fs.names(mailbox):
            self.store.outcomes.collect(name, keep=False)
        self.client.close()


@contextlib.contextmanager
def opened_pair(
    root: str, fs: FaultyFilesystem | None = None, *, records: RecordKind = RECORDS
) -> Iterator[Pair]:
    """A pair that leaves its spool at the end."""
    pair = Pair(root, fs or FaultyFilesystem(), records)
    yield pair
    pair.fs.inject()
    pair.close()
