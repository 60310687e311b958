"""The moves of the protocol: the one module that moves files of invocations.

Each method states what is left if the process dies in it. "Lost reply" is what a network
filesystem can do: the server carried out a call, its answer got lost, and the client's
repetition of it is answered as if it had come first.
"""

from __future__ import annotations

import itertools
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError, SpoolError
from fsqueue.spool import envelope
from fsqueue.spool.filesystem import ServerClock, links_unsupported
from fsqueue.spool.layout import AttemptName, Slot, client_of, is_queue_name, new_token
from fsqueue.spool.records import Call, Failure, Outcome
from fsqueue.spool.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.filesystem import Filesystem
    from fsqueue.spool.layout import Layout
    from fsqueue.spool.records import SpoolInfo

log = logging.getLogger(__name__)

# Each try ends with a folder made that somebody removed again in between: rare even once.
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt that a worker holds."""

    name: AttemptName
    path: str
    """In the worker's folder."""
    origin: str
    """Where it was pending."""
    worker: str


class Store:
    """One process's handle on a spool.

    Args:
        filesystem: verbs over system calls.
        layout: paths of the spool.
        info: the content of its ``spool.json``.
    """

    def __init__(self, filesystem: Filesystem, layout: Layout, info: SpoolInfo) -> None:
        self.fs = filesystem
        self.layout = layout
        self.info = info
        self.clock = ServerClock(filesystem)
        self._owner = new_token()
        self._serial = itertools.count()

    def sync_clock(self) -> None:
        """Read the file server's clock, for a process that has no file of its own to touch."""
        path = self.layout.tmp(self._owner, next(self._serial))
        self.clock.sync(path)
        self.fs.discard(path)

    # -- publish ------------------------------------------------------------------------

    def publish(self, call: Call, payload: Sequence[bytes | memoryview]) -> str:
        """Make a call pending; returns its path.

        Dies before the rename: the call was not accepted, a file in ``tmp/`` expires.
        Dies after it: the call is pending.
        """
        temporary = self._write(envelope.encode(call, payload))
        target = f"{self.layout.slot(call.queue, call.slot)}/{call.id}.1"
        try:
            self.move(temporary, target)
        except OSError:
            # If it is not there any more it was renamed, and the error is about the reply alone.
            # Only a look can tell: the reply of a removal can be lost too.
            if self.fs.exists(temporary):
                self.fs.discard(temporary)
                raise
        return target

    def withdraw(self, path: str) -> bool:
        """Take back a call that nobody waits for any more; False if a worker has claimed it."""
        try:
            self.fs.unlink(path)
        except FileNotFoundError:
            return False
        return True

    # -- claim --------------------------------------------------------------------------

    def claim(self, origin: str, worker: str) -> Claim | None:
        """Take a pending attempt; None if somebody else was faster.

        The caller makes sure that this process does not claim one name twice at a time.

        Dies before the rename: it is pending. Dies after it: it is the dead worker's, and a
        reaper gives it back. Lost reply: the name is in this worker's own folder, where
        nobody else puts anything.
        """
        name = AttemptName.parse(os.path.basename(origin))
        if name is None:
            self.set_aside(origin, "its name is not one of an invocation")
            return None
        folder = self.layout.running(worker)
        claim = Claim(name, f"{folder}/{name}", origin, worker)
        try:
            self.fs.rename(origin, claim.path)
        except FileNotFoundError:
            if str(name) not in self.fs.names(folder, fresh=True):
                return None
        return None if name.attempt > 1 and self._is_settled(claim) else claim

    def _is_settled(self, claim: Claim) -> bool:
        """Remove a claimed attempt whose outcome is there: its former worker was not dead yet.

        An error does not matter: the body may run once more, and the first outcome stands. But
        it must not hide from the worker that it holds the claim.
        """
        try:
            settled = self.has_outcome(claim.name.invocation_id)
            if settled:
                self.fs.discard(claim.path)
        except OSError as error:
            log.info("%s runs again, as its outcome cannot be looked for: %s", claim.name, error)
            return False
        return settled

    def read_call(self, claim: Claim) -> tuple[Call, memoryview]:
        """Header and payload of a claimed call.

        Raises:
            EnvelopeError: damaged or foreign: put it into quarantine.
            SpoolVersionError: a newer writer's: give it back.
        """
        return self._read_call(claim.path, claim.name)

    def _read_call(self, path: str, name: AttemptName) -> tuple[Call, memoryview]:
        try:
            data = self.fs.read(path)
        except PermissionError as error:
            raise EnvelopeError(f"{path} may not be read: {error.strerror}") from error
        call, payload = envelope.decode(data, Call, path)
        if call.spool != self.info.id:
            raise EnvelopeError(f"{path} belongs to another spool ({call.spool})")
        if call.id != name.invocation_id:
            raise EnvelopeError(f"{path} holds another invocation ({call.id})")
        if not is_queue_name(call.queue) or Slot.parse(call.slot) is None:
            raise EnvelopeError(f"{path} names no slot of a queue ({call.queue}/{call.slot})")
        return call, payload

    # -- complete -----------------------------------------------------------------------

    def complete(
        self, claim: Claim, outcome: Outcome, payload: Sequence[bytes | memoryview] = ()
    ) -> bool:
        """Publish the outcome of a claimed attempt; False if there was one already.

        Dies before the link: the attempt runs again. Dies after it: the outcome stands, and
        whoever finds the rest of the attempt removes it. Lost reply: the temporary file has
        two names.
        """
        published = self._publish_outcome(outcome, payload)
        self._retire(claim.path, claim.name, outcome.state)
        return published

    def _publish_outcome(self, outcome: Outcome, payload: Sequence[bytes | memoryview]) -> bool:
        temporary = self._write(envelope.encode(outcome, payload))
        try:
            published = self._link(temporary, self.layout.done(outcome.id))
            # At once: the client wakes while this worker cleans up.
            self.fs.ring(self.layout.bell(client_of(outcome.id)))
            return published
        finally:
            self.fs.discard(temporary)

    def _link(self, temporary: str, target: str) -> bool:
        for _ in range(_TRIES):
            try:
                self.fs.link(temporary, target)
            except FileExistsError:
                return self.fs.link_count(temporary) > 1
            except FileNotFoundError:
                # Its client is gone and took the empty mailbox along.
                self.fs.make_folders(os.path.dirname(target))
            except OSError as error:
                if not links_unsupported(error):
                    raise
                return self._rename_if_absent(temporary, target)
            else:
                return True
        raise SpoolError(f"cannot publish into {target}: its folder is removed again and again")

    def _rename_if_absent(self, temporary: str, target: str) -> bool:
        # Without links the look and the rename are two steps: two workers of one invocation
        # can pass the look together, and then the later result stands.
        if self.fs.exists(target):
            return False
        self.move(temporary, target)
        return True

    def _retire(self, path: str, name: AttemptName, state: State) -> None:
        """Take a finished attempt out of ``running/``; failed ones are kept for a look."""
        if state is not State.FAILED:
            self.fs.discard(path)
            return
        # False where a reaper took it: its next claimant finds the outcome.
        self.move(path, self.layout.failed(name))

    # -- back to pending ----------------------------------------------------------------

    def give_back(self, claim: Claim) -> bool:
        """Make a claimed attempt pending again, as it was; False if the claim was lost.

        Dies before or after: it is claimed by a dead worker, or pending.
        """
        return self.move(claim.path, claim.origin)

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
        following = AttemptName(name.invocation_id, name.attempt + 1)
        return self.move(path, f"{self.layout.slot(call.queue, call.slot)}/{following}")

    def recover(self, path: str, name: AttemptName, reason: str) -> None:
        """Decide about an attempt whose worker died: finished, once more, or lost.

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
        if name.attempt < call.max_attempts:
            self.requeue(path, name, call)
        else:
            self.lose(path, name, reason)

    def _unfinished(self, path: str, name: AttemptName) -> Call | None:
        """The header of an attempt that is to go on; None if it is settled, now or before."""
        if self.has_outcome(name.invocation_id):
            self.fs.discard(path)
            return None
        try:
            return self._read_call(path, name)[0]
        except FileNotFoundError:
            return None  # somebody else was here
        except EnvelopeError as error:
            self.quarantine(path, name, str(error))
            return None

    def move(self, source: str, target: str) -> bool:
        """Rename into a folder that may be missing; False if the source is gone.

        Only for a source that nobody else would take, or where it does not matter who did:
        a lost reply looks like a source that is gone.
        """
        for _ in range(_TRIES):
            try:
                self.fs.rename(source, target)
            except FileNotFoundError:
                if not self.fs.exists(source):
                    return False
                self.fs.make_folders(os.path.dirname(target))
            else:
                return True
        raise SpoolError(f"cannot move to {target}: its folder is removed again and again")

    # -- failures of the queue's own -----------------------------------------------------

    def lose(self, path: str, name: AttemptName, reason: str) -> None:
        """End an invocation that has lost its last worker."""
        message = (
            f"invocation {name.invocation_id} was lost with its worker {name.attempt} times, "
            f"which is as often as max_attempts allows. The last time: {reason}. "
            f"Its call is kept in {self.layout.failed(name)}."
        )
        self._publish_outcome(self._queue_failure(name, "WorkerLostError", message), ())
        self._retire(path, name, State.FAILED)

    def quarantine(self, path: str, name: AttemptName, reason: str) -> None:
        """Set a damaged call aside and tell its caller, whom the name alone identifies."""
        message = (
            f"invocation {name.invocation_id} could not be read: {reason}. "
            f"The file lies in {self.layout.quarantined(str(name))}; make the call again."
        )
        self._publish_outcome(self._queue_failure(name, "InvocationCorruptError", message), ())
        self.set_aside(path, reason)

    def set_aside(self, path: str, reason: str) -> None:
        """Move a file to ``quarantine/`` with its reason beside it."""
        name = os.path.basename(path)
        # The reason first: who dies in between leaves no file that nobody can explain.
        self.move(
            self._write([f"{path}: {reason}\n".encode()]), self.layout.quarantine_reason(name)
        )
        self.move(path, self.layout.quarantined(name))

    def _queue_failure(self, name: AttemptName, kind: str, message: str) -> Outcome:
        now = self.clock.now()
        return Outcome(
            id=name.invocation_id,
            spool=self.info.id,
            attempt=name.attempt,
            state=State.FAILED,
            worker="",
            started=now,
            ended=now,
            codec="",
            failure=Failure(kind, message),
        )

    # -- outcomes -----------------------------------------------------------------------

    def has_outcome(self, invocation_id: str) -> bool:
        """Whether an outcome was published and is still there."""
        return self.fs.exists(self.layout.done(invocation_id)) or self.is_kept(invocation_id)

    def is_kept(self, invocation_id: str) -> bool:
        """Whether its client has collected the outcome and keeps it for others."""
        return self.fs.exists(self.layout.kept(invocation_id))

    def collect(self, invocation_id: str, *, keep: bool) -> bytes | None:
        """The client's own first reading of an outcome; None if it is not there.

        It leaves the mailbox, so that the mailbox stays short: removed if nobody else may
        want it, or else moved to ``kept/``, where everybody looks first, this method too. So an
        outcome that a late worker publishes after this is never seen.
        """
        if keep and self.is_kept(invocation_id):
            return self.fs.read(self.layout.kept(invocation_id))
        path = self.layout.done(invocation_id)
        try:
            data = self.fs.read(path)
        except FileNotFoundError:
            return None
        try:
            if keep:
                self.move(path, self.layout.kept(invocation_id))
            else:
                self.fs.discard(path)
        except OSError as error:
            # The client has it, and a second reading may find nothing: the error may be about
            # the reply alone. What stays in the mailbox still refuses a later outcome.
            log.info("%s stays in its mailbox: %s", invocation_id, error)
        return data

    def peek(self, invocation_id: str) -> bytes | None:
        """An outcome read by anybody, which changes nothing; None if it is not there."""
        kept = self.layout.kept(invocation_id)
        # Its client may move it from one to the other between two looks: hence thrice.
        for path in (kept, self.layout.done(invocation_id), kept):
            try:
                return self.fs.read(path)
            except FileNotFoundError:
                continue
        return None

    def read_outcome(self, invocation_id: str, data: bytes) -> tuple[Outcome, memoryview]:
        """Header and payload of an outcome.

        Raises:
            EnvelopeError: damaged, or of another invocation.
            SpoolVersionError: a newer writer's.
        """
        where = self.layout.done(invocation_id)
        outcome, payload = envelope.decode(data, Outcome, where)
        if (outcome.id, outcome.spool) != (invocation_id, self.info.id):
            raise EnvelopeError(f"{where} holds the outcome of another invocation ({outcome.id})")
        return outcome, payload

    def _write(self, chunks: Sequence[bytes | memoryview]) -> str:
        path = self.layout.tmp(self._owner, next(self._serial))
        self.fs.create(path, chunks)
        return path
