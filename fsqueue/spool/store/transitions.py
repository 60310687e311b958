"""The moves of the protocol.

`store`, `once`, `fired`, `lanes` and `parked` move files of calls too, each for one kind of move.

Each method states what is left if the process dies in it. "Lost reply" is what a network
filesystem can do: the server carried out a call, its answer got lost, and the client's
repetition of it is answered as if it had come first.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.format import envelope
from fsqueue.spool.format.claim import Claim
from fsqueue.spool.format.names import DEFAULT_PRIORITY, AttemptName, Slot
from fsqueue.spool.format.records import Call, Outcome
from fsqueue.spool.format.schedule import later
from fsqueue.spool.format.states import State
from fsqueue.spool.store.blobs import Blobs
from fsqueue.spool.store.checks import check_header, check_place
from fsqueue.spool.store.deduplication import Once
from fsqueue.spool.store.dependencies import Parked
from fsqueue.spool.store.limits import Lanes, waiting_name
from fsqueue.spool.store.result_cache import Cache
from fsqueue.spool.store.trigger_state import add_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.format.layout import Layout
    from fsqueue.spool.format.records import Payload, SpoolInfo

log = logging.getLogger(__name__)


class Moves(Once):
    """One process's handle on a spool."""

    def __init__(
        self, filesystem: Filesystem, layout: Layout, info: SpoolInfo, key: bytes = b""
    ) -> None:
        super().__init__(filesystem, layout, info, key)
        self.blobs = Blobs(self)
        self.lanes = Lanes(self, self.admit)
        self.cache = Cache(self)
        self.parked = Parked(self, self.move_on, self.renew_needs)

    # -- publish ------------------------------------------------------------------------

    def publish(
        self,
        call: Call,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer] = (),
    ) -> str:
        """Make a call pending; returns its path.

        Dies before the rename: the call was not accepted, a file in ``tmp/`` expires.
        Dies after it: the call is pending.
        """
        target = f"{self.layout.slot(call.queue, call.slot)}/{call.id}.1"
        self.place(target, envelope.encode(call, payload, self.key, buffers))
        return target

    def publish_after(
        self,
        call: Call,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer],
        parent: str,
    ) -> str:
        """Publish a call that waits for another one; returns its path.

        Who does this looks afterwards whether that one is over: see `Parked`. Dies before that:
        it is over, and who has ended it looks; or it was over before, and upkeep finds that.
        """
        target = f"{self.layout.after(parent)}/{call.id}.1"
        self.place(target, envelope.encode(call, payload, self.key, buffers))
        return target

    def withdraw(self, path: str) -> bool:
        """Take back a call that nobody waits for any more; False if a worker has claimed it."""
        try:
            self.fs.unlink(path)
        except FileNotFoundError:
            return False
        name = AttemptName.parse(os.path.basename(path))
        if name is not None:
            self.parked.ended(name.invocation_id)
        return True

    # -- claim --------------------------------------------------------------------------

    def claim(self, origin: str, worker: str) -> Claim | None:
        """Take a pending attempt; None if somebody else was faster.

        The caller makes sure that this process does not claim one name twice at a time.

        Dies before the rename: it is pending. Dies after it: it is the dead worker's, and a
        reaper gives it back. Lost reply: the name is in this worker's own folder, where
        nobody else puts anything.

        Raises:
            OSError: the shared directory failed, or the worker's folder is missing.
        """
        name = AttemptName.parse(origin.rpartition("/")[2])
        if name is None:
            self.set_aside(origin, "its name is not one of an invocation")
            return None
        folder = self.layout.running(worker)
        claim = Claim(name, f"{folder}/{name}", self.layout.home(origin), worker)
        try:
            self.fs.rename(origin, claim.path)
        except FileNotFoundError:
            if str(name) not in self._held(folder):
                return None
        if name.cancelled:
            self.end_cancelled(claim.path, name)
            return None
        return None if name.attempt > 1 and self._is_settled(claim) else claim

    def _held(self, folder: str) -> list[str]:
        """What is in a worker's folder, which is there unless all its claims must fail."""
        try:
            return self.fs.names(folder, fresh=True, required=True)
        except FileNotFoundError:
            text = "this worker was taken for dead, or the shared directory is gone"
            raise OSError(errno.ESTALE, text, folder) from None

    def _is_settled(self, claim: Claim) -> bool:
        """Remove a claimed attempt whose outcome is there: its former worker was not dead yet.

        An error does not matter: the body may run once more, and the first outcome stands. But
        it must not hide from the worker that it holds the claim.
        """
        try:
            settled = self._is_over(claim.name)
            if settled:
                self.parked.ended(claim.name.invocation_id)
                self.remove(claim.path)
        except OSError as error:
            log.info("%s runs again, as its outcome cannot be looked for: %s", claim.name, error)
            return False
        return settled

    def read_call(self, claim: Claim) -> tuple[Call, Payload]:
        """Header and payload of a claimed call.

        Raises:
            EnvelopeError: damaged, foreign or moved: put it into quarantine.
            SpoolVersionError: a newer writer's: give it back.
        """
        call, payload = self._read_call(claim.path, claim.name)
        check_place(call, claim)
        return call, payload

    def read_pending(self, path: str, name: AttemptName) -> Call:
        """Header of a call that nobody has claimed.

        Raises:
            FileNotFoundError: it is not there any more.
            EnvelopeError: damaged or foreign: put it into quarantine.
            SpoolVersionError: a newer writer's: leave it alone.
        """
        return self._read_call(path, name)[0]

    def read_failed(self, name: AttemptName) -> tuple[Call, Payload]:
        """Header and payload of a call that ended in failure.

        Raises:
            FileNotFoundError: it is not there any more.
            EnvelopeError: damaged or foreign.
        """
        return self._read_call(self.layout.failed(name), name)

    def _read_call(self, path: str, name: AttemptName) -> tuple[Call, Payload]:
        try:
            data = self.read_file(path)
        except PermissionError as error:
            raise EnvelopeError(f"{path} may not be read: {error.strerror}") from error
        call, payload = self.decode(data, Call, path)
        if call.spool != self.info.id:
            self.check_spool()
        check_header(call, self.info.id, path, name)
        return call, payload

    # -- waiting for other calls ----------------------------------------------------------

    def move_on(self, path: str) -> None:
        """Move a call on whose parent, in whose folder it lies, is over.

        It goes to the next parent that is not over, or to its slot.

        Dies before the rename: whoever looks next does it. Dies after it, or loses the reply: the
        call waits for the next parent. If that has ended unnoticed, upkeep finds it.
        """
        call, name = self._read_waiting(path)
        if call is None or name is None:
            return
        at: str | None = os.path.basename(os.path.dirname(path))
        while at is not None:
            at = self.last_unfinished(_before(call.after, at))
            target = self._slot_of(call) if at is None else self.layout.after(at)
            # Gone, if somebody else was faster, or the reply was lost: the look is for both.
            self.move(path, f"{target}/{name}")
            path = f"{target}/{name}"
            if at is not None and not self.has_outcome(at):
                return
        self.fs.ring(self.layout.bell(call.queue))

    def renew_needs(self, path: str) -> None:
        """Keep what a waiting call needs from expiring, and the call itself."""
        call, _ = self._read_waiting(path)
        if call is not None:
            for parent in call.after:
                self.renew_outcome(parent)
            if call.blob:
                self.blobs.touch(call.blob)
            self.fs.set_time(path, None)

    def _read_waiting(self, path: str) -> tuple[Call | None, AttemptName | None]:
        """The header of a call that waits for others; None if it is settled otherwise."""
        name = AttemptName.parse(os.path.basename(path))
        if name is None:
            self.clear_away(path, "its name is not one of an invocation")
        elif name.cancelled:
            self.end_cancelled(path, name)
        else:
            try:
                return self.read_pending(path, name), name
            except FileNotFoundError:
                pass  # somebody else was faster
            except SpoolVersionError as error:
                self.leave_alone(error)
            except EnvelopeError as error:
                self.quarantine(path, name, str(error))
        return None, name

    def _slot_of(self, call: Call) -> str:
        slot = call.slot
        if call.countdown:
            filed = Slot.parse(slot) or Slot(DEFAULT_PRIORITY, 0.0)
            if self.clock.age == float("inf"):
                self.sync_clock()
            due = later(self.clock.now(), call.countdown)
            slot = str(filed._replace(due=max(filed.due, due)))
        return self.layout.slot(call.queue, slot)

    # -- lanes --------------------------------------------------------------------------

    def park(self, claim: Claim, call: Call, lane: str) -> bool:
        """Let a claimed call wait in a lane until it is admitted; False if the claim was lost.

        Dies before or after: it is claimed by a dead worker, or waits.
        """
        if self._is_over(claim.name):
            self.remove(claim.path)
            return False
        siding = waiting_name(claim.origin, call.within.get(lane, ""))
        return self.move(claim.path, self.layout.in_lane(lane, f"{siding}/{claim.name}"))

    def admit(self, path: str) -> bool:
        """Make a call pending again that waits in a lane; False if it has left.

        Dies before or after: it waits, or is pending. A lost reply looks as if it has left: then
        one more than need be is admitted, and waits again.
        """
        name = AttemptName.parse(os.path.basename(path))
        if name is None:
            self.clear_away(path, "its name is not one of an invocation")
            return False
        if name.cancelled:
            self.end_cancelled(path, name)
            return False
        home = self.layout.home(path)
        admitted = self.move(path, home)
        self.fs.ring(self.layout.bell(home.split("/")[-3]))
        return admitted

    # -- complete -----------------------------------------------------------------------

    def publish_outcome(
        self,
        outcome: Outcome,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer] = (),
    ) -> bool:
        """As in `Outcomes`, and then move on what waits for it; whose error is no one of this."""
        published = super().publish_outcome(outcome, payload, buffers)
        self.parked.ended(outcome.id)
        return published

    def complete(
        self,
        claim: Claim,
        outcome: Outcome,
        payload: Sequence[bytes | memoryview] = (),
        buffers: Sequence[Buffer] = (),
    ) -> bool:
        """Publish the outcome of a claimed attempt; False if there was one already.

        Dies before the link: the attempt runs again. Dies after it: the outcome stands, and
        whoever finds the rest of the attempt removes it. Lost reply: the temporary file has
        two names.
        """
        published = self.publish_outcome(outcome, payload, buffers)
        if not published and not self.fs.exists(self.layout.cancelled(outcome.id)):
            text = "%s has ended, but an outcome was there before, and stands"
            log.warning(text, claim.name, extra=claim.tags)
        self._retire(claim.path, claim.name, outcome.state)
        return published

    def _retire(self, path: str, name: AttemptName, state: State) -> None:
        """Take a finished attempt out of ``running/``; failed ones are kept for a look."""
        if state is not State.FAILED:
            self.remove(path)
            return
        # False where a reaper took it: its next claimant finds the outcome.
        self.move(path, self.layout.failed(name))

    # -- cancel -------------------------------------------------------------------------

    def cancel_pending(self, path: str, why: str = "") -> bool:
        """Cancel an attempt that is pending; False if somebody has claimed it.

        The outcome says `why`, unless this process dies before it is published.

        Dies before the rename: nothing has happened. Dies after it: whoever claims the attempt
        ends it. Lost reply: the new name is there.
        """
        folder, text = os.path.split(path)
        name = AttemptName.parse(text)
        if name is None:
            return False
        marked = f"{folder}/{name._replace(cancelled=True)}"
        try:
            self.fs.rename(path, marked)
        except FileNotFoundError:
            if os.path.basename(marked) not in self.fs.names(folder, fresh=True):
                return False
        self.end_cancelled(marked, name, why)
        return True

    def cancel_running(self, invocation_id: str) -> bool:
        """Cancel an invocation wherever it is; False if it had an outcome already.

        The outcome comes first: whoever meets the mark may drop the attempt without another look.
        Dies between: it is cancelled, and its body ends by itself. The mark outlasts an outcome
        that is collected.
        """
        published = self._publish_cancelled(AttemptName(invocation_id, 1))
        self.fs.touch(self.layout.cancelled(invocation_id))
        return published

    def end_cancelled(self, path: str, name: AttemptName, why: str = "") -> None:
        """Publish the outcome of an attempt that was cancelled before it ran, and remove it."""
        # Not readable: it is gone, or nobody can tell what it was.
        with contextlib.suppress(FileNotFoundError, EnvelopeError, SpoolVersionError):
            add_end(self, self._read_call(path, name)[0], self._cancelled(name, why))
        self._tell(self._cancelled(name, why))
        self.remove(path)

    def _tell(self, outcome: Outcome) -> None:
        """Publish an outcome of the queue's own. Where the mailbox is closed nobody can be told."""
        try:
            self.publish_outcome(outcome, ())
        except PermissionError as error:
            self.pass_over(self.layout.done(outcome.id), error)

    def _publish_cancelled(self, name: AttemptName, why: str = "") -> bool:
        return self.publish_outcome(self._cancelled(name, why), ())

    def _cancelled(self, name: AttemptName, why: str = "") -> Outcome:
        message = f"invocation {name.invocation_id} was cancelled{f': {why}' if why else ''}"
        return self.queue_failure(name, "CancelledError", message, State.CANCELLED)

    def is_cancelled(self, invocation_id: str) -> bool:
        """Whether somebody has asked to stop an invocation that runs."""
        return invocation_id in self.fs.names(self.layout.cancel_folder, fresh=True)

    def _is_over(self, name: AttemptName) -> bool:
        """Whether nobody waits for an attempt: its outcome is there, or it was cancelled."""
        marker = self.layout.cancelled(name.invocation_id)
        return self.has_outcome(name.invocation_id) or self.fs.exists(marker, fresh=True)

    # -- what cannot be read -------------------------------------------------------------

    def quarantine(self, path: str, name: AttemptName, reason: str) -> None:
        """Set a damaged call aside and tell its caller, whom the name alone identifies."""
        self.check_spool()
        place = self.free_name(path)
        message = (
            f"invocation {name.invocation_id} could not be read: {reason}. "
            f"The file lies in {self.layout.quarantined(place)}; make the call again."
        )
        self._tell(self.queue_failure(name, "InvocationCorruptError", message))
        self.set_aside(path, reason, place)


def _before(parents: Sequence[str], at: str) -> Sequence[str]:
    return parents[: parents.index(at)] if at in parents else parents
