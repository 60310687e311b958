"""Makes the journal entries of attempts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.format.records import shown
from fsqueue.spool.format.states import State
from fsqueue.spool.history.journal import Entry, waited

if TYPE_CHECKING:
    from fsqueue.runner.attempt.answers import Answer
    from fsqueue.runner.attempt.context import Execution
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.store.store import Store


def ended(execution: Execution, result: Answer, when: float) -> Entry:
    """The entry of an attempt that has an answer.

    Args:
        execution: the attempt.
        result: its answer.
        when: the time of its end, in seconds since the epoch by the file server's clock.
    """
    call, claim = execution.call, execution.claim
    again = result.retry_after is not None and not call.members
    failed = (result.state is State.FAILED) * (call.members or 1)
    if result.members:
        failed = sum(each.state is State.FAILED for each in result.members)
    return Entry(
        id=call.id,
        attempt=claim.name.attempt,
        state="retried" if again else str(result.state.value),
        started=round(execution.started, 4),
        wait=round(waited(claim, call, execution.started), 4),
        run=round(max(0.0, when - execution.started), 6),
        failure=result.failure.type if result.failure else "",
        members=call.members,
        failed=0 if again else failed,
        **(shown(call) if failed or again else {"task": call.task, "queue": call.queue}),
    )


def lost(store: Store, claim: Claim) -> Entry:
    """The entry of an attempt whose slot died; the task's name is read from the call's file."""
    found: dict[str, Any] = {"task": "", "queue": ""}
    with contextlib.suppress(OSError, EnvelopeError, SpoolVersionError):
        call, _ = store.calls.read_claimed(claim)
        found = shown(call)
    return Entry(
        id=claim.name.invocation_id,
        attempt=claim.name.attempt,
        state="lost",
        started=0.0,
        wait=0.0,
        run=0.0,
        **found,
    )
