"""Checks that a call's file belongs where it was found: its spool, its name and its place.

A digest proves that a file is complete and, in a signed spool, that a holder of the key wrote it.
It proves nothing about where the file belongs. Therefore the header names its spool, name and
place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError
from fsqueue.spool.disk.identity import is_gone
from fsqueue.spool.format.names import is_invocation_id, is_queue_name, is_slot_name, lane_limit

if TYPE_CHECKING:
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.names import AttemptName
    from fsqueue.spool.format.records import Call


def check_header(call: Call, spool: str, path: str, name: AttemptName) -> None:
    """Check that a call belongs to this spool and its file's name, and that its fields are valid.

    Raises:
        EnvelopeError: a check failed.
    """
    if call.spool != spool:
        raise EnvelopeError(f"{path} belongs to another spool ({call.spool})")
    if call.id != name.invocation_id:
        raise EnvelopeError(f"{path} holds another invocation ({call.id})")
    if not is_queue_name(call.queue) or not is_slot_name(call.slot):
        raise EnvelopeError(f"{path} names no slot of a queue ({call.queue}/{call.slot})")
    if call.lanes or call.within:
        _check_limits(call, path)
    if not all(map(is_invocation_id, call.after)):
        raise EnvelopeError(f"{path} waits for something that is not an invocation")
    if name.deaths >= call.max_attempts:
        raise EnvelopeError(f"{path} was attempted more than {call.max_attempts} times")


def _check_limits(call: Call, path: str) -> None:
    """Check that the names of a call's limits are safe as parts of a path.

    Raises:
        EnvelopeError: they are not.
    """
    lenders_fit = all(map(is_invocation_id, call.within.values()))
    if not all(map(lane_limit, call.lanes)) or not lenders_fit:
        raise EnvelopeError(f"{path} names no lanes ({', '.join(call.lanes)})")


def check_place(call: Call, claim: Claim) -> None:
    """Check that a call was not moved to another queue or slot before it was claimed.

    Every move in the protocol goes to the slot named in the header, with two exceptions: a retry,
    and a call with a countdown that waited for other calls, go to a later slot with the same
    priority. How much later is not checked, since the file server's clock may have been set back.

    Raises:
        EnvelopeError: it was claimed from the wrong place.
    """
    queue, slot = claim.origin.split("/")[-3:-1]
    is_later = claim.name.retries or (call.countdown and call.after)
    in_place = _priority(slot) == _priority(call.slot) if is_later else slot == call.slot
    if queue != call.queue or not in_place:
        raise EnvelopeError(
            f"{claim.path} was moved: it was claimed from {queue}/{slot}, but belongs to "
            f"{call.queue}/{call.slot}"
        )


def _priority(slot: str) -> str:
    return slot.partition(".")[0]


def is_abandoned(call: Call) -> bool:
    """Whether the only process that could receive a call's outcome has definitely ended.

    This only checks /proc, without asking the file server.
    """
    return call.caller is not None and not call.keep and is_gone(call.caller)
