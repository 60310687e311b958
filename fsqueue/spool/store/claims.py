"""Claims calls for a worker, and moves claimed calls back: unchanged, to wait, or to be retried."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError
from fsqueue.spool.features.limits import waiting_name
from fsqueue.spool.format.claim import Claim
from fsqueue.spool.format.names import DEFAULT_PRIORITY, AttemptName, Slot

if TYPE_CHECKING:
    from fsqueue.spool.features.blobs import Blobs
    from fsqueue.spool.features.dependencies import Dependencies
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.files.outcomes import Outcomes
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.store.endings import Endings
    from fsqueue.spool.store.waiting import Waiting

log: logging.Logger = logging.getLogger(__name__)


class Claims:
    """Claims calls for a worker, and moves claimed calls back.

    Args:
        outcomes: shows which calls have ended.
        endings: ends calls that were cancelled.
        dependencies: is told about calls that have ended.
        waiting: moves waiting calls on.
        blobs: common arguments, which retried calls need.
    """

    def __init__(
        self,
        files: Files,
        outcomes: Outcomes,
        endings: Endings,
        dependencies: Dependencies,
        waiting: Waiting,
        blobs: Blobs,
    ) -> None:
        self._files, self._fs, self._layout = files, files.fs, files.layout
        self._outcomes, self._endings, self._dependencies = outcomes, endings, dependencies
        self._waiting, self._blobs = waiting, blobs

    def claim(self, origin: str, worker: str, *, shared: bool = False) -> Claim | None:
        """Claim a pending attempt; None if another worker was faster.

        A process must not claim the same name in two threads at a time. If several processes claim
        into the same folder, finding the name there proves nothing: it may be another process's
        claim. Then a call whose claim's reply was lost is a stray, and the worker's upkeep returns
        it.

        Dies before the rename: it is pending. Dies after it: the dead worker holds it, and a reaper
        gives it back. Lost reply: the name is in this worker's folder, where no other process puts
        anything.

        Args:
            origin: the attempt's path.
            worker: the worker's name.
            shared: other processes claim into this worker's folder too.

        Raises:
            OSError: the shared directory failed, or the worker's folder is missing.
        """
        text = origin.rpartition("/")[2]
        name = AttemptName.parse(text)
        if name is None:
            self._files.set_aside(origin, "its name is not one of an invocation")
            return None
        folder = self._layout.running(worker)
        target, record = f"{folder}/{text}", None
        try:
            record = None if name.cancelled else self._read_if_link(origin)
            self._fs.rename(origin, target)
        except FileNotFoundError:
            # Check both, since a listing of this folder may be older than the call's return to its
            # queue. A file that is there but seems to be missing is a stray, and will be returned.
            held = self._held(folder)
            if shared or text not in held or not self._fs.exists(target):
                return None
        if name.cancelled:
            self._endings.end_cancelled(target, name)
            return None
        claim = Claim(name, target, self._layout.home(origin), worker, text, record)
        return None if name.attempt > 1 and self._is_settled(claim) else claim

    def _read_if_link(self, path: str) -> bytes | None:
        """The content of a call that is a link; None if it is a file, or cannot be read.

        An NFS client asks the server again before it reads a link that was just renamed, so it is
        read first. Its text cannot change: calls are moved, never rewritten, and a name contains
        the invocation's id, which the header repeats.

        Raises:
            FileNotFoundError: it is gone.
        """
        if not self._files.info.longest_link:
            return None
        try:
            return self._fs.read_link(path)
        except FileNotFoundError:
            raise
        except (OSError, EnvelopeError):  # a later reading of the claim tells
            return None

    def _held(self, folder: str) -> list[str]:
        """The names in a worker's folder. If the folder is missing, all claims must fail."""
        try:
            return self._fs.names(folder, fresh=True, required=True)
        except FileNotFoundError:
            text = "this worker was declared dead, or the shared directory is gone"
            raise OSError(errno.ESTALE, text, folder) from None

    def _is_settled(self, claim: Claim) -> bool:
        """Remove a claimed attempt that has an outcome: its previous worker was slow, not dead.

        Errors are only logged. The task may then run again, and the first outcome stands. An error
        must not reach the worker, which would then not know that it holds the claim.
        """
        try:
            settled = self._endings.is_over(claim.name)
            if settled:
                self._dependencies.ended(claim.name.invocation_id)
                self._files.remove(claim.path)
        except OSError as error:
            log.info("%s may run twice: cannot check for its outcome: %s", claim.name, error)
            return False
        return settled

    def park(self, claim: Claim, call: Call, lane: str) -> bool:
        """Let a claimed call wait for a concurrency limit; False if the claim was lost.

        Dies before the rename: a dead worker holds the call. Dies after it: the call waits.
        """
        if self._endings.is_over(claim.name):
            self._files.remove(claim.path)
            return False
        waiting = waiting_name(claim.origin, call.within.get(lane, ""))
        return self._files.move(claim.path, self._layout.in_lane(lane, f"{waiting}/{claim.name}"))

    def give_back(self, claim: Claim) -> bool:
        """Return a claimed attempt to its queue unchanged; False if it was lost or has ended.

        Dies before the rename: a dead worker holds the attempt. Dies after it: it is pending.
        """
        if self._endings.is_over(claim.name):
            self._dependencies.ended(claim.name.invocation_id)
            self._files.remove(
                claim.path
            )  # cancelled while running; claiming a first attempt would not check
            return False
        return self._files.move(claim.path, claim.origin)

    def park_again(self, claim: Claim, parent: str) -> bool:
        """Let a claimed attempt wait for a parent that has not ended; False if it was lost.

        Dies before the rename: a dead worker holds the attempt. Dies after it: it waits, and is
        released as after `publish_after`.
        """
        path = f"{self._layout.after(parent)}/{claim.name}"
        moved = self._files.move(claim.path, path)
        self._fs.ring(self._layout.after_bell)
        if self._outcomes.exists(parent):
            self._waiting.move_on(path)
        return moved

    def retry(self, claim: Claim, call: Call, due: float) -> bool:
        """Requeue a failed attempt as the next attempt; False if the claim was lost.

        Dies before the rename: a dead worker holds the attempt. Dies after it: it is pending.

        Args:
            call: its header.
            due: when the next attempt may start, in seconds by the file server's clock.
        """
        if call.blob:
            self._blobs.touch(call.blob, due)
        slot = Slot.parse(call.slot) or Slot(DEFAULT_PRIORITY, due)
        folder = self._layout.slot(call.queue, str(slot._replace(due=due)))
        return self._files.move(claim.path, f"{folder}/{claim.name.after_failure()}")
