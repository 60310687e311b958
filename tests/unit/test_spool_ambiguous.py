"""Errors that leave open whether the operation was carried out."""

from __future__ import annotations

import errno
import os

import pytest
from support import open_store, publish_call

from fsqueue.spool.caller.client import Client
from fsqueue.spool.format.claim import Claim
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.format.states import State
from fsqueue.testing import Fault, FaultyFilesystem

QUEUE = "default"


class Caller:
    """A client over a filesystem with injected faults."""

    def __init__(self, root: str) -> None:
        self.fs = FaultyFilesystem()
        self.store = open_store(root, self.fs)
        self.client = Client(self.store, events=False, poll_interval=0.05, on_silence=lambda: True)
        self.client._register()
        self.id = self.client.new_id()

    def publish(self) -> str:
        return publish_call(
            self.client, self.id, "t.f", QUEUE, [b"args"], max_attempts=3, keep=False
        ).path

    def deliver(self) -> None:
        outcome = Outcome(
            id=self.id,
            spool=self.store.files.info.id,
            attempt=1,
            state=State.SUCCEEDED,
            worker="w",
            started=0.0,
            ended=0.0,
            codec="cloudpickle",
        )
        name = AttemptName(self.id, 1)
        claim = Claim(name, f"{self.store.layout.running('w')}/{name}", "", "w", str(name))
        assert self.store.endings.complete(claim, outcome, [b"value"])


@pytest.fixture
def caller(spool):
    caller = Caller(spool)
    yield caller
    caller.fs.inject()
    caller.client.close()


def test_a_call_that_was_published_before_the_error_is_accepted(caller):
    caller.publish()  # makes the slot
    caller.id = caller.client.new_id()
    caller.fs.inject(Fault.lost_reply(verb="rename", code=errno.EIO))
    assert os.path.lexists(caller.publish())


def test_a_call_that_was_not_published_is_refused_and_leaves_nothing(caller):
    caller.fs.inject(Fault.fail(errno.EIO, verb="rename"))
    with pytest.raises(OSError, match="Input/output"):
        caller.publish()
    assert os.listdir(caller.store.layout.tmp_folder) == []


def test_a_refusal_whose_clean_up_loses_its_reply_stays_a_refusal(caller):
    caller.fs.inject(Fault.fail(errno.EIO, verb="rename"), Fault.lost_reply(verb="unlink"))
    with pytest.raises(OSError, match="Input/output"):
        caller.publish()


@pytest.mark.parametrize("fault", [Fault.fail, Fault.lost_reply])
@pytest.mark.parametrize(("keep", "verb"), [(True, "rename"), (False, "unlink")])
def test_an_outcome_that_was_read_is_not_lost_by_what_comes_after(caller, keep, verb, fault):
    caller.deliver()
    caller.fs.inject(fault(code=errno.EIO, verb=verb))
    data = caller.store.outcomes.collect(caller.id, keep=keep)
    assert data is not None
    assert caller.store.outcomes.read(caller.id, data)[1].data == b"value"
    caller.store.outcomes.collect(caller.id, keep=False)
    caller.store.fs.discard(caller.store.layout.kept(caller.id))


def test_no_error_of_a_bell_hides_that_a_call_was_published(caller):
    caller.client._events = True
    caller.fs.inject(Fault.fail(errno.EIO, path=caller.store.layout.bell_folder))
    assert os.path.lexists(caller.publish())


def test_no_file_is_in_quarantine_without_its_reason(caller):
    path = caller.publish()
    name = str(AttemptName(caller.id, 1))
    caller.fs.inject(Fault.fail(errno.ENOSPC, at=2, path=caller.store.layout.quarantine_folder))
    with pytest.raises(OSError, match="No space"):
        caller.store.files.set_aside(path, "it is damaged")
    assert name not in os.listdir(caller.store.layout.quarantine_folder)
    caller.store.files.set_aside(path, "it is damaged")
    assert sorted(os.listdir(caller.store.layout.quarantine_folder)) == [name, f"{name}.reason"]
    for left in os.listdir(caller.store.layout.tmp_folder):
        os.unlink(caller.store.layout.tmp_folder + "/" + left)


def test_an_old_listing_does_not_make_a_claim(caller):
    """The worker's folder, which it has listed with the call in it, was removed by a reaper."""
    origin = caller.publish()
    store = caller.store
    folder = store.layout.running("w")
    store.fs.make_folders(folder)
    claim = store.claims.claim(origin, "w")
    store.fs.names(folder, fresh=True)
    assert store.claims.give_back(claim)
    os.rmdir(folder)
    caller.fs.inject(Fault.stale())
    assert store.claims.claim(origin, "w") is None
    assert os.path.lexists(origin)
