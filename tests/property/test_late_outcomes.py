"""What a lost reply must not look like, and what a worker that was taken for dead can do."""

from __future__ import annotations

import pytest
from sweep import BODY, CLIENT, ID, LATE, OWN, Stage, outcome_of, work
from sweep_steps import complete, give_back

from fsqueue.spool.format.states import State
from fsqueue.spool.worker.reaper import reap
from fsqueue.testing import Fault

# -- lost replies -----------------------------------------------------------------------------


def test_a_claim_whose_reply_is_lost_has_one_claimant(stage):
    stage.publish()
    stage.fs.inject(Fault.lost_reply(verb="rename"))
    claim = stage.worker.claim(stage.origin)
    assert claim is not None
    assert stage.worker.claims == [claim]
    assert stage.rescuer.claim(stage.origin) is None
    assert stage.worker.claim(stage.origin) is None
    assert stage.store.calls.read_claimed(claim)[0].id == ID


def test_a_claim_that_somebody_else_has_is_not_taken_for_a_lost_reply(stage):
    stage.publish()
    assert stage.rescuer.claim(stage.origin) is not None
    stage.fs.inject(Fault.lost_reply(verb="rename"))
    assert stage.worker.claim(stage.origin) is None


def test_an_outcome_whose_reply_is_lost_counts_as_published(stage):
    stage.take()
    stage.store.fs.make_folders(stage.layout.mailbox(CLIENT))
    stage.fs.inject(Fault.lost_reply(verb="link"))
    assert complete(State.SUCCEEDED)(stage) is True
    assert stage.content() == OWN


# -- one outcome ------------------------------------------------------------------------------


def test_the_first_published_result_wins(stage):
    stage.take()
    assert complete(State.SUCCEEDED)(stage) is True
    assert stage.claim is not None
    second = outcome_of(stage.healthy, stage.claim.name)
    assert stage.healthy.endings.complete(stage.claim, second, [LATE]) is False
    assert stage.content() == OWN


def make_zombie(stage: Stage) -> None:
    """Its claim is reaped, and completed by somebody else."""
    stage.take()
    assert reap(stage.healthy, stage.worker.name, "silent") == 1
    assert work(stage.healthy, stage.rescuer) == [2]


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_a_zombie_cannot_replace_the_outcome(stage, state):
    make_zombie(stage)
    assert complete(state)(stage) is False
    assert stage.content() == BODY
    assert stage.places() == []


def test_a_zombie_that_gives_back_changes_nothing(stage):
    make_zombie(stage)
    assert give_back(stage) is False
    assert stage.places() == []
    assert stage.content() == BODY


def test_a_zombie_after_the_client_collected_is_never_seen(stage):
    make_zombie(stage)
    first = stage.healthy.outcomes.collect(ID, keep=True)
    assert complete(State.SUCCEEDED)(stage) is True  # the mailbox was empty again
    assert stage.healthy.outcomes.peek(ID) == first
    assert stage.content() == BODY


def test_a_zombie_that_was_first_ends_the_next_attempt(stage):
    stage.take()
    reap(stage.healthy, stage.worker.name, "silent")
    assert complete(State.SUCCEEDED)(stage) is True
    assert work(stage.healthy, stage.rescuer) == []
    assert stage.places() == []
    assert stage.content() == OWN
