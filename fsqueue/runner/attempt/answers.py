"""The answer of an attempt's body, and the ways in which its execution can end."""

from __future__ import annotations

import enum
import os
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from fsqueue.codec import encode_exception
from fsqueue.codec.texts import capped, safe_str
from fsqueue.common.fingerprints import Fingerprint, digest_of, fingerprint_of
from fsqueue.common.interruptions import of_signal_handler
from fsqueue.errors import DependencyError, InvocationError, RemoteError
from fsqueue.runner.attempt.retries import delay_before_retry
from fsqueue.spool.format.records import Failure, Member, RetryPolicy
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.format.records import Outcome

_LONGEST_MESSAGE = 500
NEVER = RetryPolicy(times=0)


def _message(error: BaseException) -> str:
    try:
        return capped(safe_str(error), _LONGEST_MESSAGE)
    except BaseException as reason:  # not an `Exception`: `safe_str` holds those
        if of_signal_handler(reason):
            raise
        return f"<str() raised {type(reason).__name__}>"


def failure_of(error: BaseException) -> Failure:
    """The record of a body's exception, readable without unpickling it.

    A call that did not run because another call failed gets the fingerprint of that failure.
    """
    kind, text = type(error).__qualname__, _message(error)
    cause = error.__cause__ if isinstance(error, DependencyError) else None
    root = error if cause is None else cause
    if isinstance(root, RemoteError):
        found = fingerprint_of(root, root.type_name, root.message)
    elif isinstance(root, InvocationError):
        # Its message names the call, and its frames are those of the queue.
        found = Fingerprint(digest_of(type(root).__qualname__), "")
    else:
        found = fingerprint_of(root, text=_message(root))
    return Failure(kind, text, found.digest, found.place)


class Answer(NamedTuple):
    """The result of a body, or of the bodies of a batch: a value or an error."""

    state: State
    payload: Sequence[bytes | memoryview]
    failure: Failure | None = None
    members: tuple[Member, ...] = ()
    retry_after: float | None = None
    """Seconds after which the call is retried, instead of publishing this answer."""
    buffers: Sequence[Buffer] = ()
    """Large parts of the value, which are not copied into the payload."""
    source: Outcome | None = None
    """The outcome of another call that was reused from the result cache."""

    @classmethod
    def of_error(
        cls, error: BaseException, codec: str, policy: RetryPolicy = NEVER, retries: int = 0
    ) -> Answer:
        """The answer of a body that raised, after `retries` retries; `codec` is the call's.

        The error's own methods may raise anything, which must not end the slot. An exception raised
        by a signal handler propagates: it belongs to the body that waits for this call in the same
        thread.
        """
        try:
            return cls._of_error(error, codec, policy, retries)
        except BaseException as reason:
            if of_signal_handler(reason):
                raise
            name = type.__dict__["__name__"].__get__(type(error))
            text = f"it cannot be described, as its own code raised {type(reason).__name__}"
            return cls._of_error(RemoteError(name, text), codec, NEVER, 0)

    @classmethod
    def _of_error(
        cls, error: BaseException, codec: str, policy: RetryPolicy, retries: int
    ) -> Answer:
        delay = delay_before_retry(policy, error, retries)
        if isinstance(error, ImportError) and not hasattr(error, "__notes__"):
            # To the caller it would look as if the module were missing on its side. An error with
            # notes may come from a call made by the body, and says where it was raised.
            error.add_note(
                f"(it was raised on {os.uname().nodename}, in {sys.executable}: install what is "
                "missing there, or start the worker in the environment that has it)"
            )
        if delay is None and retries:
            error.add_note(f"(the body failed in each of {retries + 1} attempts)")
        payload = encode_exception(error, codec, held=BaseException)
        return cls(State.FAILED, [payload], failure_of(error), retry_after=delay)

    @classmethod
    def of_queue(cls, error: InvocationError) -> Answer:
        """The answer for a call whose body was not run: an error of the queue itself."""
        kind = type(error).__name__
        return cls(State.FAILED, [], Failure(kind, str(error), digest_of(kind)))


class Ending(enum.Enum):
    """How the execution of a claim ended."""

    if not TYPE_CHECKING:  # the type is that of Enum, which is a slow Python function
        __hash__ = object.__hash__

    FINISHED = enum.auto()
    NOT_STARTED = enum.auto()
    """The body has not started: the attempt is returned unchanged."""
    UNREADABLE = enum.auto()
    """Written by another format version: left alone."""
    TOO_LONG = enum.auto()
    """Its timeout exceeds the worker's remaining time: another worker must run it."""
    GIVEN_BACK = enum.auto()
    """Another process took the claim away: nothing was published."""
    WAITS = enum.auto()
    """A concurrency limit is reached: the call waits in the lane, unchanged."""
    CANCELLED = enum.auto()
    """Its process was ended because the call was cancelled."""
    TIMED_OUT = enum.auto()
    """Its process was ended by its hard time limit."""
    UNWANTED = enum.auto()
    """It has been settled, but its caller is gone and cannot receive the outcome."""
    INTERRUPTED = enum.auto()
    """Its coroutine was cancelled because its worker ends: the attempt is returned."""


NOT_RUN: Final = frozenset({Ending.NOT_STARTED, Ending.UNREADABLE, Ending.TOO_LONG, Ending.WAITS})
"""Endings of calls whose bodies have not started."""
