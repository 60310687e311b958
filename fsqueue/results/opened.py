"""Opens a verified outcome: returns the value of a call, or raises its exception."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.errors import queue_error
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from fsqueue.spool.format.records import Outcome, Payload

log: logging.Logger = logging.getLogger(__name__)

_told: set[str] = set()


def stale_in_words(outcome: Outcome) -> str:
    """A warning that a body ran with other code than its caller has; empty if it did not."""
    if not outcome.stale:
        return ""
    return (
        f"{outcome.task} ran on the worker {outcome.worker} with other code than its caller has: "
        f"{outcome.stale}"
    )


class Opened(NamedTuple):
    """A verified outcome."""

    outcome: Outcome
    payload: Payload
    starts: list[int]
    """Offsets of the members of a batch in the payload, in bytes."""

    def state(self, member: int | None) -> State:
        """The state of a call, or of a member of a batch."""
        return self.outcome.part(self.payload, member, self.starts)[0]

    def value(
        self, invocation_id: str, member: int | None, *, unpickles: bool, copy: bool = False
    ) -> Any:
        """The value of a call, or of a member of a batch. Raises what its body raised.

        If the worker had other code than the caller, this process warns once about that worker. An
        exception then gets a note, because its traceback may not match the caller's code.

        Args:
            invocation_id: names the call in errors.
            member: the member of a batch; None for a single call.
            unpickles: the outcome may be unpickled.
            copy: the value gets its own copy of large parts, because others read the outcome too.

        Raises:
            InvocationError: fsqueue itself ended the call, or the value cannot be read.
        """
        from fsqueue.codec.values import check_codec, decode

        outcome = self.outcome
        state, failure, (segment, buffers) = outcome.part(self.payload, member, self.starts)
        if copy:
            buffers = [bytearray(b) if isinstance(b, bytearray) else b for b in buffers]
        if not segment and failure is not None:
            raise queue_error(failure.type, failure.message)
        what = f"the result of invocation {invocation_id}"
        check_codec(outcome.codec, what, unpickles=unpickles)
        stale = stale_in_words(outcome) if outcome.stale else ""
        if state is State.SUCCEEDED:
            if stale and outcome.worker not in _told:
                _told.add(outcome.worker)
                log.warning("%s", stale)
            return decode(segment, what, buffers, codec=outcome.codec, python=outcome.python)
        from fsqueue.codec import decode_exception

        error = decode_exception(segment, outcome.codec)
        if stale:
            error.add_note(stale)
        raise error
