"""Publishes the answer of a body, or an error in place of a result that cannot be stored."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from fsqueue.codec import PYTHON
from fsqueue.common.logs import CALLS
from fsqueue.errors import EnvelopeError, RemoteError, ResultTooLargeError, StorageError
from fsqueue.runner.attempt import journal_entries
from fsqueue.runner.attempt.answers import Answer
from fsqueue.runner.attempt.context import Execution
from fsqueue.runner.attempt.time_limits import timeout_error
from fsqueue.spool.disk.capacity import check_size
from fsqueue.spool.format.records import Outcome, shown, titled
from fsqueue.spool.format.schedule import later
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.spool.disk.identity import Process
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.records import Call

log: logging.Logger = logging.getLogger(__name__)
calls: logging.Logger = logging.getLogger(CALLS)

PATIENCE: Final = 300.0
"""Seconds to wait for room for a result, on a disk that has room for others."""


class Publication:
    """The publication of one answer. Called again until the shared directory accepts it.

    A result that can never be stored is replaced by a small failure that reports this. The same
    happens to a result that does not fit for `PATIENCE` seconds although the disk has room for
    smaller files. On a completely full disk the result waits for as long as its worker lives.

    Triggers fire before the answer is published, so its size is checked before that. A result that
    fails later may have fired `on_result` already.

    Args:
        answer: the answer of its body.
    """

    def __init__(self, execution: Execution, answer: Answer) -> None:
        self._execution, self._answer = execution, answer
        self._replaced = answer.retry_after is not None and not execution.call.members
        self._since: float | None = None

    def __call__(self) -> None:
        """Publish it.

        Raises:
            OSError: the shared directory does not accept it now.
        """
        store, answer = self._execution.context.store, self._answer
        try:
            if not self._replaced:
                size = sum(map(len, answer.payload)) + sum(map(len, answer.buffers))
                check_size(store.fs, store.layout.root, size)
            finish(self._execution, answer)
        except StorageError as error:
            if self._replaced or not self._is_hopeless(error):
                raise
            claim = self._execution.claim
            log.error("%s: its result cannot be stored: %s", claim.name, error, extra=claim.tags)  # noqa: TRY400 - a traceback adds nothing
            self._answer = _instead_of(answer, self._execution, error)
            self._replaced = True
            finish(self._execution, self._answer)

    def _is_hopeless(self, error: StorageError) -> bool:
        now = self._execution.context.store.fs.monotonic()
        if not error.alone:
            self._since = None
        elif self._since is None:
            self._since = now
        return error.never or (self._since is not None and now - self._since > PATIENCE)


def _instead_of(answer: Answer, execution: Execution, error: StorageError) -> Answer:
    """The failure that replaces an answer that does not fit."""
    call = execution.call
    batch = (
        f" All {call.members} results of the batch share that file: try a smaller "
        "parallel_batch_size."
        if call.members
        else ""
    )
    if answer.failure is not None and not call.members:
        message = (
            f"{answer.failure.message} (the exception itself cannot be stored: {error.strerror})"
        )
        return Answer.of_error(RemoteError(answer.failure.type, message), call.codec)
    return Answer.of_queue(
        ResultTooLargeError(
            f"the result of {call.task} (invocation {call.id}) cannot be stored: "
            f"{error.strerror}.{batch} Return less, or write the data to a file of your own and "
            "return its path."
        )
    )


def settle_timed_out(context: WorkerContext, claim: Claim) -> None:
    """Settle an attempt whose process was killed because of its timeout."""
    call, _ = context.store.calls.read(claim.path, claim.name)
    error = timeout_error(call)
    answer_given = Answer.of_error(error, call.codec, call.retry, claim.name.retries)
    finish(Execution(context, claim, call), answer_given)
    context.store.limits.release_dead(call.lanes, call.id, claim.worker)


def remove_cancelled(context: WorkerContext, claim: Claim) -> None:
    """Remove a cancelled attempt whose process was ended; its outcome is already published."""
    with contextlib.suppress(FileNotFoundError, EnvelopeError):
        call, _ = context.store.calls.read(claim.path, claim.name)
        context.ended(Execution(context, claim, call), None)
    context.store.recovery.drop(claim.path, claim.name)


def finish(execution: Execution, result: Answer) -> None:
    """Publish an answer, or file the call for a retry."""
    store, claim, call = execution.context.store, execution.claim, execution.call
    now = store.clock.now()
    entry = journal_entries.ended(execution, result, now)
    if result.retry_after is not None and not call.members:
        text, title = "%s is retried in %.3g s: %s", titled(claim.text, call)
        log.info(text, title, result.retry_after, result.failure, extra=execution.tags)
        store.claims.retry(claim, call, later(now, result.retry_after))
        execution.context.record_attempt(entry)
        return
    execution.context.ended(execution, result)
    execution.caller_gone = call.caller is not None and execution.context.callers.is_gone(call)
    outcome = Outcome(
        id=call.id,
        spool=call.spool,
        attempt=claim.name.attempt,
        state=result.state,
        worker=claim.worker,
        started=round(execution.started, 4),
        ended=round(now, 4),
        codec=call.codec,
        failure=result.failure,
        members=result.members,
        created=call.created,
        retries=claim.name.retries,
        python=PYTHON if result.source is None else result.source.python,
        caller=None if call.keep else _receiver_of(execution),
        stale=execution.stale,
        **shown(call),
        **(_offered(call, result) if call.cache else {}),
    )
    store.endings.complete(claim, outcome, result.payload, result.buffers)
    execution.context.record_attempt(entry)
    if calls.isEnabledFor(logging.INFO):
        took = outcome.ended - outcome.started
        why = f": {result.failure.type}: {result.failure.message}" if result.failure else ""
        text, title = "%s has %s after %.3g s%s", titled(claim.text, call)
        calls.info(text, title, result.state, took, why, extra=execution.tags)


def _offered(call: Call, result: Answer) -> dict[str, Any]:
    """The fields of an outcome for the result cache; none for a result from the cache."""
    if result.state is not State.SUCCEEDED or result.source is not None:
        return {}
    return {"cache": call.cache, "cache_ttl": call.cache_ttl}


def _receiver_of(execution: Execution) -> Process | None:
    """The only process that may receive the outcome; None if another call needs it too.

    Raises:
        OSError: the shared directory fails; call it again.
    """
    call, callers = execution.call, execution.context.callers
    needed = execution.caller_gone and not callers.is_unwanted(call)
    return None if needed else call.caller
