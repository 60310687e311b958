"""What slot processes have recorded in their turns, as their parent reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.attempt.answers import Ending
    from fsqueue.runner.slots.messages import Turn
    from fsqueue.runner.slots.slot_process import SlotProcess
    from fsqueue.runner.slots.turns import Service
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.history.entries import Entry


class TurnBooks(Protocol):
    """A worker's account of the calls that its slot processes claim themselves.

    Attributes:
        service: the queues.
    """

    service: Service

    def grants_turn(self) -> Turn | None:
        """How a process may go on with calls that it claims itself; None if it may not."""

    def begin(self, origin: str) -> Claim | None:
        """Hold the claim of an attempt; None if the name is not one of an attempt."""

    def end(self, claim: Claim, ending: Ending | None) -> None:
        """Settle a claim in a turn that goes on; an ending of None means that it has failed."""

    def note(self, origin: str, ending: Ending | None) -> None:
        """Note a claim that was not held here, because it is known to have ended already."""

    def end_turn(self) -> None:
        """Free the slot after a turn whose last claim has ended before."""


class TurnRecords:
    """Reads the records of slot processes. Its callers hold a lock.

    Args:
        books: the worker's account; None if there are no turns.
        record_attempt: called with the journal entries.
    """

    def __init__(self, books: TurnBooks | None, record_attempt: Callable[[Entry], object]) -> None:
        self._books, self._record_attempt = books, record_attempt

    def read(self, slot: SlotProcess) -> set[str]:
        """Bring the claim of a process up to date; returns the names that it has recorded."""
        told: set[str] = set()
        if self._books is None:
            return told
        origin = ""
        for step in slot.records():
            for entry in step.entries:
                self._record_attempt(entry)
            if origin:
                self._books.note(origin, step.ending)
            else:
                self.end(slot, step.ending)
            if origin := step.origin:
                told.add(origin.rpartition("/")[2])
            else:
                slot.has_waited = True
        if origin:  # only the last claim may be going on
            slot.claim = self._books.begin(origin)
        return told

    def end(self, slot: SlotProcess, ending: Ending | None) -> None:
        """The last known claim of a process has ended, or failed, and its turn goes on."""
        claim = slot.free()
        if claim is not None and self._books is not None:
            self._books.end(claim, ending)
