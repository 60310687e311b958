"""Every operation of the protocol, with somebody else at work before every one of its calls.

So two processes meet at each point where they can: what one does in the middle of the other is
done whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sweep import CLIENT, ID, RESULT_TTL, Stage, work
from sweep_checks import prepared, steps
from sweep_operations import OPERATIONS, keep_alive

from fsqueue.spool.expiry import expire
from fsqueue.spool.reaper import reap

if TYPE_CHECKING:
    from sweep_operations import Operation


def reap_the_worker(stage: Stage) -> None:
    """It was silent, and is taken for dead in the middle of its work."""
    reap(stage.healthy, stage.worker.name, "silent")


def reap_and_work(stage: Stage) -> None:
    """The same, and somebody else runs its call."""
    reap_the_worker(stage)
    work(stage.healthy, stage.rescuer)


def reap_work_and_collect(stage: Stage) -> None:
    """The same, and the client has the outcome."""
    reap_and_work(stage)
    stage.healthy.collect(ID, keep=True)


def reap_all(stage: Stage) -> None:
    """Another reaper is at work, and takes this process too for dead."""
    for worker in (stage.worker, *stage.others[1:]):
        reap(stage.healthy, worker.name, "silent")


def work_off(stage: Stage) -> None:
    """Another worker runs all that is pending."""
    work(stage.healthy, stage.rescuer)


def tidy(stage: Stage) -> None:
    """The shared upkeep removes what nobody needs, and the mailbox of a client without lock."""
    expire(stage.healthy, result_ttl=RESULT_TTL)


# It reads what another one may have taken meanwhile; the runner catches that, in `execute`.
SAFE = [operation for operation in OPERATIONS if operation.name != "claim-and-read"]


@pytest.mark.parametrize(
    "other",
    [reap_the_worker, reap_and_work, reap_work_and_collect, reap_all, work_off, tidy],
    ids=lambda other: other.__name__,
)
@pytest.mark.parametrize("operation", SAFE, ids=str)
def test_somebody_else_acts_before_every_call(folder, operation, other):
    for number in range(1, len(steps(f"{folder}/dry", operation)) + 1):
        stage = prepared(f"{folder}/{number}", operation)

        def act(stage: Stage = stage) -> None:
            other(stage)
            stage.seen = stage.content()

        stage.fs.interrupt(number, act)
        try:
            operation.run(stage)
        except FileNotFoundError:
            # Its beat was removed between a touch and a look: upkeep has a next round.
            assert operation.run is keep_alive
        check_meeting(stage, operation)
        stage.close()


def check_meeting(stage: Stage, operation: Operation) -> None:
    accepted = operation.accepted or operation.refuses
    content = stage.content()
    places = stage.places()
    assert len(places) <= 1, places
    assert places or content is not None or operation.consumes or not accepted, "lost"
    stage.seen = stage.seen or content
    finish(stage)
    assert stage.places() == []
    content = stage.content()
    if not operation.consumes:
        assert content is not None or not accepted, "no outcome"
        assert stage.seen in {None, content}, "the outcome was replaced"
    first = stage.healthy.collect(ID, keep=True)
    assert first == stage.healthy.peek(ID) == stage.healthy.collect(ID, keep=True)
    known = {f"done/{CLIENT}/{ID}", f"kept/{CLIENT}/{ID}", f"done/{CLIENT}/{CLIENT}-2"}
    assert {path for path in stage.files() if path.startswith(("done/", "kept/"))} <= known
    assert stage.forsake() == []


def finish(stage: Stage) -> None:
    """The worker goes on, as far as it still is one; then it dies, and others do the rest."""
    for claim in stage.worker.claims:
        if stage.worker.release(claim):
            stage.store.give_back(claim)
            stage.worker.forget(claim.name)
    stage.worker.keep_alive()
    work(stage.store, stage.worker)
    reap_all(stage)
    work(stage.healthy, stage.rescuer)
