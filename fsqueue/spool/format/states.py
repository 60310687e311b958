"""The states of an invocation, and the allowed transitions between them."""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Final


class State(enum.StrEnum):
    """The state of an invocation."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether the invocation has an outcome."""
        return self not in {State.PENDING, State.RUNNING}


class Move(enum.StrEnum):
    """A step of the protocol; `spool.store` has a method of the same name for each."""

    PUBLISH = "publish"
    WITHDRAW = "withdraw"
    PUBLISH_AFTER = "publish_after"
    MOVE_ON = "move_on"
    CLAIM = "claim"
    PARK = "park"
    ADMIT = "admit"
    COMPLETE = "complete"
    RETRY = "retry"
    CANCEL_PENDING = "cancel_pending"
    CANCEL_RUNNING = "cancel_running"
    GIVE_BACK = "give_back"
    REQUEUE = "requeue"
    LOSE = "lose"
    QUARANTINE = "quarantine"


TRANSITIONS: Final = MappingProxyType(
    {
        Move.PUBLISH: (frozenset[State](), frozenset({State.PENDING})),
        Move.WITHDRAW: (frozenset({State.PENDING, State.RUNNING}), frozenset[State]()),
        Move.PUBLISH_AFTER: (frozenset[State](), frozenset({State.PENDING})),
        Move.MOVE_ON: (frozenset({State.PENDING}), frozenset({State.PENDING})),
        Move.CLAIM: (frozenset({State.PENDING}), frozenset({State.RUNNING})),
        Move.PARK: (frozenset({State.RUNNING}), frozenset({State.PENDING})),
        Move.ADMIT: (frozenset({State.PENDING}), frozenset({State.PENDING})),
        Move.COMPLETE: (frozenset({State.RUNNING}), frozenset({State.SUCCEEDED, State.FAILED})),
        Move.RETRY: (frozenset({State.RUNNING}), frozenset({State.PENDING})),
        Move.CANCEL_PENDING: (frozenset({State.PENDING}), frozenset({State.CANCELLED})),
        Move.CANCEL_RUNNING: (frozenset({State.RUNNING}), frozenset({State.CANCELLED})),
        Move.GIVE_BACK: (frozenset({State.RUNNING}), frozenset({State.PENDING})),
        Move.REQUEUE: (frozenset({State.RUNNING}), frozenset({State.PENDING})),
        Move.LOSE: (frozenset({State.RUNNING}), frozenset({State.FAILED})),
        Move.QUARANTINE: (frozenset({State.PENDING, State.RUNNING}), frozenset({State.FAILED})),
    }
)
"""The start and end states of each move; no state means that the invocation does not exist."""
