"""The operations on a call that waits for two others; `sweep_operations` has the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs
from support import publish_call
from sweep import (
    ARGUMENTS,
    BODY,
    ID,
    MAX_ATTEMPTS,
    PARENTS,
    QUEUE,
    Stage,
    end_parents,
    move_what_is_parked,
    outcome_of,
)
from sweep_operations import Operation
from sweep_steps import cancel_found, check_cancelled

from fsqueue.spool.format.names import AttemptName

if TYPE_CHECKING:
    from collections.abc import Callable, Container

FIRST, LAST = PARENTS


def parked(*ended: str, cancelled: bool = False) -> Callable[[Stage], object]:
    """It waits for the last of its parents; those that have ended have told nobody."""

    def prepare(stage: Stage) -> None:
        stage.call = structs.replace(stage.call, after=PARENTS)
        stage.origin = stage.healthy.publish_after(stage.call, [ARGUMENTS], (), LAST)
        if cancelled:
            stage.healthy.fs.rename(stage.origin, f"{stage.origin}x")
        ended_silently(*ended)(stage)

    return prepare


def ended_silently(*parents: str) -> Callable[[Stage], object]:
    def prepare(stage: Stage) -> None:
        stage.healthy.dependencies.has_waiters = False
        end_parents(stage.healthy, parents)
        stage.healthy.dependencies.has_waiters = True

    return prepare


def claimed_too_early(stage: Stage) -> None:
    stage.call = structs.replace(stage.call, after=PARENTS)
    stage.origin = stage.healthy.publish(stage.call, [ARGUMENTS])
    stage.claim = stage.worker.claim(stage.origin)
    ended_silently(FIRST)(stage)


def park_by_client(stage: Stage) -> object:
    return publish_call(
        stage.client,
        ID,
        "tasks.f",
        QUEUE,
        [ARGUMENTS],
        max_attempts=MAX_ATTEMPTS,
        keep=True,
        after=PARENTS,
        parent=LAST,
    )


def end(*parents: str) -> Callable[[Stage], object]:
    """A worker publishes the outcomes of the parents, until that has succeeded."""

    def run(stage: Stage) -> None:
        for parent in parents:
            name = AttemptName(parent, 1)
            stage.store.outcomes.publish(outcome_of(stage.store, name), [BODY])

    return run


def park_again(stage: Stage) -> object:
    assert stage.claim is not None
    stage.worker.release(stage.claim)
    try:
        return stage.store.claims.park_again(stage.claim, LAST)
    finally:
        stage.worker.forget(stage.claim)


def check_pending(stage: Stage, _: Container[bytes]) -> None:
    """Or whatever a fault has left, upkeep finds it: see `move_what_is_parked`."""
    move_what_is_parked(stage.healthy)
    quarantined = any(path.startswith(f"quarantine/{ID}") for path in stage.files())
    places = [place.split("/")[0] for place in stage.places()]
    assert places == ([] if quarantined else ["pending"])


def check_parked(stage: Stage, _: Container[bytes]) -> None:
    assert stage.places() == [f"after/{LAST}/{ID}.1"]


_BY_CLIENT = {"attempts": 1, "accepted": False, "refuses": True}
PARKED = (
    Operation("park", lambda _: None, park_by_client, **_BY_CLIENT),
    Operation(
        "park-after-the-end",
        ended_silently(*PARENTS),
        park_by_client,
        check=check_pending,
        **_BY_CLIENT,
    ),
    Operation("end-of-the-last-parent", parked(), end(LAST)),
    Operation("end-of-both-parents", parked(), end(LAST, FIRST), check=check_pending),
    Operation(
        "upkeep-of-parked",
        parked(*PARENTS),
        lambda stage: move_what_is_parked(stage.store),
        check=check_pending,
    ),
    Operation(
        "cancel-parked",
        parked(),
        cancel_found,
        contents=frozenset({b"", BODY}),
        check=check_cancelled,
    ),
    Operation("end-of-cancelled", parked(cancelled=True), end(LAST), contents=frozenset({b""})),
    Operation("park-again", claimed_too_early, park_again, check=check_parked),
)
