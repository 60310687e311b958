"""Ends calls that completed, were cancelled, lost their workers or are damaged."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.features.trigger_state import add_end
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.features.cuts import Cut
    from fsqueue.spool.files.calls import Calls
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.files.outcomes import Outcomes
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.records import Call, Outcome

log: logging.Logger = logging.getLogger(__name__)


# The most notes to buffer. They are for statistics only: beyond this, the oldest are lost.
_MOST_NOTES = 20_000


class Note(NamedTuple):
    """Records for the journal what the queue did with an attempt that its task did not end.

    The attempt was cancelled or given up, or its worker died. The process that handled it keeps the
    note in memory and writes it to the journal later. Dies in between: it is missing from the
    statistics.
    """

    name: AttemptName
    when: float
    call: Call | None
    """Its header; None if it was not read."""
    outcome: Outcome | None = None
    """The outcome that this process published; None if the call continues."""
    worker: str = ""
    """The worker that died with it; empty if none did."""
    evidence: str = ""
    """How the worker's death was detected."""


class Endings:
    """Publishes calls' outcomes, and then removes the calls' files or keeps them for a retry.

    Attributes:
        notes: attempts that this process ended instead of a task, until they are written to the
            journal.

    Args:
        calls: reads the headers of calls.
        outcomes: where outcomes are published.
    """

    def __init__(self, files: Files, calls: Calls, outcomes: Outcomes) -> None:
        self._files, self._fs, self._layout = files, files.fs, files.layout
        self._calls, self._outcomes = calls, outcomes
        self.notes: deque[Note] = deque(maxlen=_MOST_NOTES)

    def note(self, name: AttemptName, call: Call | None, *, worker: str, evidence: str) -> None:
        """Note that an attempt lost its worker and its call continues."""
        self.notes.append(Note(name, self._outcomes.now(), call, worker=worker, evidence=evidence))

    def _publish_own(
        self,
        name: AttemptName,
        outcome: Outcome,
        call: Call | None,
        *,
        lost: str = "",
        why: str = "",
    ) -> bool:
        """Publish an outcome on behalf of the queue; False if the call already had one.

        Args:
            call: its header, if it was read.
            lost: the worker that died with it.
            why: how that was detected.
        """
        published = self._outcomes.publish(outcome, ())
        if published:
            self.notes.append(Note(name, outcome.ended, call, outcome, lost, why))
        return published

    def complete(
        self,
        claim: Claim,
        outcome: Outcome,
        payload: Sequence[bytes | memoryview] = (),
        buffers: Sequence[Buffer] = (),
    ) -> bool:
        """Publish the outcome of a claimed attempt; False if the call already had one.

        Dies before the link: the attempt runs again. Dies after it: the outcome stands, and the
        reaper that finds the attempt removes it. Lost reply: the temporary file has two names.
        """
        published = self._outcomes.publish(outcome, payload, buffers)
        if not published and not self._fs.exists(self._layout.cancelled(outcome.id)):
            text = "%s has ended, but its call had an outcome already, which stands"
            log.warning(text, claim.name, extra=claim.tags)
        if outcome.state is State.FAILED:
            self._keep_failed(claim.path, claim.name)
        else:
            self._files.remove(claim.path)
        return published

    def _keep_failed(self, path: str, name: AttemptName) -> None:
        """Move a failed attempt from ``running/`` to ``failed/``."""
        # False if a reaper took it: the next worker that claims it finds the outcome.
        self._files.move(path, self._layout.failed(name))

    # -- cancel -------------------------------------------------------------------------

    def cancel_pending(self, path: str, why: str = "") -> bool:
        """Cancel a pending attempt; False if a worker has claimed it.

        The outcome contains `why`, unless this process dies before it is published.

        Dies before the rename: nothing has happened. Dies after it: the worker that claims the
        attempt ends it. Lost reply: the new name is there.
        """
        folder, text = os.path.split(path)
        name = AttemptName.parse(text)
        if name is None:
            return False
        marked = f"{folder}/{name._replace(cancelled=True)}"
        try:
            self._fs.rename(path, marked)
        except FileNotFoundError:
            if os.path.basename(marked) not in self._fs.names(folder, fresh=True):
                return False
        self.end_cancelled(marked, name, why)
        return True

    def cancel_running(self, invocation_id: str) -> bool:
        """Cancel an invocation wherever it is; False if it already had an outcome.

        The outcome is published before the mark, so a worker that sees the mark may drop the
        attempt without checking for an outcome. The mark stays when the outcome is collected. Dies
        in between: the invocation is cancelled, but its task runs to the end.
        """
        name = AttemptName(invocation_id, 1)
        published = self._publish_own(name, self._cancelled(name, ""), None)
        self._files.touch(self._layout.cancelled(invocation_id))
        return published

    def end_cancelled(self, path: str, name: AttemptName, why: str = "") -> None:
        """Publish the outcome of an attempt that was cancelled before it ran, and remove it."""
        call = None
        # Triggers learn of the end only if the call can be read.
        with contextlib.suppress(FileNotFoundError, EnvelopeError, SpoolVersionError):
            call = self._calls.read_header(path, name)
            add_end(self._files, call, self._cancelled(name, why))
        self._tell(name, self._cancelled(name, why), call)
        self._files.remove(path)

    def _tell(self, name: AttemptName, outcome: Outcome, call: Call | None = None) -> None:
        """Publish an outcome on behalf of the queue; an inaccessible mailbox is only logged."""
        mailbox = self._layout.done(outcome.id)
        self._files.unless_refused(mailbox, lambda: self._publish_own(name, outcome, call))

    def _cancelled(self, name: AttemptName, why: str) -> Outcome:
        message = f"invocation {name.invocation_id} was cancelled{f': {why}' if why else ''}"
        return self._outcomes.queue_failure(name, "CancelledError", message, State.CANCELLED)

    def is_cancelled(self, invocation_id: str) -> bool:
        """Whether a running invocation was cancelled."""
        return invocation_id in self._fs.names(self._layout.cancel_folder, fresh=True)

    def is_over(self, name: AttemptName) -> bool:
        """Whether an attempt need not run: its call has an outcome or was cancelled."""
        marker = self._layout.cancelled(name.invocation_id)
        return self._outcomes.exists(name.invocation_id) or self._fs.exists(marker, fresh=True)

    # -- failures of the queue's own ------------------------------------------------------

    def quarantine(self, path: str, name: AttemptName, reason: str) -> None:
        """Set a damaged call aside and tell its caller, which the file's name identifies."""
        self._files.check_spool()
        place = self._files.free_name(path)
        message = (
            f"invocation {name.invocation_id} could not be read: {reason}. "
            f"The file lies in {self._layout.quarantined(place)}; make the call again."
        )
        self._tell(name, self._outcomes.queue_failure(name, "InvocationCorruptError", message))
        self._files.set_aside(path, reason, place)

    def lose(self, path: str, name: AttemptName, call: Call, reason: str) -> None:
        """End an invocation that has lost as many workers as `max_attempts` allows."""
        message = (
            f"invocation {name.invocation_id} was lost with its worker {name.deaths + 1} times, "
            f"which is as often as max_attempts allows. The last time: {reason}. "
            f"Its call is kept in {self._layout.failed(name)}: find out what ends the workers, "
            f"then run `fsqueue retry {name.invocation_id}`."
        )
        failure = self._outcomes.queue_failure(name, "WorkerLostError", message)
        add_end(self._files, call, failure)
        worker = os.path.basename(os.path.dirname(path))
        self._publish_own(name, failure, call, lost=worker, why=reason)
        self._keep_failed(path, name)

    def exhaust(self, path: str, name: AttemptName, call: Call, cuts: Sequence[Cut]) -> None:
        """End an invocation that takes longer than its workers' batch jobs.

        Args:
            path: the attempt's file.
            call: its header.
            cuts: the times it was interrupted after it had nearly all of a worker's time.
        """
        last = cuts[-1]
        jobs = "in 1 job" if len(cuts) == 1 else f"in {len(cuts)} jobs"
        message = (
            f"invocation {call.id} of {call.task} ran {last.ran:.0f} s of {last.limit:.0f} s "
            f"{jobs}, whose end cut it off: it needs a longer walltime, or smaller pieces. Its "
            f"call is kept in {self._layout.failed(name)}: `fsqueue retry {call.id}` runs it again."
        )
        failure = self._outcomes.queue_failure(name, "WalltimeError", message)
        add_end(self._files, call, failure)
        self._publish_own(name, failure, call)
        self._keep_failed(path, name)
