"""Results as arguments: the outcomes of a call's parents, and errors of failed parents."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.codec import check_codec, decode, decode_exception
from fsqueue.errors import (
    DependencyError,
    EnvelopeError,
    FSQueueError,
    SpoolVersionError,
    UnknownInvocationError,
    queue_error,
)
from fsqueue.spool.format.names import retried_id, split_member
from fsqueue.spool.format.states import State
from fsqueue.spool.store.lookup import find_dependent, state_of

if TYPE_CHECKING:
    from fsqueue.spool.format.records import Call, Outcome, Payload
    from fsqueue.spool.store.store import Store


class _Opened(NamedTuple):
    outcome: Outcome
    payload: Payload
    starts: list[int]


class Parents:
    """The outcomes of a call's parents.

    Args:
        call: the header of the call that waits for them.

    Attributes:
        unfinished: the last parent that has not ended; empty if all have ended.
        failure: why the call cannot run; set when a missing value is requested.

    Raises:
        OSError: the shared directory fails.
    """

    def __init__(self, store: Store, call: Call) -> None:
        self._child, self._task = call.id, call.task
        self._outcomes: dict[str, _Opened | FSQueueError] = {}
        self.unfinished: str = ""
        self.failure: DependencyError | None = None
        for parent in call.after:
            read, found = parent, _read(store, parent)
            if call.retry_of and isinstance(found, _Opened) and found.outcome.state is State.FAILED:
                # An operator has retried this call, and may have retried the parent too.
                read, again = retried_id(parent), _read(store, retried_id(parent))
                found = found if isinstance(again, UnknownInvocationError) else again
            if found is None:
                self.unfinished = read
            else:
                self._outcomes[parent] = found

    def value(self, invocation_id: str, *, unpickles: bool) -> Any:
        """The result of a parent; None if it is missing, and `failure` has the reason.

        Args:
            invocation_id: the parent, or a member of it.
            unpickles: its result may be a pickle.
        """
        carrier, member = split_member(invocation_id)
        opened = self._outcomes.get(carrier)
        if not isinstance(opened, _Opened):
            missing = opened or UnknownInvocationError(f"{carrier} is not among what it waits for")
            return self._fail(invocation_id, "", missing)
        outcome, payload, starts = opened
        try:
            state, failure, (data, buffers) = outcome.part(payload, member, starts)
            what, codec = f"the result of invocation {invocation_id}", outcome.codec
            if state is State.SUCCEEDED:
                check_codec(codec, what, unpickles=unpickles)
                return decode(data, what, buffers, codec=codec, python=outcome.python)
            if data or failure is None:
                check_codec(codec, what, unpickles=unpickles)
                error = decode_exception(data, codec)
            else:
                error = queue_error(failure.type, failure.message)
        except FSQueueError as unreadable:
            error = unreadable
        return self._fail(invocation_id, outcome.task, error)

    def _fail(self, invocation_id: str, task: str, error: BaseException) -> None:
        self.failure = self.failure or dependency_error(
            _named(self._child, self._task), invocation_id, task, error
        )


def dependency_error(child: str, parent: str, task: str, error: BaseException) -> DependencyError:
    """The error of a call that needs the result of a failed call.

    Its cause is always the error of the call that failed first, so errors do not grow along a
    chain.

    Args:
        child: description of the call.
        parent: id of the call whose result it needs.
        task: the task of the parent; empty if it is not known.
        error: the error of the parent.
    """
    root, root_task, cause, needed = parent, task, error, _named(parent, task)
    if isinstance(error, DependencyError) and error.__cause__ is not None:
        root, root_task, cause = error.invocation, error.task, error.__cause__
        needed = f"{needed}, which was not run either, because it needs {_named(root, root_task)}"
    text = (
        f"{child} was not run: it needs the result of {needed}, which has failed with "
        f"{type(cause).__qualname__}: {cause}"
    )
    failed = DependencyError(text, root, root_task)
    failed.__cause__ = cause
    return failed


def _named(invocation_id: str, task: str) -> str:
    return f"invocation {invocation_id} of {task}" if task else f"invocation {invocation_id}"


def _read(store: Store, parent: str) -> _Opened | FSQueueError | None:
    """An outcome, or why it cannot be read; None if it is not there yet."""
    try:
        data = store.outcomes.peek(parent)
        if data is None:
            if not state_of(store, parent).finished:
                return None
            data = store.outcomes.peek(parent)
        if data is None:
            return UnknownInvocationError(f"the result of {parent} has just expired")
        outcome, payload = store.outcomes.read(parent, data)
    except (EnvelopeError, SpoolVersionError, UnknownInvocationError) as error:
        return error
    except PermissionError as error:
        return EnvelopeError(f"the outcome of {parent} may not be read: {error.strerror}")
    return _Opened(outcome, payload, outcome.starts())


def find_ancestor(store: Store, invocation_id: str) -> str | None:
    """The first ancestor of a waiting call that does not wait for another call itself.

    None if the call does not wait.
    """
    if not store.dependencies.refresh():
        return None
    found, seen = None, {invocation_id}
    while (waiting := find_dependent(store, found or invocation_id)) is not None:
        found = os.path.basename(os.path.dirname(waiting))
        if found in seen:  # a cycle, which only a damaged spool can have
            return None
        seen.add(found)
    return found
