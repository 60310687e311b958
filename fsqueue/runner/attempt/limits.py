"""The turn of a call in its lanes: when it may run, and in whose place.

A body that waits for another call does nothing meanwhile, so it lends its places, to one call
at a time: to the call that it waits for, and to those that its body, or one that it has caused,
has made. It runs them itself, as it runs pending ones, and so never waits for its own place.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fsqueue.runner.attempt.context import Execution
    from fsqueue.spool.store.limits import Limits, Permit

log = logging.getLogger(__name__)

# More places than that are looked at: a chain of calls each of which makes the next would pass on
# those of all that have ended.
_MANY_PLACES = 16


class HeldPermit:
    """What an execution has in a lane: a place, or one that a waiting body has lent it.

    Args:
        owner: the invocation whose place it is.
        place: the place, if it is the execution's own.
        lender: who has lent it, if not.
    """

    def __init__(
        self, owner: str, place: Permit | None = None, lender: HeldPermit | None = None
    ) -> None:
        self.owner, self._place, self._lender = owner, place, lender
        self._unlent = threading.Lock()

    def lend(self) -> HeldPermit | None:
        """This place for another execution; None while one has it."""
        return HeldPermit(self.owner, lender=self) if self._unlent.acquire(blocking=False) else None

    def take_back(self) -> None:
        """The end of what `lend` began."""
        self._unlent.release()

    @property
    def lent(self) -> bool:
        """Whether another execution has it."""
        return self._unlent.locked()

    def leave(self, lanes: Limits) -> bool:
        """Give the place back to who has lent it, or to others; whether these were told.

        Raises:
            OSError: the shared directory fails; upkeep does the rest.
        """
        lender, self._lender = self._lender, None
        if lender is not None:
            lender.take_back()
        if self._place is None:
            return False
        lanes.release(self._place)
        return True


def take(execution: Execution) -> str | None:
    """Take a place in each lane of a call; returns a lane that is full, and then it has none.

    Raises:
        OSError: the shared directory fails; call it again.
    """
    lanes = execution.workplace.store.limits
    for lane in execution.call.lanes:
        if lane in execution.seats:
            continue
        seat = _borrowed(execution, lane)
        if seat is None:
            place = lanes.acquire(lane, execution.claim)
            if place is None:
                for taken in list(execution.seats):
                    _leave(execution, taken)
                return lane
            seat = HeldPermit(execution.call.id, place)
        execution.seats[lane] = seat
    return None


def _borrowed(execution: Execution, lane: str) -> HeldPermit | None:
    seat = _nearest(execution.parent, lane)
    return seat and seat.lend()


def _nearest(execution: Execution | None, lane: str) -> HeldPermit | None:
    """The place of the innermost of these bodies, each of which waits for the one before."""
    while execution is not None:
        if lane in execution.seats:
            return execution.seats[lane]
        execution = execution.parent
    return None


def leave(execution: Execution) -> None:
    """Free the places of a call that is over, and admit who waits for one.

    Also if it had none: it may have been admitted itself, in place of others.
    """
    for lane in execution.call.lanes:
        _leave(execution, lane)


def _leave(execution: Execution, lane: str) -> None:
    lanes, seat = execution.workplace.store.limits, execution.seats.pop(lane, None)
    try:
        if seat is None or not seat.leave(lanes):
            lanes.admit(lane)
    except (OSError, SpoolError) as error:
        log.info("lane %s goes on later, by upkeep: %s", lane, error)


def made_within(execution: Execution | None) -> dict[str, str]:
    """By lane, whose place a call may run in that is made here.

    Raises:
        OSError: the shared directory fails.
    """
    places = _places_around(execution)
    if execution is None or len(places) <= _MANY_PLACES:
        return places
    return execution.workplace.store.limits.still_held(places)


def _places_around(execution: Execution | None) -> dict[str, str]:
    if execution is None:
        return {}
    own = {lane: seat.owner for lane, seat in list(execution.seats.items())}
    return {**_places_around(execution.parent), **execution.call.within, **own}


def lendable(
    execution: Execution | None,
    invocation_id: str,
    hint: str | None,
    own: Sequence[str] | None = None,
) -> str | None:
    """Path of a call that waits for the place of a body which waits itself, in this thread.

    Args:
        execution: the innermost of these bodies; None if there is none.
        invocation_id: the call that it waits for.
        hint: where that was published, if that is known.
        own: its lanes, if they are known.
    """
    for lanes, lane, seat in _places(execution):
        wanted = invocation_id if own is None or lane in own else None
        path = None if seat.lent else lanes.find(lane, wanted, seat.owner, hint)
        if path is not None:
            return path
    return None


def hand_over(
    execution: Execution | None,
    invocation_id: str,
    hint: str | None,
    own: Sequence[str] | None = None,
) -> None:
    """Let a call that this body waits for run in the place of a body that waits for this one.

    It may be this place for which it waits, and that body does not know of it, if it was made by
    somebody else. The arguments are those of `lendable`.
    """
    if execution is None:
        return
    for lane, owner in made_within(execution).items():
        if lane not in execution.seats and (own is None or lane in own):
            execution.workplace.store.limits.hand_to(lane, invocation_id, owner, hint)


def _places(execution: Execution | None) -> Iterator[tuple[Limits, str, HeldPermit]]:
    """The lanes in which these bodies have places, each with the innermost one's."""
    seen: set[str] = set()
    while execution is not None:
        lanes = execution.workplace.store.limits
        yield from (
            (lanes, lane, seat) for lane, seat in list(execution.seats.items()) if lane not in seen
        )
        seen.update(execution.seats)
        execution = execution.parent
