"""Runs a claimed attempt: from the file to the published outcome."""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.codec import decode, encode, encode_exception
from fsqueue.codec.texts import capped, safe_str
from fsqueue.errors import EnvelopeError, SpoolVersionError, TaskNotFoundError
from fsqueue.runner.context import Execution, current
from fsqueue.spool.lookup import find_pending
from fsqueue.spool.records import Failure, Outcome
from fsqueue.spool.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fsqueue.runner.context import Workplace
    from fsqueue.spool.records import Call
    from fsqueue.spool.store import Claim

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 5.0
_LONGEST_MESSAGE = 500


class Ending(enum.Enum):
    """How the execution of a claim ended."""

    FINISHED = enum.auto()
    NOT_STARTED = enum.auto()
    """The body has not begun: the attempt is given back as it was."""
    UNREADABLE = enum.auto()
    """Written by another format version: left alone."""
    GIVEN_BACK = enum.auto()
    """Somebody took the claim away meanwhile: nothing was published."""


class _Answer(NamedTuple):
    state: State
    payload: bytes
    failure: Failure | None


def execute(workplace: Workplace, claim: Claim, release: Callable[[Claim], bool]) -> Ending:
    """Run a claimed attempt and publish its outcome.

    Whatever the body does becomes the outcome. Errors of the shared directory are retried for
    as long as the worker lives: the claim, and so the call, stays with it.

    Args:
        workplace: where this happens.
        claim: the attempt.
        release: asks, when the body is done, whether the claim is still this worker's.
    """
    store = workplace.store
    try:
        call, payload = _insist(workplace, lambda: store.read_call(claim))
    except SpoolVersionError as error:
        log.error("left alone: %s", error)  # noqa: TRY400 - the message says it all
        return Ending.UNREADABLE
    except FileNotFoundError:
        return Ending.GIVEN_BACK
    except EnvelopeError as error:
        log.error("into quarantine: %s", error)  # noqa: TRY400 - the message says it all
        if release(claim):
            reason = str(error)
            _insist(workplace, lambda: store.quarantine(claim.path, claim.name, reason))
        return Ending.FINISHED
    started = store.clock.now()
    answer = _answer(workplace, claim, call, payload)
    if not release(claim):
        return Ending.GIVEN_BACK
    outcome = Outcome(
        id=call.id,
        spool=call.spool,
        attempt=claim.name.attempt,
        state=answer.state,
        worker=claim.worker,
        started=round(started, 3),
        ended=round(store.clock.now(), 3),
        codec="cloudpickle",
        failure=answer.failure,
    )
    _insist(workplace, lambda: store.complete(claim, outcome, [answer.payload]))
    return Ending.FINISHED


def _answer(workplace: Workplace, claim: Claim, call: Call, payload: memoryview) -> _Answer:
    token = current.set(Execution(workplace, claim, call))
    try:
        body = workplace.resolve(call.task)
        args, kwargs = _arguments(call, payload)
        value = encode(run_body(body, args, kwargs), f"the result of {call.task}")
    except BaseException as error:  # noqa: BLE001 - it is the call's, also when it is SystemExit
        if isinstance(error, TaskNotFoundError):
            log.warning("%s fails: %s", claim.name, error)
        failure = Failure(type(error).__qualname__, capped(safe_str(error), _LONGEST_MESSAGE))
        return _Answer(State.FAILED, encode_exception(error), failure)
    finally:
        current.reset(token)
    return _Answer(State.SUCCEEDED, value, None)


def _arguments(call: Call, payload: memoryview) -> tuple[tuple[Any, ...], dict[str, Any]]:
    values = []
    start = 0
    for size in call.segments:
        values.append(decode(payload[start : start + size], f"the arguments of {call.task}"))
        start += size
    args, kwargs = values[-1]
    for common in values[:-1]:
        kwargs = {**common, **kwargs}
    return args, kwargs


def run_body(body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function in this thread; a coroutine function gets an event loop of its own."""
    value = body(*args, **kwargs)
    return _complete(value) if inspect.iscoroutine(value) else value


def _complete(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # Inline mode within a running loop: it is set aside while the inner one runs, with the
    # functions that asyncio documents for other loops' implementers.
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio._leave_task(loop, task)  # noqa: SLF001
    asyncio._set_running_loop(None)  # noqa: SLF001
    try:
        return asyncio.run(coroutine)
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001
        if task is not None:
            asyncio._enter_task(loop, task)  # noqa: SLF001


def _insist(workplace: Workplace, step: Callable[[], Any]) -> Any:
    """Repeat a step until the shared directory lets it pass, or the worker is told to abort."""
    pause = 0.05
    while True:
        try:
            return step()
        except FileNotFoundError:
            raise
        except OSError as error:
            log.warning("the shared directory fails (%s); trying again in %.2f s", error, pause)
            if workplace.aborted.wait(pause):
                raise
            pause = min(2 * pause, _LONGEST_PAUSE)


def run_if_pending(workplace: Workplace, invocation_id: str, hint: str | None) -> bool:
    """Claim an invocation, if it is pending, and run it in this thread.

    A body that waits for an invocation calls this, so that it never waits for a slot.

    Args:
        workplace: the worker that claims.
        invocation_id: the invocation.
        hint: where it was published, if that is known.
    """
    path = find_pending(workplace.store, invocation_id, hint)
    if path is None:
        return False
    worker = workplace.worker()
    claim = worker.claim(path)
    if claim is None:
        return False
    try:
        ending = execute(workplace, claim, worker.release)
        if ending is Ending.UNREADABLE and worker.release(claim):
            workplace.store.give_back(claim)
    finally:
        worker.forget(claim.name)
    return ending is not Ending.UNREADABLE
