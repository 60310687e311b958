"""Runs a claimed attempt, from reading its file to the answer of its body."""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING

from fsqueue.codec import check_codec
from fsqueue.common import tracing
from fsqueue.common.logs import CALLS
from fsqueue.errors import EnvelopeError, InvocationExpiredError, SpoolVersionError
from fsqueue.runner.attempt import permits
from fsqueue.runner.attempt.answers import Answer, Ending
from fsqueue.runner.attempt.bodies import answer, reused
from fsqueue.runner.attempt.context import Execution, current
from fsqueue.runner.attempt.dependencies import Parents
from fsqueue.runner.attempt.endings import Finished, retry_io
from fsqueue.runner.attempt.publication import Publication
from fsqueue.runner.attempt.time_limits import time_limit
from fsqueue.runner.output.capture import capturing_if, is_capturing
from fsqueue.runner.processes.body_processes import BodyProcesses
from fsqueue.runner.shared.resource_pool import needed_by
from fsqueue.spool.format.records import titled
from fsqueue.spool.format.resources import NONE, WALLTIME

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.records import Payload

log: logging.Logger = logging.getLogger(__name__)
calls: logging.Logger = logging.getLogger(CALLS)


def execute(
    context: WorkerContext,
    claim: Claim,
    settle: Callable[[Finished], Ending],
    *,
    killable: bool = False,
) -> Finished:
    """Run a claimed attempt. The caller settles what this returns.

    The answer is whatever the body returns or raises. Errors of the shared directory are retried
    for as long as the worker lives: the worker keeps the claim, and so the call.

    Args:
        settle: settles an attempt that has timed out, because its body may never end.
        killable: this process may be killed to end the body.
    """
    found = _read(context, claim)
    if isinstance(found, Finished):
        return found
    execution, payload = found
    try:
        kept_back = _prepare(execution)
        if kept_back is not None:
            return kept_back
        result = _run(execution, payload, settle, killable)
    except BaseException:
        permits.leave(execution)
        raise
    finally:
        execution.end_report()
    ending = execution.interrupted
    if ending is not None and not _succeeded_anyway(ending, result) and execution.settle():
        return Finished(context, claim, ending, execution=execution)
    return _answered(execution, result)


def _prepare(execution: Execution) -> Finished | None:
    """Take a call's permits and fetch its shared arguments. Returns a `Finished` if that fails."""
    context, call = execution.context, execution.call
    if 0 < call.expires < execution.started:
        return _expired(execution)
    if call.timeout and _is_too_long(execution):
        text = "%s is left to others: this worker may have less time left than its timeout, %g s"
        log.info(text, execution.claim.name, call.timeout, extra=execution.tags)
        return Finished(context, execution.claim, Ending.TOO_LONG)
    if call.lanes:
        full = retry_io(context, permits.take, execution)
        if full:
            return _wait_for_limit(execution, full)
    if call.blob:
        with contextlib.suppress(EnvelopeError):  # `answer` gets the same error and reports it
            retry_io(context, context.store.blobs.fetch, call.blob)
    if calls.isEnabledFor(logging.INFO):
        title = titled(execution.claim.text, call)
        calls.info("%s has started: %s", title, call.task, extra=execution.tags)
    return None


def _answered(execution: Execution, result: Answer) -> Finished:
    step = Publication(execution, result)
    return Finished(execution.context, execution.claim, Ending.FINISHED, step, execution)


def _succeeded_anyway(ending: Ending, result: Answer) -> bool:
    """Whether a coroutine has succeeded although it was cancelled when its worker ended."""
    return ending is Ending.INTERRUPTED and result.failure is None


def _read(context: WorkerContext, claim: Claim) -> tuple[Execution, Payload] | Finished:
    """Read a claim's call, its payload and its parents. Returns a `Finished` if it cannot run."""
    step: Callable[[], object]
    try:
        call, payload = retry_io(context, context.store.calls.read_claimed, claim)
        check_codec(call.codec, claim.path)
    except SpoolVersionError as error:
        log.error("left alone: %s", error, extra=claim.tags)  # noqa: TRY400 - a traceback adds nothing
        return Finished(context, claim, Ending.UNREADABLE)
    except FileNotFoundError:
        return Finished(context, claim, Ending.GIVEN_BACK, _nothing)
    except EnvelopeError as error:
        log.error("into quarantine: %s", error, extra=claim.tags)  # noqa: TRY400 - the text says it all
        step = partial(context.store.endings.quarantine, claim.path, claim.name, str(error))
        return Finished(context, claim, Ending.FINISHED, step)
    if call.caller is not None and retry_io(context, context.callers.is_unwanted, call):
        execution = Execution(context, claim, call)
        step = partial(_withdraw, execution)
        return Finished(context, claim, Ending.UNWANTED, step, execution)
    parents = retry_io(context, Parents, context.store, call) if call.after else None
    if parents is not None and parents.unfinished:
        # It was released before its parent ended, for example because of a stale listing.
        step = partial(context.store.claims.park_again, claim, parents.unfinished)
        return Finished(context, claim, Ending.GIVEN_BACK, step)
    return Execution(context, claim, call, parents), payload


def _is_too_long(execution: Execution) -> bool:
    """Whether a call without a walltime, judged by its timeout, needs a worker with more time.

    A waiting body runs it in any case: there may be no other worker.
    """
    context, timeout = execution.context, execution.call.timeout
    if execution.parent is not None or not context.time_left.lacks(timeout):
        return False
    return WALLTIME not in (needed_by(execution.claim.origin) or NONE)


def _nothing() -> None:
    """Do nothing: the last step of an attempt whose file has vanished."""


def _withdraw(execution: Execution) -> None:
    """Remove a claimed call whose caller is gone; `settle` admits the next call of its lanes.

    Dies before: the reaper that recovers the dead worker's attempt removes it. Dies after it:
    nothing is left of the call, and upkeep admits the next call. Lost reply: the file is gone.

    Raises:
        OSError: the shared directory fails; call it again.
    """
    context, claim = execution.context, execution.claim
    context.callers.report(execution.call)
    calls.info("%s is withdrawn: its caller is gone", claim.name, extra=claim.tags)
    context.store.withdraw(claim.path)


def _expired(execution: Execution) -> Finished:
    call = execution.call
    text = (
        f"invocation {call.id} of {call.task} was not started before it expired: the workers "
        "were busy, or none was there. Start more of them, or set a longer `expires`."
    )
    return _answered(execution, Answer.of_queue(InvocationExpiredError(text)))


def _wait_for_limit(execution: Execution, lane: str) -> Finished:
    """The call waits for a permit of a concurrency limit, without a slot or a worker."""
    context, claim = execution.context, execution.claim
    calls.info(
        "%s waits for a permit of the concurrency limit in lane %s",
        claim.name,
        lane,
        extra=execution.tags,
    )
    step = partial(context.store.claims.park, claim, execution.call, lane)
    return Finished(context, claim, Ending.WAITS, step, execution)


def _run(
    execution: Execution,
    payload: Payload,
    settle: Callable[[Finished], Ending],
    killable: bool,
) -> Answer:
    call, name = execution.call, execution.claim.text
    token = current.set(execution)
    execution.context.executions[name] = execution
    processes = execution.processes = BodyProcesses(whole=killable)
    try:
        with processes:
            if call.timeout or call.capture or is_capturing() or tracing.in_use():
                return _run_observed(execution, payload, settle, killable)
            return _result(execution, payload)
    finally:
        del execution.context.executions[name]
        execution.end_helper_threads()
        current.reset(token)


def _run_observed(
    execution: Execution,
    payload: Payload,
    settle: Callable[[Finished], Ending],
    killable: bool,
) -> Answer:
    """Run a call that is traced, captured or limited. Most calls are not, and skip these blocks."""
    call, claim = execution.call, execution.claim

    def give_up(error: BaseException) -> bool:
        result = Answer.of_error(error, call.codec, call.retry, claim.name.retries)
        execution.end_report()
        if settle(_answered(execution, result)) is Ending.GIVEN_BACK:
            return False
        execution.context.live.end(claim)  # its body may never end
        return True

    sink = execution.report if call.capture else None
    with (
        tracing.running(call, claim.name.attempt) as span,
        capturing_if(sink, alone=killable),
        time_limit(execution, give_up, killable=killable),
    ):
        result = _result(execution, payload)
        if result.failure is not None:
            span.failed(result.failure.type, result.failure.message)
        return result


def _result(execution: Execution, payload: Payload) -> Answer:
    found = reused(execution) if execution.call.cache else None
    return found or answer(execution, payload)
