"""The store: one process's handle on a spool, which publishes, claims and returns calls.

Each step says what a crash leaves behind: "Dies before the rename" means that the process dies just
before it. "Lost reply" is a habit of network filesystems: the server carries out a request, its
reply is lost, and the client's repetition of the request is answered as if it were the first.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.features.blobs import Blobs
from fsqueue.spool.features.deduplication import Deduplication
from fsqueue.spool.features.dependencies import Dependencies
from fsqueue.spool.features.limits import Limits, waiting_name
from fsqueue.spool.features.result_cache import ResultCache
from fsqueue.spool.files.calls import Calls
from fsqueue.spool.files.checks import is_abandoned
from fsqueue.spool.files.files import Files
from fsqueue.spool.files.outcomes import Outcomes
from fsqueue.spool.format import envelope
from fsqueue.spool.format.claim import Claim
from fsqueue.spool.format.names import DEFAULT_PRIORITY, AttemptName, Slot
from fsqueue.spool.store.endings import Endings
from fsqueue.spool.store.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.format.layout import Layout
    from fsqueue.spool.format.records import Call, SpoolInfo

log = logging.getLogger(__name__)


class Store:
    """One process's handle on a spool.

    Args:
        filesystem: verbs over system calls.
        layout: paths of the spool.
        info: the content of its ``spool.json``.
        key: the key that signs its files; empty if they are not signed.

    Attributes:
        files: files of any kind. Its `fs`, `layout` and `clock` are here too.
        calls: reads the files of calls.
        outcomes: in ``done/`` and ``kept/``.
        endings: completes, cancels and gives up calls.
        blobs: arguments that many calls share.
        cache: results that other calls may reuse.
        waiting: moves waiting calls on.
        limits: concurrency limits, and the calls that wait for them.
        dependencies: which calls wait for which other calls.
        deduplication: publishes at most one pending call per key.
    """

    def __init__(
        self, filesystem: Filesystem, layout: Layout, info: SpoolInfo, key: bytes = b""
    ) -> None:
        self.files = files = Files(filesystem, layout, info, key)
        self.fs, self.layout, self.clock = filesystem, layout, files.clock
        self.calls = Calls(files)
        self.outcomes = Outcomes(files, on_end=self._ended)
        self.endings = Endings(files, self.calls, self.outcomes)
        self.blobs = Blobs(files)
        self.cache = ResultCache(files)
        self.waiting = Waiting(files, self.calls, self.outcomes, self.endings, self.blobs)
        self.limits = Limits(files, self.waiting.admit)
        self.dependencies = Dependencies(
            self.outcomes, self.waiting.move_on, self.waiting.renew_needs
        )
        self.deduplication = Deduplication(files, self.limits)

    def _ended(self, invocation_id: str) -> None:
        self.dependencies.ended(invocation_id)

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
        self.files.place(target, envelope.encode(call, payload, self.files.key, buffers))
        return target

    def publish_after(
        self,
        call: Call,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer],
        parent: str,
    ) -> str:
        """File a call under the parent that it waits for; returns its path.

        The publisher must check afterwards whether the parent has ended: see `Dependencies`. Dies
        before that check: if the parent ends later, the worker that ends it finds the call. If it
        had ended already, upkeep finds the call.
        """
        target = f"{self.layout.after(parent)}/{call.id}.1"
        self.files.place(target, envelope.encode(call, payload, self.files.key, buffers))
        return target

    def withdraw(self, path: str) -> bool:
        """Take back a pending call whose result is not wanted; False if a worker has claimed it."""
        try:
            self.fs.unlink(path)
        except FileNotFoundError:
            return False
        name = AttemptName.parse(os.path.basename(path))
        if name is not None:
            self.dependencies.ended(name.invocation_id)
        return True

    # -- claim --------------------------------------------------------------------------

    def claim(self, origin: str, worker: str) -> Claim | None:
        """Claim a pending attempt; None if another worker was faster.

        A process must not claim the same name in two threads at a time.

        Dies before the rename: it is pending. Dies after it: it is the dead worker's, and a
        reaper gives it back. Lost reply: the name is in this worker's folder, where no other
        process puts anything.

        Raises:
            OSError: the shared directory failed, or the worker's folder is missing.
        """
        text = origin.rpartition("/")[2]
        name = AttemptName.parse(text)
        if name is None:
            self.files.set_aside(origin, "its name is not one of an invocation")
            return None
        folder = self.layout.running(worker)
        claim = Claim(name, f"{folder}/{text}", self.layout.home(origin), worker, text)
        try:
            self.fs.rename(origin, claim.path)
        except FileNotFoundError:
            if text not in self._held(folder):
                return None
        if name.cancelled:
            self.endings.end_cancelled(claim.path, name)
            return None
        return None if name.attempt > 1 and self._is_settled(claim) else claim

    def _held(self, folder: str) -> list[str]:
        """The names in a worker's folder; if that is missing, all claims must fail."""
        try:
            return self.fs.names(folder, fresh=True, required=True)
        except FileNotFoundError:
            text = "this worker was declared dead, or the shared directory is gone"
            raise OSError(errno.ESTALE, text, folder) from None

    def _is_settled(self, claim: Claim) -> bool:
        """Remove a claimed attempt that has an outcome: its former worker was slow, not dead.

        An error is only logged. The body may then run once more, and the first outcome stands. The
        error must not reach the worker, which would not learn that it holds the claim.
        """
        try:
            settled = self.endings.is_over(claim.name)
            if settled:
                self.dependencies.ended(claim.name.invocation_id)
                self.files.remove(claim.path)
        except OSError as error:
            log.info("%s may run twice: cannot check for its outcome: %s", claim.name, error)
            return False
        return settled

    def park(self, claim: Claim, call: Call, lane: str) -> bool:
        """Let a claimed call wait for a concurrency limit; False if the claim was lost.

        Dies before the rename: a dead worker holds the call. Dies after it: the call waits.
        """
        if self.endings.is_over(claim.name):
            self.files.remove(claim.path)
            return False
        waiting = waiting_name(claim.origin, call.within.get(lane, ""))
        return self.files.move(claim.path, self.layout.in_lane(lane, f"{waiting}/{claim.name}"))

    # -- back to pending ----------------------------------------------------------------

    def give_back(self, claim: Claim) -> bool:
        """Return a claimed attempt to its queue unchanged; False if it was lost or has ended.

        Dies before the rename: a dead worker holds the attempt. Dies after it: it is pending.
        """
        if self.endings.is_over(claim.name):
            self.dependencies.ended(claim.name.invocation_id)
            self.files.remove(
                claim.path
            )  # cancelled while it ran; a claim of a first attempt would not check
            return False
        return self.files.move(claim.path, claim.origin)

    def park_again(self, claim: Claim, parent: str) -> bool:
        """Let a claimed attempt wait for a parent that has not ended; False if it was lost.

        Dies before the rename: a dead worker holds the attempt. Dies after it: it waits, and is
        released as after `publish_after`.
        """
        path = f"{self.layout.after(parent)}/{claim.name}"
        moved = self.files.move(claim.path, path)
        self.fs.ring(self.layout.after_bell)
        if self.outcomes.exists(parent):
            self.waiting.move_on(path)
        return moved

    def retry(self, claim: Claim, call: Call, due: float) -> bool:
        """Requeue a failed attempt as the next attempt; False if the claim was lost.

        Dies before the rename: a dead worker holds the attempt. Dies after it: it is pending.

        Args:
            claim: the attempt.
            call: its header.
            due: when the next attempt may start, in seconds by the file server's clock.
        """
        if call.blob:
            self.blobs.touch(call.blob, due)
        slot = Slot.parse(call.slot) or Slot(DEFAULT_PRIORITY, due)
        folder = self.layout.slot(call.queue, str(slot._replace(due=due)))
        return self.files.move(claim.path, f"{folder}/{claim.name.after_failure()}")

    def return_stray(self, path: str, name: AttemptName) -> None:
        """Settle an attempt that lies in a living worker's folder without the worker knowing it.

        This happens when the reply to a claim was lost and the check for it failed, too, or when
        a finished attempt could not be removed.

        Raises:
            SpoolVersionError: another version wrote it: leave it alone.
        """
        call = self._unfinished(path, name)
        if call is not None:
            self.files.move(path, f"{self.layout.slot(call.queue, call.slot)}/{name}")

    def requeue(self, path: str, name: AttemptName, call: Call) -> bool:
        """Requeue the attempt of a dead worker as the next attempt; False if it is gone.

        Dies before the rename: another reaper does it. Two reapers at once: only one rename
        succeeds.
        """
        slot = self.layout.slot(call.queue, call.slot)
        return self.files.move(path, f"{slot}/{name.after_death()}")

    def recover(self, path: str, name: AttemptName, reason: str) -> None:
        """Decide about an attempt whose worker died: finished, unwanted, once more, or lost.

        Args:
            path: the attempt in the dead worker's folder.
            name: its name.
            reason: how the worker died, for the caller's message.

        Raises:
            SpoolVersionError: another version wrote it: leave it alone.
        """
        call = self._unfinished(path, name)
        if call is None:
            return
        self._settle_dead(path, name, call, reason)
        self.limits.release_dead(
            call.lanes, name.invocation_id, os.path.basename(os.path.dirname(path))
        )

    def _settle_dead(self, path: str, name: AttemptName, call: Call, reason: str) -> None:
        if is_abandoned(call) and not self.dependencies.is_awaited(call.id):
            self.withdraw(path)
        elif name.deaths + 1 < call.max_attempts:
            self.requeue(path, name, call)
        else:
            self.endings.lose(path, name, call, reason)

    def drop(self, path: str, name: AttemptName) -> None:
        """Remove a cancelled attempt of this worker, whose body was stopped."""
        lanes: tuple[str, ...] = ()
        with contextlib.suppress(FileNotFoundError, EnvelopeError, SpoolVersionError):
            lanes = self.calls.read_header(path, name).lanes
        self.files.remove(path)
        self.limits.release_dead(lanes, name.invocation_id, os.path.basename(os.path.dirname(path)))

    def _unfinished(self, path: str, name: AttemptName) -> Call | None:
        """The header of an attempt that has not ended; None if it has, or is ended here."""
        if self.endings.is_over(name):
            self.dependencies.ended(name.invocation_id)
            self.files.remove(path)
            return None
        if name.cancelled:
            self.endings.end_cancelled(path, name)
            return None
        try:
            return self.calls.read_header(path, name)
        except FileNotFoundError:
            return None  # another process was faster
        except EnvelopeError as error:
            self.endings.quarantine(path, name, str(error))
            return None
