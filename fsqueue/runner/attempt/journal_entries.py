"""Creates the journal entries of attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsqueue.spool.format.states import State
from fsqueue.spool.history.entries import Entry, failure_fields
from fsqueue.spool.history.journal import waited

if TYPE_CHECKING:
    from fsqueue.runner.attempt.answers import Answer
    from fsqueue.runner.attempt.context import Execution
    from fsqueue.spool.format.records import Failure


def ended(execution: Execution, result: Answer, when: float) -> Entry:
    """The entry of an attempt that has an answer.

    Args:
        execution: the attempt.
        when: the time of its end, in seconds since the epoch by the file server's clock.
    """
    call, claim = execution.call, execution.claim
    again = result.retry_after is not None and not call.members
    failed = (result.state is State.FAILED) * (call.members or 1)
    if result.members:
        failed = sum(each.state is State.FAILED for each in result.members)
    fields: dict[str, Any] = {}
    if failed or again:
        fields = {"label": call.label, **failure_fields(_failure(result))}
    return Entry(
        id=call.id,
        task=call.task,
        queue=call.queue,
        attempt=claim.name.attempt,
        state="retried" if again else str(result.state),
        started=round(execution.started, 4),
        wait=round(waited(claim, call, execution.started), 4),
        run=round(max(0.0, when - execution.started), 6),
        members=call.members,
        failed=0 if again else failed,
        **fields,
    )


def _failure(result: Answer) -> Failure | None:
    """The failure of an answer; of a batch, the first one of its calls."""
    if result.failure is not None:
        return result.failure
    return next((each.failure for each in result.members if each.failure is not None), None)
