"""The first outcome stands, even if it is collected while a late worker publishes."""

from __future__ import annotations

import errno

import pytest
from spool_pair import QUEUE, opened_pair

from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.testing import Fault, FaultyFilesystem


class Meanwhile(FaultyFilesystem):
    """Lets something happen before or after the next call of a verb."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = None

    def _call(self, verb, function, /, *args, **kwargs):
        plan, matches = self.plan, self.plan is not None and self.plan[0] == verb
        if matches:
            self.plan = None
        if matches and plan[1] == "before":
            plan[2]()
        result = super()._call(verb, function, *args, **kwargs)
        if matches and plan[1] == "after":
            plan[2]()
        return result


@pytest.fixture
def pair(spool):
    with opened_pair(spool, Meanwhile()) as pair:
        yield pair


@pytest.fixture
def claim(pair):
    """A kept call with an outcome."""
    pair.publish(keep=True)
    claim = pair.worker.claim(FolderBacklog(pair.store, QUEUE).next())
    publish(pair, claim, b"first")
    return claim


def publish(pair, claim, value):
    pair.worker.release(claim)
    pair.store.endings.complete(claim, pair.outcome(claim), [value])
    pair.worker.forget(claim)


def value_of(data):
    return bytes(b"".join(data).rpartition(b"\n")[2])


@pytest.mark.parametrize(("verb", "when"), [("read", "before"), ("read", "after")])
def test_another_handle_collects_and_a_late_worker_publishes(pair, claim, verb, when):
    store, invocation_id = pair.store, claim.name.invocation_id
    others = []

    def meanwhile():
        others.append(store.outcomes.collect(invocation_id, keep=True))
        publish(pair, claim, b"late")

    pair.fs.plan = (verb, when, meanwhile)
    data = store.outcomes.collect(invocation_id, keep=True)

    assert value_of(others[0]) == value_of(data) == b"first"
    assert value_of(store.outcomes.peek(invocation_id)) == b"first"
    assert value_of(store.outcomes.collect(invocation_id, keep=True)) == b"first"
    store.fs.discard(store.layout.done(invocation_id))
    store.fs.discard(store.layout.kept(invocation_id))


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSPC, errno.ENOENT])
def test_collecting_without_links(pair, claim, code):
    store, invocation_id = pair.store, claim.name.invocation_id
    pair.fs.inject(Fault.fail(code, verb="link"))

    assert value_of(store.outcomes.collect(invocation_id, keep=True)) == b"first"

    assert value_of(store.outcomes.peek(invocation_id)) == b"first"
    assert store.fs.names(store.layout.mailbox(pair.client.name)) == []
    store.fs.discard(store.layout.kept(invocation_id))


def test_a_lost_reply_of_the_link(pair, claim):
    store, invocation_id = pair.store, claim.name.invocation_id
    pair.fs.inject(Fault.lost_reply(verb="link"))

    assert value_of(store.outcomes.collect(invocation_id, keep=True)) == b"first"

    assert store.fs.names(store.layout.mailbox(pair.client.name)) == []
    store.fs.discard(store.layout.kept(invocation_id))
