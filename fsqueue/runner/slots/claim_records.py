"""Reads the records of slot processes about the calls that they claim themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.attempt.answers import Ending
    from fsqueue.runner.slots.messages import Grant
    from fsqueue.runner.slots.self_claiming import Service
    from fsqueue.runner.slots.slot_process import SlotProcess
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.history.entries import Entry


class Ledger(Protocol):
    """A worker's ledger of the calls that its slot processes claim themselves.

    Attributes:
        service: the queues.
    """

    service: Service

    def grant(self) -> Grant | None:
        """The permission for a process to claim the next calls itself; None if it may not."""

    def begin(self, origin: str) -> Claim | None:
        """Hold the claim of an attempt; None if the name is not one of an attempt."""

    def end(self, claim: Claim, ending: Ending | None) -> None:
        """Settle a claim while the grant goes on; an ending of None means that it has failed."""

    def note(self, origin: str, ending: Ending | None) -> None:
        """Record a claim that has already ended, and so was never held here."""

    def end_grant(self) -> None:
        """Free the slot after a grant whose last claim has already ended."""


class ClaimRecords:
    """Reads the records of slot processes. Its callers hold a lock.

    Args:
        ledger: the worker's; None if processes claim nothing.
        record_attempt: called with the journal entries.
    """

    def __init__(self, ledger: Ledger | None, record_attempt: Callable[[Entry], object]) -> None:
        self._ledger, self._record_attempt = ledger, record_attempt

    def read(self, slot: SlotProcess) -> set[str]:
        """Bring the claim of a process up to date; returns the names that it has recorded."""
        told: set[str] = set()
        if self._ledger is None:
            return told
        origin = ""
        for step in slot.records():
            for entry in step.entries:
                self._record_attempt(entry)
            if origin:
                self._ledger.note(origin, step.ending)
            else:
                self.end(slot, step.ending)
            if origin := step.origin:
                told.add(origin.rpartition("/")[2])
            else:
                slot.has_waited = True
        if origin:  # only the last claim may still be running
            slot.claim = self._ledger.begin(origin)
        return told

    def end(self, slot: SlotProcess, ending: Ending | None) -> None:
        """Handle the end or failure of a process's last known claim, while its grant goes on."""
        claim = slot.free()
        if claim is not None and self._ledger is not None:
            self._ledger.end(claim, ending)
