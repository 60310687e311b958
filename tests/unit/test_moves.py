"""The table of steps in docs/concepts.md: each leads from and to the states that it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from life_of_a_call import drawing
from spool_pair import QUEUE, opened_pair
from support import publish_call

from fsqueue.errors import UnknownInvocationError
from fsqueue.spool.features.cuts import Cut
from fsqueue.spool.format.states import State
from fsqueue.spool.store.lookup import find_pending_by_listing, state_of

pytestmark = pytest.mark.leaves_strays

CONCEPTS = Path(__file__).parents[2] / "docs" / "concepts.md"
LANE = "abcdefgh-1"
NOWHERE = "nowhere"
BY_HAND = {"publish once"}
"""Rows that are several steps; test_spool_once.py has them."""


def rows():
    """The table: step, states before, states after."""
    text = CONCEPTS.read_text("utf-8").partition("## States")[2].partition("\n## ")[0]
    found = re.findall(r"^\| ([a-z_ ]+) \| ?([\w, ]*)\| ?([\w, ]*)\|", text, re.MULTILINE)
    return {step: (states(before), states(after)) for step, before, after in found[1:]}


def states(cell):
    return set(re.findall(r"\w+", cell)) or {NOWHERE}


class Call:
    """A call that is moved by hand, and its state."""

    def __init__(self, pair):
        self.pair, self.store = pair, pair.store
        pair.store.dependencies.leave_to_worker()  # an end releases nothing by itself
        self.id = pair.client.new_id()

    @property
    def state(self):
        try:
            return str(state_of(self.store, self.id))
        except UnknownInvocationError:
            return NOWHERE

    def publish(self, **fields):
        fields = {"keep": True, "max_attempts": 3, **fields}
        self.path = publish_call(self.pair.client, self.id, "t.f", QUEUE, [b"args"], **fields).path

    def claim(self):
        self.claimed = self.pair.worker.claim(self.path)
        self.path = self.claimed.path
        # The worker is done with it, so that only the step decides about it.
        self.pair.worker.release(self.claimed)
        self.pair.worker.forget(self.claimed)

    @property
    def name(self):
        return self.claimed.name

    def header(self):
        return self.store.calls.read_header(self.path, self.name)

    def pending(self):
        self.publish()

    def running(self):
        self.publish()
        self.claim()


def publish(call, _before, _after):
    return call.publish


def publish_after(call, _before, _after):
    parent = call.pair.publish()
    return lambda: call.publish(parent=parent.invocation_id, after=(parent.invocation_id,))


def move_on(call, _before, _after):
    parent = call.pair.publish()
    call.publish(parent=parent.invocation_id, after=(parent.invocation_id,))
    call.pair.complete(call.pair.worker.claim(parent.path))
    return lambda: call.store.waiting.move_on(call.path)


def withdraw(call, before, _after):
    getattr(call, before)()
    return lambda: call.store.withdraw(call.path)


def claim(call, before, _after):
    getattr(call, before)()
    return call.claim


def park(call, _before, _after):
    call.publish(lanes=(LANE,))
    call.claim()
    return lambda: call.store.claims.park(call.claimed, call.header(), LANE)


def admit(call, before, after):
    park(call, before, after)()
    return lambda: call.store.waiting.admit(find_pending_by_listing(call.store, call.id))


def complete(call, before, after):
    getattr(call, before)()
    outcome = call.pair.outcome(call.claimed, State(after))
    return lambda: call.store.endings.complete(call.claimed, outcome, [b"value"])


def retry(call, before, _after):
    getattr(call, before)()
    return lambda: call.store.claims.retry(call.claimed, call.header(), 1.0)


def cancel_pending(call, before, _after):
    getattr(call, before)()
    return lambda: call.store.endings.cancel_pending(call.path)


def cancel_running(call, before, _after):
    getattr(call, before)()
    return lambda: call.store.endings.cancel_running(call.id)


def give_back(call, before, _after):
    getattr(call, before)()
    return lambda: call.store.claims.give_back(call.claimed)


def requeue(call, before, _after):
    getattr(call, before)()
    return lambda: call.store.recovery.requeue(call.path, call.name, call.header())


def lose(call, before, _after):
    getattr(call, before)()
    return lambda: call.store.endings.lose(call.path, call.name, call.header(), "it was killed")


def exhaust(call, before, _after):
    getattr(call, before)()
    cuts = [Cut(worker="w", job="7", ran=58.0, limit=60.0, at=0.0)]
    return lambda: call.store.endings.exhaust(call.path, call.name, call.header(), cuts)


def quarantine(call, before, _after):
    call.running()
    if before == State.PENDING:
        call.store.claims.give_back(call.claimed)
        call.path = call.claimed.origin
    return lambda: call.store.endings.quarantine(call.path, call.name, "damaged")


STEPS = {
    each.__name__: each
    for each in (
        *(publish, publish_after, move_on, withdraw, claim, park, admit, complete, retry),
        *(cancel_pending, cancel_running, give_back, requeue, lose, exhaust, quarantine),
    )
}


def test_the_table_has_every_step():
    assert rows().keys() == STEPS.keys() | BY_HAND


def test_the_readme_draws_these_steps():
    readme = (CONCEPTS.parent.parent / "README.md").read_text("utf-8")
    assert f"```text\n{drawing()}```" in readme, f"README.md lacks this drawing:\n{drawing()}"


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (step, before, after)
        for step, (starts, ends) in rows().items()
        if step in STEPS
        for before in sorted(starts)
        for after in sorted(ends)
    ],
)
def test_a_step_leads_where_the_table_says(spool, step, before, after):
    with opened_pair(spool) as pair:
        call = Call(pair)
        run = STEPS[step](call, before, after)
        assert call.state == before
        run()
        assert call.state == after
