"""Runs a claimed attempt, from reading its file to publishing its outcome."""

from __future__ import annotations

import contextlib
import enum
import logging
from typing import TYPE_CHECKING, Any

from fsqueue.codec import PYTHON, check_codec
from fsqueue.common import tracing
from fsqueue.common.logs import CALLS
from fsqueue.errors import EnvelopeError, InvocationExpiredError, SpoolVersionError
from fsqueue.runner.attempt import journal_entries, limits
from fsqueue.runner.attempt.bodies import Answer, answer, reused
from fsqueue.runner.attempt.context import Execution, current
from fsqueue.runner.attempt.dependencies import Parents
from fsqueue.runner.attempt.publication import Publication
from fsqueue.runner.attempt.time_limits import time_limit, timeout_error
from fsqueue.runner.attempt.withdrawal import receiver_of, withdraw
from fsqueue.runner.output.capture import capturing_if
from fsqueue.runner.processes.body_processes import BodyProcesses
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.format.schedule import later
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.records import Call, Payload

log = logging.getLogger(__name__)
calls = logging.getLogger(CALLS)

_LONGEST_PAUSE = 5.0


class Ending(enum.Enum):
    """How the execution of a claim ended."""

    FINISHED = enum.auto()
    NOT_STARTED = enum.auto()
    """The body has not begun: the attempt is given back as it was."""
    UNREADABLE = enum.auto()
    """Written by another format version: left alone."""
    GIVEN_BACK = enum.auto()
    """The claim was taken away meanwhile: nothing was published."""
    WAITS = enum.auto()
    """A concurrency limit is reached: the call waits in the lane, unchanged."""
    CANCELLED = enum.auto()
    """Its process was ended because the call was cancelled."""
    TIMED_OUT = enum.auto()
    """Its process was ended by its hard time limit."""
    UNWANTED = enum.auto()
    """It has been settled, but its caller is gone and cannot receive the outcome."""
    INTERRUPTED = enum.auto()
    """Its coroutine was cancelled by the end of its worker: the attempt is given back."""


def execute(
    context: WorkerContext,
    claim: Claim,
    release: Callable[[Claim], bool],
    *,
    killable: bool = False,
) -> Ending:
    """Run a claimed attempt and publish its outcome.

    The outcome is whatever the body returns or raises. Errors of the shared directory are retried
    for as long as the worker lives: the worker keeps the claim, and so the call.

    Args:
        context: the worker.
        claim: the attempt.
        release: releases the claim after the body; False if the worker has lost it.
        killable: this process may be killed to end the body.
    """
    found = _read(context, claim, release)
    if isinstance(found, Ending):
        return found
    call, payload, parents = found
    execution = Execution(context, claim, call, parents)
    if call.lanes and not _is_too_late(execution):
        full = retry_io(context, lambda: limits.take(execution))
        if full:
            return _wait_for_limit(execution, full, release)
    if call.blob:
        with contextlib.suppress(EnvelopeError):  # `answer` meets it again, and reports it
            retry_io(context, lambda: context.store.blobs.fetch(call.blob))
    if calls.isEnabledFor(logging.INFO):
        calls.info("%s has started: %s", claim.name, call.task, extra=_tags(execution))

    def settle(result: Answer) -> bool:
        if not execution.settle() or not release(claim):
            return False
        execution.end_report()
        retry_io(context, Publication(execution, result, finish))
        limits.leave(execution)
        return True

    settled, ending = False, None
    try:
        result = _run(execution, payload, settle, killable)
        ending = _interrupted(execution, result)
        settled = ending is None and settle(result)
    finally:
        execution.end_report()
        if not settled:
            limits.leave(execution)
    return ending or (_ending_of(call, context) if settled else Ending.GIVEN_BACK)


def _ending_of(call: Call, context: WorkerContext) -> Ending:
    return Ending.UNWANTED if context.callers.is_gone(call) else Ending.FINISHED


def _interrupted(execution: Execution, result: Answer) -> Ending | None:
    """How the execution of a cancelled coroutine ends; None if its answer is published."""
    ending = execution.interrupted
    if ending is None or (ending is Ending.INTERRUPTED and result.failure is None):
        return None  # it has succeeded although the worker is ending
    return ending if execution.settle() else None  # None: it had timed out before


def _read(
    context: WorkerContext, claim: Claim, release: Callable[[Claim], bool]
) -> tuple[Call, Payload, Parents | None] | Ending:
    """Read the call of a claim, its payload and its parents; or settle it if it cannot run."""
    store = context.store
    try:
        call, payload = retry_io(context, lambda: store.calls.read_claimed(claim))
        check_codec(call.codec, claim.path)
    except SpoolVersionError as error:
        log.error("left alone: %s", error, extra=claim.tags)  # noqa: TRY400 - a traceback adds nothing
        return Ending.UNREADABLE
    except FileNotFoundError:
        return Ending.GIVEN_BACK
    except EnvelopeError as error:
        return _quarantine(context, claim, str(error), release)
    if retry_io(context, lambda: context.callers.is_unwanted(call)):
        return _withdraw(Execution(context, claim, call), release)
    parents = _parents_of(context, call)
    if parents is not None and parents.unfinished:
        return _defer_again(context, claim, parents.unfinished, release)
    return call, payload, parents


def _quarantine(
    context: WorkerContext, claim: Claim, reason: str, release: Callable[[Claim], bool]
) -> Ending:
    log.error("into quarantine: %s", reason, extra=claim.tags)
    if release(claim):
        retry_io(context, lambda: context.store.endings.quarantine(claim.path, claim.name, reason))
    return Ending.FINISHED


def _withdraw(execution: Execution, release: Callable[[Claim], bool]) -> Ending:
    if not release(execution.claim):
        return Ending.GIVEN_BACK
    retry_io(execution.context, lambda: withdraw(execution))
    return Ending.UNWANTED


def _parents_of(context: WorkerContext, call: Call) -> Parents | None:
    if not call.after:
        return None
    parents: Parents = retry_io(context, lambda: Parents(context.store, call))
    # Asked later, when the task's module has been imported.
    parents.unpickles = lambda: context.unpickles(call.task)
    return parents


def _defer_again(
    context: WorkerContext, claim: Claim, parent: str, release: Callable[[Claim], bool]
) -> Ending:
    """File a call again that was released before its parent ended, as by a stale listing."""
    if release(claim):
        retry_io(context, lambda: context.store.park_again(claim, parent))
    return Ending.GIVEN_BACK


def _run(
    execution: Execution,
    payload: Payload,
    settle: Callable[[Answer], bool],
    killable: bool,
) -> Answer:
    call, name = execution.call, execution.claim.name
    if _is_too_late(execution):
        text = (
            f"invocation {call.id} of {call.task} was not started before it expired: the workers "
            "were busy, or none was there. Start more of them, or set a longer `expires`."
        )
        return Answer.of_queue(InvocationExpiredError(text))

    def give_up(error: BaseException) -> bool:
        settled = settle(Answer.of_error(error, call.codec, call.retry, name.retries))
        if settled:
            execution.context.live.end(execution.claim)  # its body may never end
        return settled

    token = current.set(execution)
    execution.context.executions[str(name)] = execution
    sink = execution.report if call.capture else None
    try:
        with (
            BodyProcesses(whole=killable),
            tracing.running(call.task, call.queue, call.id, call.trace, name.attempt) as span,
            capturing_if(sink, alone=killable),
            time_limit(execution, give_up, killable=killable),
        ):
            result = reused(execution) or answer(execution, payload)
            if result.failure is not None:
                span.failed(result.failure.type, result.failure.message)
            return result
    finally:
        del execution.context.executions[str(name)]
        execution.end_helper_threads()
        current.reset(token)


def _is_too_late(execution: Execution) -> bool:
    return 0 < execution.call.expires < execution.started


def _wait_for_limit(execution: Execution, lane: str, release: Callable[[Claim], bool]) -> Ending:
    """File a call to wait for a permit of a concurrency limit, without a slot or a worker."""
    context, claim = execution.context, execution.claim
    if not release(claim):
        return Ending.GIVEN_BACK
    calls.info(
        "%s waits for a permit of the concurrency limit in lane %s",
        claim.name,
        lane,
        extra=_tags(execution),
    )
    retry_io(context, lambda: context.store.park(claim, execution.call, lane))
    limits.leave(execution)
    return Ending.WAITS


def settle_timed_out(context: WorkerContext, claim: Claim) -> None:
    """Settle an attempt whose process was killed because of its timeout."""
    call, _ = context.store.calls.read_claimed(claim)
    error = timeout_error(call)
    answer_given = Answer.of_error(error, call.codec, call.retry, claim.name.retries)
    finish(Execution(context, claim, call), answer_given)
    context.store.limits.release_dead(call.lanes, call.id, claim.worker)


def remove_cancelled(context: WorkerContext, claim: Claim) -> None:
    """Remove a cancelled attempt whose process was ended; its outcome is already published."""
    with contextlib.suppress(FileNotFoundError, EnvelopeError):
        call, _ = context.store.calls.read_claimed(claim)
        context.ended(Execution(context, claim, call), None)
    context.store.drop(claim.path, claim.name)


def finish(execution: Execution, result: Answer) -> None:
    """Publish an answer, or file the call for a retry."""
    store, claim, call = execution.context.store, execution.claim, execution.call
    now = store.clock.now()
    entry = journal_entries.ended(execution, result, now)
    if result.retry_after is not None and not call.members:
        text = "%s is retried in %.3g s: %s"
        log.info(text, claim.name, result.retry_after, result.failure, extra=_tags(execution))
        store.retry(claim, call, later(now, result.retry_after))
        execution.context.record_attempt(entry)
        return
    execution.context.ended(execution, result)
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
        task=call.task,
        queue=call.queue,
        created=call.created,
        retries=claim.name.retries,
        python=PYTHON if result.source is None else result.source.python,
        caller=receiver_of(execution),
        **_offered(call, result),
    )
    store.endings.complete(claim, outcome, result.payload, result.buffers)
    execution.context.record_attempt(entry)
    if calls.isEnabledFor(logging.INFO):
        took = outcome.ended - outcome.started
        why = f": {result.failure.type}: {result.failure.message}" if result.failure else ""
        text = "%s has %s after %.3g s%s"
        calls.info(text, claim.name, result.state, took, why, extra=_tags(execution))


def _offered(call: Call, result: Answer) -> dict[str, Any]:
    """The fields of an outcome for the result cache; none for a result that was reused itself."""
    if not call.cache or result.state is not State.SUCCEEDED or result.source is not None:
        return {}
    return {"cache": call.cache, "cache_ttl": call.cache_ttl}


def _tags(execution: Execution) -> dict[str, Any]:
    return {**execution.claim.tags, "task": execution.call.task}


def retry_io(context: WorkerContext, step: Callable[[], Any]) -> Any:
    """Repeat a step until the shared directory works again, or the worker aborts."""
    pause = 0.05
    while True:
        try:
            return step()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and _spool_exists(context):
                raise
            log.warning("the shared directory fails (%s); trying again in %.2f s", error, pause)
            if context.aborted.wait(pause):
                raise
            pause = min(2 * pause, _LONGEST_PAUSE)


def _spool_exists(context: WorkerContext) -> bool:
    """Whether the spool is there. If not, a missing file is no proof: it may be unmounted.

    Raises:
        SpoolReplacedError: the root holds another spool.
    """
    try:
        context.store.files.check_spool()
    except OSError:
        return False
    return True
