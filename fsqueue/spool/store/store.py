"""One process's handle on a spool: the moves of `moves`, and those of attempts that are not over.

Each method states what is left if the process dies in it; see `moves`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.format.names import DEFAULT_PRIORITY, AttemptName, Slot
from fsqueue.spool.format.states import State
from fsqueue.spool.store.transitions import Moves
from fsqueue.spool.store.trigger_state import add_end

if TYPE_CHECKING:
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.records import Call

log = logging.getLogger(__name__)


class Store(Moves):
    """One process's handle on a spool."""

    # -- back to pending ----------------------------------------------------------------

    def give_back(self, claim: Claim) -> bool:
        """Make a claimed attempt pending again, as it was; False if the claim was lost, or over.

        Dies before or after: it is claimed by a dead worker, or pending.
        """
        if self._is_over(claim.name):
            self.parked.ended(claim.name.invocation_id)
            self.remove(claim.path)  # cancelled while it ran: a first attempt is not looked up
            return False
        return self.move(claim.path, claim.origin)

    def park_again(self, claim: Claim, parent: str) -> bool:
        """Let a claimed attempt wait for an invocation that is not over; False if it was lost.

        Dies before or after: it is claimed by a dead worker, or parked as after `park`.
        """
        path = f"{self.layout.after(parent)}/{claim.name}"
        moved = self.move(claim.path, path)
        self.fs.ring(self.layout.after_bell)
        if self.has_outcome(parent):
            self.move_on(path)
        return moved

    def retry(self, claim: Claim, call: Call, due: float) -> bool:
        """Make a failed attempt pending as the next one; False if the claim was lost.

        Dies before or after: it is claimed by a dead worker, or pending.

        Args:
            claim: the attempt.
            call: its header.
            due: when the next one may start, in seconds by the file server's clock.
        """
        if call.blob:
            self.blobs.touch(call.blob, due)
        slot = Slot.parse(call.slot) or Slot(DEFAULT_PRIORITY, due)
        folder = self.layout.slot(call.queue, str(slot._replace(due=due)))
        return self.move(claim.path, f"{folder}/{claim.name.after_failure()}")

    def return_stray(self, path: str, name: AttemptName) -> None:
        """Settle an attempt in a living worker's folder that the worker does not know of.

        That is left when the answer to a claim, and the look whether it had succeeded, failed
        both; or when a finished attempt could not be removed.

        Raises:
            SpoolVersionError: left alone.
        """
        call = self._unfinished(path, name)
        if call is not None:
            self.move(path, f"{self.layout.slot(call.queue, call.slot)}/{name}")

    def requeue(self, path: str, name: AttemptName, call: Call) -> bool:
        """Make the attempt of a dead worker pending as the next attempt.

        Dies before: another reaper does it. Dies after, or two reapers at once: the one
        rename that succeeds decides.
        """
        slot = self.layout.slot(call.queue, call.slot)
        return self.move(path, f"{slot}/{name.after_death()}")

    def recover(self, path: str, name: AttemptName, reason: str) -> None:
        """Decide about an attempt whose worker died: finished, unwanted, once more, or lost.

        Args:
            path: the attempt in the dead worker's folder.
            name: its name.
            reason: how the worker died, for the caller's message.

        Raises:
            SpoolVersionError: left alone.
        """
        call = self._unfinished(path, name)
        if call is None:
            return
        self._settle_dead(path, name, call, reason)
        self.lanes.vacate(call.lanes, name.invocation_id, os.path.basename(os.path.dirname(path)))

    def _settle_dead(self, path: str, name: AttemptName, call: Call, reason: str) -> None:
        if call.abandoned and not self.parked.is_awaited(call.id):
            self.withdraw(path)
        elif name.deaths + 1 < call.max_attempts:
            self.requeue(path, name, call)
        else:
            self.lose(path, name, call, reason)

    def drop(self, path: str, name: AttemptName) -> None:
        """Remove a cancelled attempt of this process, whose body was ended."""
        lanes: tuple[str, ...] = ()
        with contextlib.suppress(FileNotFoundError, EnvelopeError, SpoolVersionError):
            lanes = self._read_call(path, name)[0].lanes
        self.remove(path)
        self.lanes.vacate(lanes, name.invocation_id, os.path.basename(os.path.dirname(path)))

    def _unfinished(self, path: str, name: AttemptName) -> Call | None:
        """The header of an attempt that is to go on; None if it is settled, now or before."""
        if self._is_over(name):
            self.parked.ended(name.invocation_id)
            self.remove(path)
            return None
        if name.cancelled:
            self.end_cancelled(path, name)
            return None
        try:
            return self._read_call(path, name)[0]
        except FileNotFoundError:
            return None  # somebody else was here
        except EnvelopeError as error:
            self.quarantine(path, name, str(error))
            return None

    # -- failures of the queue's own -----------------------------------------------------

    def lose(self, path: str, name: AttemptName, call: Call, reason: str) -> None:
        """End an invocation that has lost its last worker."""
        message = (
            f"invocation {name.invocation_id} was lost with its worker {name.deaths + 1} times, "
            f"which is as often as max_attempts allows. The last time: {reason}. "
            f"Its call is kept in {self.layout.failed(name)}: look what ends the workers, then run "
            f"`fsqueue retry {name.invocation_id}`."
        )
        failure = self.queue_failure(name, "WorkerLostError", message)
        add_end(self, call, failure)
        self.publish_outcome(failure, ())
        self._retire(path, name, State.FAILED)
