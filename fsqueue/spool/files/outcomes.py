"""Outcomes of calls: published once, collected by the caller, and kept for others."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from fsqueue.common.fingerprints import digest_of
from fsqueue.errors import EnvelopeError, SpoolError
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import AttemptName, client_of
from fsqueue.spool.format.records import Failure, Outcome
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fsqueue.spool.disk.content import Buffer, Content
    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.format.layout import Layout
    from fsqueue.spool.format.records import Payload

log: logging.Logger = logging.getLogger(__name__)

# To look for more outcomes than this, list mailboxes instead of checking one by one.
_FEW = 16
_STAYS = "%s stays in its mailbox: %s"


def _nothing(_: str) -> None:
    """The default for `on_end`: tell nobody."""


class Outcomes:
    """Publishes, collects and reads outcomes in ``done/`` and ``kept/``.

    Attributes:
        on_end: called with an invocation's id after its outcome was published, or turned out to be
            already published. It must not raise: its errors would look like a failed publication.
    """

    def __init__(self, files: Files) -> None:
        self.files: Files = files
        self.fs: Filesystem = files.fs
        self.layout: Layout = files.layout
        self.on_end: Callable[[str], object] = _nothing

    # -- publishing ---------------------------------------------------------------------

    def publish(
        self,
        outcome: Outcome,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer] = (),
    ) -> bool:
        """Publish an outcome; False if the call already had one.

        Dies before the link: there is no outcome. Dies after it: the outcome stands. Lost reply:
        the temporary file has two names, or the record that is a link has this outcome's text.

        An outcome that other calls may reuse gets its name in ``cache/`` first, so that any process
        that has the outcome also finds it there. Dies in between: equal calls get this result,
        which the task did return, and the call itself runs again. The same applies if the call
        already had an outcome.
        """
        chunks = envelope.encode(outcome, payload, self.files.key, buffers)
        done = self.layout.done(outcome.id)
        published: bool | None = None
        if self.files.temporary.longest_link and not outcome.cache:
            published = self.files.add_link(done, chunks)
        if published is None:
            with self.files.temporary.file(chunks) as temporary:
                if outcome.cache:
                    self._offer(temporary, chunks, self.layout.cached(outcome.cache))
                published = self.files.link_once(temporary, done)
                self.fs.discard(temporary)
        if self.files.sleepers is not None:
            self.files.sleepers.ended(outcome.id)
        self.on_end(outcome.id)
        return bool(published)

    def _offer(self, temporary: str, chunks: Sequence[Buffer], path: str) -> None:
        """Add an outcome that is about to be published to the cache.

        Dies before the last step: there is no result in the cache, or the older one. Lost reply:
        the name is written again. A failure is only logged: the outcome itself will be published.

        Raises:
            OSError: the temporary file could not be written again.
        """
        try:
            try:
                self.fs.link(temporary, path)
            except FileExistsError:  # an older result
                with self.files.temporary.file() as second:
                    self.fs.link(temporary, second)
                    self.files.move(second, path)
        except (OSError, SpoolError):  # for example, no hard links
            try:
                self.files.move(temporary, path)
            except (OSError, SpoolError) as error:
                log.warning("cannot write %s, so equal calls will run again: %s", path, error)
            else:
                self.files.temporary.create(temporary, chunks)

    def queue_failure(
        self, name: AttemptName, kind: str, message: str, state: State = State.FAILED
    ) -> Outcome:
        """The outcome of a call that the queue itself ends, without a result from its task."""
        now = self.now()
        return Outcome(
            id=name.invocation_id,
            spool=self.files.info.id,
            attempt=name.attempt,
            state=state,
            worker="",
            started=now,
            ended=now,
            codec="",
            failure=Failure(kind, message, digest_of(kind)),
        )

    def now(self) -> float:
        """The file server's time; a process that has not read its clock reads it first."""
        if self.files.clock.age == float("inf"):
            self.files.sync_clock()
        return self.files.clock.now()

    # -- reading ------------------------------------------------------------------------

    def exists(self, invocation_id: str) -> bool:
        """Whether an invocation has an outcome (which has not expired)."""
        paths = self.layout.done(invocation_id), self.layout.kept(invocation_id)
        return any(self.fs.exists(path, fresh=True) for path in paths)

    def last_unfinished(self, invocation_ids: Sequence[str]) -> str | None:
        """The last of these invocations that has no outcome; None if all of them have one."""
        known = self._finished_of(invocation_ids) if len(invocation_ids) > _FEW else ()
        for invocation_id in reversed(invocation_ids):
            if invocation_id not in known and not self.exists(invocation_id):
                return invocation_id
        return None

    def _finished_of(self, invocation_ids: Iterable[str]) -> set[str]:
        """The finished invocations of these clients: two listings cost less than many checks."""
        fs, layout = self.fs, self.layout
        found: set[str] = set()
        for client in {client_of(invocation_id) for invocation_id in invocation_ids}:
            found.update(fs.names(layout.mailbox(client), fresh=True))
            found.update(fs.names(layout.kept_mailbox(client), fresh=True))
        return found

    def is_kept(self, invocation_id: str) -> bool:
        """Whether the caller has collected the outcome and keeps it for others."""
        return self.fs.exists(self.layout.kept(invocation_id))

    def renew(self, invocation_id: str) -> None:
        """Make an outcome, if there is one, expire as late as if it were published now."""
        for path in (self.layout.done(invocation_id), self.layout.kept(invocation_id)):
            with contextlib.suppress(FileNotFoundError):
                self.fs.set_time(path, None)

    def collect(self, invocation_id: str, *, keep: bool, leave: bool = False) -> Content | None:
        """Read an outcome as its caller and take it out of the mailbox; None if it is not there.

        This keeps the mailbox short. An outcome that no other process may want is removed; the
        others move to ``kept/``. Every reader prefers ``kept/``, so an outcome that a slow worker
        publishes after the collection is never seen.

        Args:
            invocation_id: the invocation.
            keep: other processes may want the outcome.
            leave: if they may not, leave it there until `remove`.
        """
        path = self.layout.done(invocation_id)
        try:
            data = self.files.read_file(path)
        except FileNotFoundError:
            return self._collected_before(invocation_id) if keep else None
        except EnvelopeError as error:
            if keep and (first := self._collected_before(invocation_id)) is not None:
                return first
            return self.condemn(invocation_id, path, str(error), keep=keep)
        if not keep:
            if not leave:
                self.remove(invocation_id)
            return data
        try:
            return self._keep(path, self.layout.kept(invocation_id), data)
        except OSError as error:
            log.info(_STAYS, invocation_id, error)
            # Another handle may have collected an earlier outcome than the one read here.
            return self._collected_before(invocation_id) or data

    def remove(self, invocation_id: str) -> None:
        """Remove an outcome from the mailbox that its caller has read, and no other process wants.

        An error is only logged: reading the outcome again may find nothing, since perhaps only the
        reply failed. A file that stays in the mailbox still keeps later outcomes out.
        """
        try:
            self.fs.discard(self.layout.done(invocation_id))
        except OSError as error:
            log.info(_STAYS, invocation_id, error)

    def _collected_before(self, invocation_id: str) -> Content | None:
        kept = self.layout.kept(invocation_id)
        try:
            return self.files.read_if_there(kept)
        except EnvelopeError as error:
            return self.condemn(invocation_id, kept, str(error), keep=True)

    def condemn(
        self, invocation_id: str, damaged: str | Content, reason: str, *, keep: bool
    ) -> Content:
        """Set a damaged outcome aside; returns the failure that replaces it.

        Only the caller does this, when it collects the outcome.

        Args:
            invocation_id: the invocation whose outcome it should be.
            damaged: the file's path, or its content if the file is gone.
            reason: what is wrong with it.
            keep: keep the failure readable for other processes.
        """
        self.files.check_spool()
        name = self.files.free_name(invocation_id)
        if isinstance(damaged, str):
            self.files.set_aside(damaged, reason, name)
        else:
            with self.files.temporary.file(damaged) as copy:
                self.files.set_aside(copy, reason, name)
        message = (
            f"the outcome of invocation {invocation_id} could not be read: {reason}. "
            f"The file lies in {self.layout.quarantined(name)}; make the call again."
        )
        failure = self.queue_failure(AttemptName(invocation_id, 1), "EnvelopeError", message)
        chunks = envelope.encode(failure, (), self.files.key)
        if keep:
            self.files.replace_file(self.layout.kept(invocation_id), chunks)
        return [b"".join(chunks)]

    def _keep(self, path: str, kept: str, data: Content) -> Content:
        """Move an outcome to ``kept/``; returns the one that is kept.

        This uses a link, which refuses a name that exists. Between this caller's read and its move,
        another handle of the same call may have collected the outcome, and a slow worker may have
        published another one. A rename would replace the first outcome with the later one.

        Dies after the link: the outcome has two names, and the one in the mailbox expires.
        """
        try:
            self.fs.link(path, kept)
        except (FileExistsError, FileNotFoundError):
            first = self.files.read_if_there(kept)
            if first is None:
                self.files.move(path, kept)  # its folder was missing
                return data
            data = first
        except OSError:
            # There are no hard links, or the disk is full, when a rename still works: check, then
            # rename.
            if self.files.add_link(kept, data):
                self.fs.discard(path)
                return data
            first = self.files.read_if_there(kept)
            if first is None:
                self.files.move(path, kept)
                return data
            data = first
        self.fs.discard(path)
        return data

    def peek(self, invocation_id: str, *, collected: bool = False) -> Content | None:
        """Read an outcome without collecting it; None if it is not there.

        Args:
            invocation_id: the invocation.
            collected: this process has already collected it, so it is most likely in ``kept/``.
        """
        if collected and (kept := self.files.read_if_there(self.layout.kept(invocation_id))):
            return kept
        # The order matters: an outcome moves from ``done/`` to ``kept/`` and never back. If both
        # have one, a slow worker published the one in ``done/`` after the collection.
        done = self.files.read_if_there(self.layout.done(invocation_id))
        kept = self.files.read_if_there(self.layout.kept(invocation_id))
        return done if kept is None else kept

    def peek_again(self, invocation_id: str) -> Content | None:
        """Like `peek`, for an outcome that should be there, as the call is nowhere else.

        It may have been published in the tick of the server's clock in which an NFS client was told
        that it is missing. The client believes that until it lists the folder in a later tick.
        """
        places = self.layout.done(invocation_id), self.layout.kept(invocation_id)
        return self.peek(invocation_id) if any(map(self.fs.is_there, places)) else None

    def read(self, invocation_id: str, data: Content) -> tuple[Outcome, Payload]:
        """Header and payload of an outcome.

        Raises:
            EnvelopeError: the file is damaged, or is the outcome of another invocation.
            SpoolVersionError: a newer version wrote it.
        """
        where = self.layout.done(invocation_id)
        outcome, payload = self.files.decode(data, Outcome, where)
        if (outcome.id, outcome.spool) != (invocation_id, self.files.info.id):
            self.files.check_spool()
            raise EnvelopeError(f"{where} holds the outcome of another invocation ({outcome.id})")
        return outcome, payload
