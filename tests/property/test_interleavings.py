"""Every operation of the protocol, with somebody else at work before every one of its calls.

So two processes meet at each point where they can: what one does in the middle of the other is
done whole.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from every_call import calls_of, states
from move_sweep import Move
from parked_operations import LAST, PARKED, end, park_by_client
from sweep import (
    CLIENT,
    ID,
    PARENTS,
    RESULT_TTL,
    Stage,
    client_of,
    end_parents,
    move_what_is_parked,
    work,
)
from sweep_operations import OPERATIONS
from sweep_steps import claim, keep_alive

from fsqueue.spool.worker.expiry import expire
from fsqueue.spool.worker.reaper import reap

pytestmark = pytest.mark.concurrent

if TYPE_CHECKING:
    from collections.abc import Callable

    from sweep_operations import Operation

    from fsqueue.spool.caller.client import Client


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
    stage.healthy.outcomes.collect(ID, keep=True)


def reap_all(stage: Stage) -> None:
    """Another reaper is at work, and takes this process too for dead."""
    for worker in (stage.worker, *stage.others):
        reap(stage.healthy, worker.name, "silent")


def work_off(stage: Stage) -> None:
    """Another worker runs all that is pending."""
    work(stage.healthy, stage.rescuer)


def tidy(stage: Stage) -> None:
    """The shared upkeep removes what nobody needs, and the mailbox of a client without lock."""
    expire(stage.healthy, result_ttl=RESULT_TTL)


def end_the_parents(stage: Stage) -> None:
    """What the call waits for ends."""
    end_parents(stage.healthy, PARENTS)


def upkeep(stage: Stage) -> None:
    """The worker in charge looks after parked calls."""
    move_what_is_parked(stage.healthy)


# It reads what another one may have taken meanwhile; the runner catches that, in `execute`.
SAFE = [operation for operation in OPERATIONS if operation.name != "claim-and-read"]


@pytest.mark.parametrize(
    "other",
    [reap_the_worker, reap_and_work, reap_work_and_collect, reap_all, work_off, tidy],
    ids=lambda other: other.__name__,
)
@pytest.mark.parametrize("operation", SAFE, ids=str)
def test_somebody_else_acts_before_every_call(folder, operation, other):
    meet(folder, operation, other)


@pytest.mark.parametrize("other", [end_the_parents, tidy, upkeep], ids=lambda other: other.__name__)
@pytest.mark.parametrize("operation", PARKED, ids=str)
def test_somebody_else_sees_to_a_parked_call_before_every_call(folder, operation, other):
    meet(folder, operation, other)


def meet(folder: str, operation: Operation, other: Callable[[Stage], object]) -> None:
    move = Move(operation)
    calls = range(1, len(calls_of(folder, move)) + 1)
    for number, state in zip(calls, states(folder, move), strict=False):
        stage = state.stage

        def act(stage: Stage = stage) -> None:
            other(stage)
            stage.seen = stage.content()

        stage.fs.interrupt(number, act)
        try:
            operation.run(stage)
        except FileNotFoundError:
            # Its beat was removed between a touch and a look: upkeep has a next round.
            assert operation.run is keep_alive
        except OSError as error:
            # The worker was taken for dead: it claims nothing until it has registered again.
            if operation.run is not claim or error.errno != errno.ESTALE:
                raise
        check_meeting(stage, operation)


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
    first = stage.healthy.outcomes.collect(ID, keep=True)
    assert first == stage.healthy.outcomes.peek(ID) == stage.healthy.outcomes.collect(ID, keep=True)
    known = {f"done/{CLIENT}/{ID}", f"kept/{CLIENT}/{ID}", f"done/{CLIENT}/{CLIENT}-2"}
    assert {path for path in stage.files() if path.startswith(("done/", "kept/"))} <= known
    assert stage.forsake() == []


def finish(stage: Stage) -> None:
    """The worker goes on, as far as it still is one; then it dies, and others do the rest."""
    for held in stage.worker.claims:
        if stage.worker.release(held):
            stage.store.claims.give_back(held)
            stage.worker.forget(held)
    stage.worker.keep_alive()
    work(stage.store, stage.worker)
    reap_all(stage)
    work(stage.healthy, stage.rescuer)


# -- who publishes a call that waits, and who ends what it waits for ------------------------------


def counted(stage: Stage, action: Callable[[Stage], object]) -> int:
    stage.inject()
    action(stage)
    return len(stage.fs.trace)


def assert_moved_on(stage: Stage) -> None:
    """Without upkeep."""
    assert [place.split("/")[0] for place in stage.places()] == ["pending"]


def test_the_parents_end_before_every_call_of_the_publisher(folder):
    dry = Stage(f"{folder}/dry")
    calls = counted(dry, park_by_client)
    dry.close()
    for number in range(1, calls + 1):
        stage = Stage(f"{folder}/{number}")
        stage.fs.interrupt(number, lambda: end_parents(stage.healthy, PARENTS))  # noqa: B023
        park_by_client(stage)
        assert_moved_on(stage)
        stage.close()


@pytest.mark.parametrize("heard", ["at once", "later"])
def test_a_call_is_parked_before_every_call_of_a_worker_that_did_not_look(folder, heard):
    """The worker hears the bell as soon as it rings, or when it has ended both parents."""

    def prepare(root: str) -> Stage:
        stage = Stage(root)
        stage.store.dependencies.watch()
        return stage

    def park(stage: Stage) -> None:
        other = client_of(stage.healthy)
        park_by_client_of(stage, other)
        other._lock.release()
        if heard == "at once":
            stage.store.dependencies.refresh()

    dry = prepare(f"{folder}/dry")
    calls = counted(dry, end(*PARENTS))
    dry.close()
    for number in range(1, calls + 1):
        stage = prepare(f"{folder}/{number}")
        stage.fs.interrupt(number, lambda: park(stage))  # noqa: B023
        end(*PARENTS)(stage)
        if heard == "later":
            stage.store.dependencies.refresh()
        assert_moved_on(stage)
        stage.close()


def park_by_client_of(stage: Stage, client: Client) -> None:
    own, stage.client = stage.client, client
    park_by_client(stage)
    stage.client = own


def test_a_worker_does_not_look_while_nobody_waits(folder):
    stage = Stage(f"{folder}/spool")
    stage.store.dependencies.watch()
    end("parent0001-5")(stage)  # makes the mailbox
    never = counted(stage, end(PARENTS[0]))
    park_by_client(stage)
    stage.store.dependencies.refresh()
    assert counted(stage, end("parent0001-3")) == never + 1
    counted(stage, end(LAST))
    assert_moved_on(stage)
    stage.store.dependencies.refresh()
    assert counted(stage, end("parent0001-4")) == never
    stage.close()
