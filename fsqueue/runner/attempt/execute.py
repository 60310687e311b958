"""Runs a claimed attempt: from the file to the published outcome."""

from __future__ import annotations

import contextlib
import enum
import logging
import os
from typing import TYPE_CHECKING, Any

from fsqueue.codec import PYTHON, check_codec
from fsqueue.common import tracing
from fsqueue.common.logs import CALLS
from fsqueue.errors import EnvelopeError, InvocationExpiredError, SpoolVersionError
from fsqueue.runner.attempt import journal_entries, limits
from fsqueue.runner.attempt.bodies import Answer, answer, reused
from fsqueue.runner.attempt.capture import capturing_if
from fsqueue.runner.attempt.context import Execution, current
from fsqueue.runner.attempt.dependencies import Parents, find_ancestor
from fsqueue.runner.attempt.lending import needed_by
from fsqueue.runner.attempt.publication import Publication
from fsqueue.runner.attempt.time_limits import time_limit, timeout_error
from fsqueue.runner.attempt.withdrawal import receiver_of, withdraw
from fsqueue.runner.processes.body_processes import BodyProcesses
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.format.schedule import later
from fsqueue.spool.format.states import State
from fsqueue.spool.store.lookup import find_due, find_pending, is_due

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    """Somebody took the claim away meanwhile: nothing was published."""
    WAITS = enum.auto()
    """Others of its lane are running: it waits there for its turn, as it was."""
    CANCELLED = enum.auto()
    """Its process was ended because nobody waits for it any more."""
    TIMED_OUT = enum.auto()
    """Its process was ended by its hard time limit."""
    UNWANTED = enum.auto()
    """It has been settled, and nobody can receive its outcome: its caller is gone."""
    INTERRUPTED = enum.auto()
    """Its coroutine was cancelled by the end of its worker: the attempt is given back."""


def execute(
    workplace: WorkerContext,
    claim: Claim,
    release: Callable[[Claim], bool],
    *,
    killable: bool = False,
) -> Ending:
    """Run a claimed attempt and publish its outcome.

    Whatever the body does becomes the outcome. Errors of the shared directory are retried for
    as long as the worker lives: the claim, and so the call, stays with it.

    Args:
        workplace: where this happens.
        claim: the attempt.
        release: asks, when the body is done, whether the claim is still this worker's.
        killable: this process may be ended to end the body.
    """
    found = _read(workplace, claim, release)
    if isinstance(found, Ending):
        return found
    call, payload, parents = found
    execution = Execution(workplace, claim, call, parents)
    if call.lanes and not _is_too_late(execution):
        full = _insist(workplace, lambda: limits.take(execution))
        if full:
            return _wait_in(execution, full, release)
    if call.blob:
        with contextlib.suppress(EnvelopeError):  # which `answer` meets again, and tells
            _insist(workplace, lambda: workplace.store.blobs.fetch(call.blob))
    if calls.isEnabledFor(logging.INFO):
        calls.info("%s has started: %s", claim.name, call.task, extra=_tags(execution))

    def settle(result: Answer) -> bool:
        if not execution.settle() or not release(claim):
            return False
        execution.end_report()
        _insist(workplace, Publication(execution, result, finish))
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
    return ending or (_ending_of(call, workplace) if settled else Ending.GIVEN_BACK)


def _ending_of(call: Call, workplace: WorkerContext) -> Ending:
    return Ending.UNWANTED if workplace.callers.is_gone(call) else Ending.FINISHED


def _interrupted(execution: Execution, result: Answer) -> Ending | None:
    """How the execution of a cancelled coroutine ends; None if its answer counts."""
    ending = execution.interrupted
    if ending is None or (ending is Ending.INTERRUPTED and result.failure is None):
        return None  # it has ended in spite of the worker's end
    return ending if execution.settle() else None  # if not, its time was over before


def _read(
    workplace: WorkerContext, claim: Claim, release: Callable[[Claim], bool]
) -> tuple[Call, Payload, Parents | None] | Ending:
    """What a claim holds and refers to; or how it has ended, if that cannot be read."""
    store = workplace.store
    try:
        call, payload = _insist(workplace, lambda: store.calls.read_claimed(claim))
        check_codec(call.codec, claim.path)
    except SpoolVersionError as error:
        log.error("left alone: %s", error, extra=claim.tags)  # noqa: TRY400 - that says it all
        return Ending.UNREADABLE
    except FileNotFoundError:
        return Ending.GIVEN_BACK
    except EnvelopeError as error:
        return _quarantine(workplace, claim, str(error), release)
    if _insist(workplace, lambda: workplace.callers.is_unwanted(call)):
        return _withdraw(Execution(workplace, claim, call), release)
    parents = _parents_of(workplace, call)
    if parents is not None and parents.unfinished:
        return _park_again(workplace, claim, parents.unfinished, release)
    return call, payload, parents


def _quarantine(
    workplace: WorkerContext, claim: Claim, reason: str, release: Callable[[Claim], bool]
) -> Ending:
    log.error("into quarantine: %s", reason, extra=claim.tags)
    if release(claim):
        _insist(
            workplace, lambda: workplace.store.endings.quarantine(claim.path, claim.name, reason)
        )
    return Ending.FINISHED


def _withdraw(execution: Execution, release: Callable[[Claim], bool]) -> Ending:
    if not release(execution.claim):
        return Ending.GIVEN_BACK
    _insist(execution.workplace, lambda: withdraw(execution))
    return Ending.UNWANTED


def _parents_of(workplace: WorkerContext, call: Call) -> Parents | None:
    if not call.after:
        return None
    parents: Parents = _insist(workplace, lambda: Parents(workplace.store, call))
    # Asked later, when the task's module has been imported.
    parents.unpickles = lambda: workplace.unpickles(call.task)
    return parents


def _park_again(
    workplace: WorkerContext, claim: Claim, parent: str, release: Callable[[Claim], bool]
) -> Ending:
    """A call came too early, as by an upkeep that had lost sight of its parent."""
    if release(claim):
        _insist(workplace, lambda: workplace.store.park_again(claim, parent))
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
            execution.workplace.live.end(execution.claim)  # its body may go on for ever
        return settled

    token = current.set(execution)
    execution.workplace.executions[str(name)] = execution
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
        del execution.workplace.executions[str(name)]
        execution.end_helpers()
        current.reset(token)


def _is_too_late(execution: Execution) -> bool:
    return 0 < execution.call.expires < execution.started


def _wait_in(execution: Execution, lane: str, release: Callable[[Claim], bool]) -> Ending:
    """Let a call wait for its turn, which needs neither a slot nor this worker."""
    workplace, claim = execution.workplace, execution.claim
    if not release(claim):
        return Ending.GIVEN_BACK
    calls.info("%s waits for its turn in lane %s", claim.name, lane, extra=_tags(execution))
    _insist(workplace, lambda: workplace.store.park(claim, execution.call, lane))
    limits.leave(execution)
    return Ending.WAITS


def time_out(workplace: WorkerContext, claim: Claim) -> None:
    """Settle an attempt whose process was ended as its time was over."""
    call, _ = workplace.store.calls.read_claimed(claim)
    error = timeout_error(call)
    answer_given = Answer.of_error(error, call.codec, call.retry, claim.name.retries)
    finish(Execution(workplace, claim, call), answer_given)
    workplace.store.limits.release_dead(call.lanes, call.id, claim.worker)


def cancelled(workplace: WorkerContext, claim: Claim) -> None:
    """Remove an attempt whose process was ended as nobody waits for it; its outcome is there."""
    with contextlib.suppress(FileNotFoundError, EnvelopeError):
        call, _ = workplace.store.calls.read_claimed(claim)
        workplace.ended(Execution(workplace, claim, call), None)
    workplace.store.drop(claim.path, claim.name)


def finish(execution: Execution, result: Answer) -> None:
    """Publish an answer, or file the call for a retry."""
    store, claim, call = execution.workplace.store, execution.claim, execution.call
    now = store.clock.now()
    entry = journal_entries.ended(execution, result, now)
    if result.retry_after is not None and not call.members:
        text = "%s is retried in %.3g s: %s"
        log.info(text, claim.name, result.retry_after, result.failure, extra=_tags(execution))
        store.retry(claim, call, later(now, result.retry_after))
        execution.workplace.note(entry)
        return
    execution.workplace.ended(execution, result)
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
    execution.workplace.note(entry)
    if calls.isEnabledFor(logging.INFO):
        took = outcome.ended - outcome.started
        why = f": {result.failure.type}: {result.failure.message}" if result.failure else ""
        text = "%s has %s after %.3g s%s"
        calls.info(text, claim.name, result.state, took, why, extra=_tags(execution))


def _offered(call: Call, result: Answer) -> dict[str, Any]:
    """Fields of an outcome that others may reuse: not of one that is another's itself."""
    if not call.cache or result.state is not State.SUCCEEDED or result.source is not None:
        return {}
    return {"cache": call.cache, "cache_ttl": call.cache_ttl}


def _tags(execution: Execution) -> dict[str, Any]:
    return {**execution.claim.tags, "task": execution.call.task}


def _insist(workplace: WorkerContext, step: Callable[[], Any]) -> Any:
    """Repeat a step until the shared directory lets it pass, or the worker is told to abort."""
    pause = 0.05
    while True:
        try:
            return step()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and _is_there(workplace):
                raise
            log.warning("the shared directory fails (%s); trying again in %.2f s", error, pause)
            if workplace.aborted.wait(pause):
                raise
            pause = min(2 * pause, _LONGEST_PAUSE)


def _is_there(workplace: WorkerContext) -> bool:
    """Whether the spool is there, so that a missing file is missing and not unmounted.

    Raises:
        SpoolReplacedError: another spool is.
    """
    try:
        workplace.store.files.check_spool()
    except OSError:
        return False
    return True


def _pending_ancestor(workplace: WorkerContext, invocation_id: str) -> str | None:
    """Path of a call of this application that a parked one waits for, and that may be run here."""
    store, ancestor = workplace.store, find_ancestor(workplace.store, invocation_id)
    if ancestor is None:
        return None
    path = find_pending(store, ancestor)
    if path is None or not is_due(store, path):
        path = limits.lendable(current.get(), ancestor, None)
    if path is None:
        return None
    queue = store.layout.home(path).split("/")[-3]
    return path if queue.partition(".")[0] == workplace.app_id else None


def run_if_pending(
    workplace: WorkerContext,
    invocation_id: str,
    hint: str | None,
    *,
    lanes: Sequence[str] | None = None,
    parked: bool = False,
) -> bool:
    """Claim an invocation, if it is pending, and run it in this thread; or what it waits for.

    Or one that waits for the place of the body that calls this, or of one that waits for that. A
    body that waits for an invocation calls this, so that it never waits for a slot or for itself.

    Args:
        workplace: the worker that claims.
        invocation_id: the invocation.
        hint: where it was published, if that is known.
        lanes: its lanes, if they are known.
        parked: it was published to wait for others.
    """
    try:
        path = _to_run(workplace, invocation_id, hint, lanes, parked=parked)
        if path is None:
            limits.hand_over(current.get(), invocation_id, hint, lanes)
            return False
    except OSError as error:
        # The call that is waited for has been accepted: to wait for it must not fail.
        log.warning("cannot look for %s now: %s", invocation_id, error)
        return False
    outer, name = current.get(), os.path.basename(path)
    needed = needed_by(workplace.store.layout.home(path))
    if needed is None or not workplace.budget.take(
        name, needed, str(outer.claim.name) if outer else ""
    ):
        return False  # it waits for a worker that has the resources, or for this one to have room
    try:
        return _run_pending(workplace, path)
    finally:
        workplace.budget.give(name)


def _run_pending(workplace: WorkerContext, path: str) -> bool:
    store = workplace.store
    try:
        worker = workplace.worker()
        claim = worker.claim(path)
    except (OSError, RuntimeError) as error:  # or no thread can be started
        log.warning("cannot claim %s now: %s", os.path.basename(path), error)
        return False
    if claim is None:
        return False
    workplace.live.begin(claim)
    try:
        ending = execute(workplace, claim, worker.release)
        if ending in {Ending.UNREADABLE, Ending.INTERRUPTED} and worker.release(claim):
            store.give_back(claim)
        elif ending is Ending.CANCELLED and worker.release(claim):
            cancelled(workplace, claim)
    finally:
        worker.release(claim)  # also an attempt that has vanished: see `WorkerLoop._settle`
        worker.forget(claim.name)
        workplace.live.end(claim)
    store.dependencies.helped(claim.name.invocation_id)
    return ending not in {Ending.UNREADABLE, Ending.WAITS, Ending.INTERRUPTED}


def _to_run(
    workplace: WorkerContext,
    invocation_id: str,
    hint: str | None,
    lanes: Sequence[str] | None,
    *,
    parked: bool,
) -> str | None:
    """Path of what may run in this thread, while it waits for an invocation."""
    store = workplace.store
    path = find_due(store, invocation_id, hint) if hint else find_pending(store, invocation_id)
    path = path or limits.lendable(current.get(), invocation_id, hint, lanes)
    if path is None and (parked or hint is None):
        path = _pending_ancestor(workplace, invocation_id)
    return path
