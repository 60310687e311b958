"""Makes the occurrences of the end of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.codec import check_codec, decode, decode_exception
from fsqueue.errors import DeserializationError, queue_error
from fsqueue.spool.format.records import Ended, Failure
from fsqueue.spool.format.states import State
from fsqueue.triggers.kinds import Occurrence, utc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from fsqueue.runner.attempt.answers import Answer
    from fsqueue.runner.attempt.context import Execution
    from fsqueue.spool.format.records import Call


def ends_by_queue(ended: Ended, when: datetime) -> Iterator[Occurrence]:
    """The occurrences for a call, or all calls of a batch, that the queue itself has ended."""
    for invocation in [f"{ended.id}:{index}" for index in range(ended.members)] or [ended.id]:
        yield Occurrence(
            invocation,
            when,
            task=ended.task,
            invocation=invocation,
            state=ended.state,
            exception=failure_of(ended.failure),
        )


def cancelled(call: Call) -> Ended:
    """The end of a call that was cancelled while it ran."""
    failure = Failure("CancelledError", f"invocation {call.id} was cancelled")
    return Ended(
        id=call.id, task=call.task, members=call.members, state=State.CANCELLED, failure=failure
    )


class _End(NamedTuple):
    """The end of one call."""

    invocation: str
    state: State
    data: bytes | memoryview
    failure: Failure | None


def ends_of(execution: Execution, answer: Answer) -> Iterator[Occurrence]:
    """The occurrences of an answer: a batch has one for each of its calls."""
    when = utc(execution.context.store.clock.now())
    for end in _ends(execution.call.id, execution.call.members, answer):
        result, exception = _value_of(execution, answer, end)
        yield Occurrence(
            end.invocation,
            when,
            task=execution.call.task,
            invocation=end.invocation,
            state=end.state,
            result=result,
            exception=exception,
        )


def _ends(carrier: str, members: int, answer: Answer) -> Iterator[_End]:
    for index, member in enumerate(answer.members):
        yield _End(f"{carrier}:{index}", member.state, answer.payload[index], member.failure)
    if answer.members:
        return
    data = answer.payload[0] if answer.payload else b""
    # A batch has one answer for all calls if the queue or the time limit ended it.
    for invocation in [f"{carrier}:{index}" for index in range(members)] or [carrier]:
        yield _End(invocation, answer.state, data, answer.failure)


def _value_of(execution: Execution, answer: Answer, end: _End) -> tuple[Any, BaseException | None]:
    call = execution.call
    what = f"the result of invocation {end.invocation}"
    try:
        unpickles = execution.body is None or execution.body.unpickles
        check_codec(call.codec, what, unpickles=unpickles)
        if end.state is State.SUCCEEDED:
            # The user's functions get a copy, because the original is published afterwards.
            buffers = [
                each if memoryview(each).readonly else bytearray(each) for each in answer.buffers
            ]
            return decode(end.data, what, buffers, codec=call.codec), None
        if end.data:
            return None, decode_exception(end.data, call.codec)
    except DeserializationError as error:
        return None, error
    return None, failure_of(end.failure)


def failure_of(failure: Failure | None) -> BaseException | None:
    """The error that the callers get for a failure of the queue itself."""
    if failure is None:
        return None
    return queue_error(failure.type, failure.message)
