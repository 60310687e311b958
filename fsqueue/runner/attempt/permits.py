"""The concurrency-limit permits that a running call holds or borrows.

A body does nothing while it waits for another call, so it lends its permits to one call at a
time: to the call that it waits for, and to the calls that were made by its body, or by a body that
it has caused. It runs them itself, in the same way as pending calls, so a body never waits for a
permit that it holds itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError
from fsqueue.runner.shared.held_permit import HeldPermit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fsqueue.runner.attempt.context import Execution
    from fsqueue.spool.features.limits import Limits

log: logging.Logger = logging.getLogger(__name__)

# Above this number the holders are checked: in a chain of calls, each of which makes the next one,
# a call would otherwise inherit the names of all holders that have ended.
_MANY_HOLDERS = 16


def take(execution: Execution) -> str | None:
    """Take a permit in each lane of a call.

    Returns:
        None on success; otherwise a lane that is full. The call holds no permit then.

    Raises:
        OSError: the shared directory fails; call it again.
    """
    limits = execution.context.store.limits
    for lane in execution.call.lanes:
        if lane in execution.permits:
            continue
        permit = _borrowed(execution, lane)
        if permit is None:
            own = limits.acquire(lane, execution.claim)
            if own is None:
                for taken in list(execution.permits):
                    _leave(execution, taken)
                return lane
            permit = HeldPermit(execution.call.id, own)
        execution.permits[lane] = permit
    return None


def _borrowed(execution: Execution, lane: str) -> HeldPermit | None:
    permit = _nearest_permit(execution.parent, lane)
    return permit and permit.lend()


def _nearest_permit(execution: Execution | None, lane: str) -> HeldPermit | None:
    """The permit of the innermost holder among bodies that wait for one another."""
    while execution is not None:
        if lane in execution.permits:
            return execution.permits[lane]
        execution = execution.parent
    return None


def leave(execution: Execution) -> None:
    """Free the permits of a call that has ended, and admit the next waiting calls.

    This also applies to a call without permits: it may have been admitted in place of others.
    """
    for lane in execution.call.lanes:
        _leave(execution, lane)


def _leave(execution: Execution, lane: str) -> None:
    limits, permit = execution.context.store.limits, execution.permits.pop(lane, None)
    try:
        if permit is None or not permit.leave(limits):
            limits.admit(lane)
    except (OSError, SpoolError) as error:
        log.info("cannot admit the next call of lane %s now, upkeep will: %s", lane, error)


def holders_for_new_calls(execution: Execution | None) -> dict[str, str]:
    """For each lane, the invocation whose permit a call made here may borrow.

    Raises:
        OSError: the shared directory fails.
    """
    holders = _holders_around(execution)
    if execution is None or len(holders) <= _MANY_HOLDERS:
        return holders
    return execution.context.store.limits.still_held(holders)


def _holders_around(execution: Execution | None) -> dict[str, str]:
    if execution is None:
        return {}
    own = {lane: permit.owner for lane, permit in list(execution.permits.items())}
    return {**_holders_around(execution.parent), **execution.call.within, **own}


def find_borrower(
    execution: Execution | None,
    invocation_id: str,
    hint: str | None,
    own: Sequence[str] | None = None,
) -> str | None:
    """Path of a call that waits for a permit of a body which itself waits in this thread.

    Args:
        execution: the innermost of these bodies; None if there is none.
        invocation_id: the call that it waits for.
        hint: where that was published, if that is known.
        own: the lanes of that call, if they are known.
    """
    for limits, lane, permit in _enclosing_permits(execution):
        wanted = invocation_id if own is None or lane in own else None
        path = None if permit.lent else limits.find(lane, wanted, permit.owner, hint)
        if path is not None:
            return path
    return None


def offer_permits(
    execution: Execution | None,
    invocation_id: str,
    hint: str | None,
    own: Sequence[str] | None = None,
) -> None:
    """Let a call that this body waits for borrow a permit of a body that waits for this one.

    The call may be waiting for exactly that permit. If another process made the call, the holder
    does not know of it. The arguments are those of `find_borrower`.
    """
    if execution is None:
        return
    for lane, owner in holders_for_new_calls(execution).items():
        if lane not in execution.permits and (own is None or lane in own):
            execution.context.store.limits.hand_to(lane, invocation_id, owner, hint)


def _enclosing_permits(execution: Execution | None) -> Iterator[tuple[Limits, str, HeldPermit]]:
    """The lanes in which these bodies hold permits, each with the innermost body's permit."""
    seen: set[str] = set()
    while execution is not None:
        limits = execution.context.store.limits
        yield from (
            (limits, lane, permit)
            for lane, permit in list(execution.permits.items())
            if lane not in seen
        )
        seen.update(execution.permits)
        execution = execution.parent
