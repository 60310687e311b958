"""Runs the body of a call on its decoded arguments, and encodes the answer."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from fsqueue.codec import check_codec, decode, encode, uncopied
from fsqueue.common.interruptions import of_signal_handler
from fsqueue.common.offloading import when_threads_start
from fsqueue.errors import (
    DeserializationError,
    EnvelopeError,
    FSQueueError,
    InvocationCorruptError,
    SerializationError,
    StaleCodeError,
    TaskNotFoundError,
)
from fsqueue.references import replaced, resolving, value_if_marked
from fsqueue.runner.attempt.answers import Answer
from fsqueue.runner.processes.forked import EndForks
from fsqueue.spool.format.records import Member, Payload, titled
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from fsqueue.environment.module_code import ModuleCode
    from fsqueue.runner.attempt.context import Body, Execution
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)


def reused(execution: Execution) -> Answer | None:
    """The cached result of an equal call, for a call with a cache key; None if there is none."""
    call = execution.call
    found = execution.context.store.cache.get(call.cache, call.cache_ttl, fresh=True)
    if found is None:
        return None
    data, buffers = found.payload
    return Answer(State.SUCCEEDED, [data], buffers=buffers, source=found.outcome)


def answer(execution: Execution, payload: Payload) -> Answer:
    """Run a call, or the calls of a batch one after another; any exception becomes the answer.

    Args:
        payload: the payload of its file.
    """
    call, parents = execution.call, execution.parents
    try:
        body = execution.body = execution.context.resolve(call.task)
        if not body.unpickles:
            check_codec(call.codec, f"the call of {call.task}", unpickles=False)
        if body.code is not None and call.code != body.code.digest:
            execution.stale = _check_code(call, body.code, refuses=body.refuses)
    except BaseException as error:  # noqa: BLE001 - it is the call's, also when it is SystemExit
        if isinstance(error, TaskNotFoundError):
            log.warning("%s fails: %s", execution.claim.name, error)
        return Answer.of_error(error, call.codec)
    if parents is None:
        return _answer(execution, body, payload)
    with resolving(partial(parents.value, unpickles=body.unpickles)):
        return _answer(execution, body, payload)


_told: set[tuple[str, str]] = set()


def _check_code(call: Call, code: ModuleCode, *, refuses: bool) -> str:
    """Describe how the task's module differs from the caller's; warn once per version.

    Raises:
        StaleCodeError: they differ and `refuses` is set.
    """
    reason = code.reason_against(call.code)
    if not reason:
        return ""
    if refuses:
        raise StaleCodeError(f"the worker does not run {call.task}: {reason}")
    if (code.module, call.code) not in _told:
        _told.add((code.module, call.code))
        log.warning("%s runs with other code than its caller has: %s", call.task, reason)
    return reason


def _answer(execution: Execution, body: Body, payload: Payload) -> Answer:
    call = execution.call
    try:
        shares = call.blob or len(call.segments) != (call.members or 1)
        common = _common(execution.context.store, call, payload) if shares else {}
    except BaseException as error:  # noqa: BLE001 - it is the call's, also when it is SystemExit
        return Answer.of_error(_of_value(error, call, DeserializationError), call.codec)
    segments = _own_segments(call, payload)
    if not call.members:
        retries = execution.claim.name.retries
        return _answer_of_one(execution, body, common, segments[0], retries)
    return _together(_answers_of_batch(execution, body, common, segments))


def _answers_of_batch(
    execution: Execution,
    body: Body,
    common: dict[str, Any],
    segments: list[Payload],
) -> list[Answer]:
    """The members' answers. Members are retried here, because one file holds all of them."""
    answers: dict[int, Answer] = {}
    todo = list(range(len(segments)))
    for retries in itertools.count():
        for index in todo:
            answers[index] = _answer_of_one(execution, body, common, segments[index], retries)
        delays = [answers[index].retry_after or 0.0 for index in todo]
        todo = [index for index in todo if answers[index].retry_after is not None]
        over = not todo or execution.is_interrupted() or execution.is_settled
        if over or execution.context.aborted.wait(max(delays)):
            break
    return [answers[index] for index in range(len(segments))]


def _answer_of_one(
    execution: Execution,
    body: Body,
    common: dict[str, Any],
    segment: Payload,
    retries: int,
) -> Answer:
    call, parents = execution.call, execution.parents
    of_value: type[FSQueueError] | None = DeserializationError
    try:
        args, kwargs = _arguments(call, segment)
        of_value = None
        if parents is not None and parents.failure is not None:
            return Answer.of_error(parents.failure, call.codec)
        value = _value_of(execution, body, args, {**common, **kwargs} if common else kwargs)
        of_value = SerializationError
        buffers: list[memoryview] = []
        data = encode(
            uncopied(value, call.codec),
            f"the result of {titled(call.task, call)}",
            None if call.members else buffers,
            codec=call.codec,
        )
        return Answer(State.SUCCEEDED, [data], buffers=buffers)
    except BaseException as error:  # noqa: BLE001 - it is the call's, also when it is SystemExit
        if of_value is not None:
            error = _of_value(error, call, of_value)
        return Answer.of_error(error, call.codec, call.retry, retries)


def _of_value(error: BaseException, call: Call, kind: type[FSQueueError]) -> BaseException:
    """Wrap an error that a call's arguments or result raised while they were converted.

    An exit or an interruption raised by a value's own code must not end the caller, so the caller
    gets an error that says what happened. An exception raised by a signal handler stays as it is:
    the body that set the handler waits for this call in the same thread.
    """
    if isinstance(error, Exception) or of_signal_handler(error):
        return error
    what = "result" if kind is SerializationError else "arguments"
    found = kind(f"the code of a value in the {what} of {call.task} raised {type(error).__name__}")
    found.__cause__ = error
    return found


def _arguments(call: Call, segment: Payload) -> tuple[tuple[Any, ...], dict[str, Any]]:
    what = f"the arguments of {call.task}"
    value = decode(segment.data, what, segment.buffers, codec=call.codec, python=call.python)
    if call.after:
        value = _with_results(call, value)
    match value:
        case (tuple(args), dict(kwargs)):
            return args, kwargs
        case ([*args], dict(kwargs)):
            return tuple(args), kwargs
    raise DeserializationError(
        f"{what} are not a pair of a list and a dict. Check the program that made it."
    )


def _with_results(call: Call, value: Any) -> Any:
    """Replace references in JSON by results; unpickling has already done so for pickles."""
    return replaced(value, value_if_marked) if call.after and call.codec == "json" else value


def _together(answers: list[Answer]) -> Answer:
    """The answer of a batch: it has failed if a member has failed."""
    payload = [answer.payload[0] for answer in answers]
    members = tuple(
        Member(answer.state, len(answer.payload[0]), answer.failure) for answer in answers
    )
    failures = [answer.failure for answer in answers if answer.failure is not None]
    state = State.FAILED if failures else State.SUCCEEDED
    return Answer(state, payload, failures[0] if failures else None, members)


def _segments(call: Call, payload: Payload) -> Iterator[bytes | memoryview]:
    start = 0
    for size in call.segments:
        yield payload.data[start : start + size]
        start += size


def _own_segments(call: Call, payload: Payload) -> list[Payload]:
    """The arguments of each call; only a call that is alone in its file has buffers."""
    if call.segments == (len(payload.data),):
        return [payload]
    own = list(_segments(call, payload))[-(call.members or 1) :]
    return [Payload(segment, payload.buffers) for segment in own]


def arguments_of(
    store: Store, call: Call, payload: Payload, *, unpickles: bool
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of a call, or of each call of a batch, for display.

    Args:
        call: the header.
        payload: the payload of its file.
        unpickles: the arguments may be pickles.

    Raises:
        FSQueueError: they cannot be read.
    """
    check_codec(call.codec, f"the call of {call.task}", unpickles=unpickles)
    common = _common(store, call, payload)
    found = []
    for segment in _own_segments(call, payload):
        args, kwargs = _arguments(call, segment)
        found.append((args, {**common, **kwargs}))
    return found


def _common(store: Store, call: Call, payload: Payload) -> dict[str, Any]:
    """The keyword arguments that the call shares with other calls."""
    if not call.blob and len(call.segments) == (call.members or 1):
        return {}
    what = f"the common arguments of {call.task}"
    if call.blob:
        try:
            data, buffers = store.blobs.get(call.blob)
        except EnvelopeError as error:
            raise InvocationCorruptError(str(error)) from error
        value = decode(data, what, buffers, codec=call.codec, python=call.python)
        common: dict[str, Any] = _with_results(call, value)
        return common
    common = {}
    for segment in list(_segments(call, payload))[: -(call.members or 1)]:
        value = decode(segment, what, codec=call.codec, python=call.python)
        common.update(_with_results(call, value))
    return common


def _value_of(
    execution: Execution, body: Body, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a body: a plain one in this thread, a coroutine in the event loop of this process."""
    if execution.is_settled:  # the time limit expired first
        raise asyncio.CancelledError
    if body.awaited:
        return _awaited(execution, body.function, args, kwargs)
    with EndForks():
        value = body.function(*args, **kwargs)
        return _awaited(execution, lambda: value) if isinstance(value, CoroutineType) else value


def _awaited(
    execution: Execution,
    function: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Any:
    from fsqueue.runner.event_loop.loop import BodyRun, process_loop

    if execution.is_interrupted():  # in a batch
        raise asyncio.CancelledError
    if execution.run is None:
        execution.context.on_coroutine(execution)
    name = execution.claim.text
    when_threads_start(process_loop, f"the coroutine of {name}", execution.context.aborted)
    run = execution.run = BodyRun(name, _called_alone, (function, args, kwargs or {}))
    if execution.is_interrupted() or execution.is_settled:
        run.cancel()
    return run.result(execution.context.while_waiting)


def run_body(body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function inline, in this thread; a coroutine gets a new event loop."""
    with EndForks():
        value = body(*args, **kwargs)
        return _complete(_alone(value)) if inspect.iscoroutine(value) else value


async def _called_alone(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    with EndForks():
        value = function(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value


async def _alone(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await a coroutine; processes that it forks must not continue this process's event loop."""
    with EndForks():
        return await coroutine


def _complete(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # Inline mode within a running loop: this loop is set aside while the inner one runs, with
    # the functions that asyncio documents for implementers of other loops.
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


# -- retries ----------------------------------------------------------------------------
