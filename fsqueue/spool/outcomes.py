"""Outcomes: published once, read by their client, kept for others."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError, SpoolError
from fsqueue.spool import envelope
from fsqueue.spool.clock import ServerClock
from fsqueue.spool.filesystem import links_unsupported
from fsqueue.spool.names import AttemptName, client_of, new_token
from fsqueue.spool.records import Failure, Outcome
from fsqueue.spool.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.filesystem import Filesystem
    from fsqueue.spool.layout import Layout
    from fsqueue.spool.records import Buffer, Payload, SpoolInfo
    from fsqueue.spool.syscalls import Content

log = logging.getLogger(__name__)

# Each try ends with a folder made that somebody removed again in between: rare even once.
_TRIES = 100
_REMOVED = "its folder is removed again and again. Look what cleans up there besides fsqueue."
# In bytes: with a suffix and the ending of the reason it must still be a name.
_LONGEST_NAME = 200


class Outcomes:
    """One process's handle on a spool, as far as outcomes go. `Store` adds the calls.

    Args:
        filesystem: verbs over system calls.
        layout: paths of the spool.
        info: the content of its ``spool.json``.
        key: the key that signs its files; empty if they are not signed.
    """

    def __init__(
        self, filesystem: Filesystem, layout: Layout, info: SpoolInfo, key: bytes = b""
    ) -> None:
        self.fs = filesystem
        self.layout = layout
        self.info = info
        self.clock = ServerClock(filesystem)
        self.key = key
        self._owner = new_token()
        self._serial = itertools.count()

    def sync_clock(self) -> None:
        """Read the file server's clock, for a process that has no file of its own to touch."""
        path = self._temporary()
        self.clock.sync(path)
        self.fs.discard(path)

    # -- publishing ---------------------------------------------------------------------

    def publish_outcome(
        self,
        outcome: Outcome,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer] = (),
    ) -> bool:
        """Make an outcome known to its client; False if there was one already.

        Dies before the link: there is none. Dies after it: it stands. Lost reply: the temporary
        file has two names.

        One that others may reuse then gets its temporary name changed to the one in ``cache/``.
        Dies before that: they run themselves.
        """
        chunks = envelope.encode(outcome, payload, self.key, buffers)
        temporary, moved = self._write(chunks), False
        try:
            published = self._link(temporary, self.layout.done(outcome.id))
            if published and outcome.cache:
                moved = self._offer(temporary, chunks, self.layout.cached(outcome.cache))
            # At once: the client wakes while this worker cleans up.
            self.fs.ring(self.layout.bell(client_of(outcome.id)))
            return published
        finally:
            if not moved:
                self.fs.discard(temporary)

    def _offer(self, temporary: str, chunks: Sequence[Buffer], path: str) -> bool:
        """Let others reuse an outcome; no error of that may look like one of the outcome.

        False if its temporary file may still be there.
        """
        try:
            if not self.move(temporary, path):
                self.replace_file(path, chunks)  # there are no links: the outcome took the file
        except (OSError, SpoolError) as error:
            log.warning("%s cannot be written, and calls like it run again: %s", path, error)
            return False
        return True

    def _link(self, temporary: str, target: str) -> bool:
        for _ in range(_TRIES):
            try:
                self.fs.link(temporary, target)
            except FileExistsError:
                return self.fs.link_count(temporary) > 1
            except FileNotFoundError:
                # Its client is gone and took the empty mailbox along.
                self._make_way(target)
            except OSError as error:
                if links_unsupported(error):
                    return self._rename_if_absent(temporary, target)
                if not self.clear(os.path.dirname(target)):
                    raise
            else:
                return True
        raise SpoolError(f"cannot publish into {target}: {_REMOVED}")

    def _rename_if_absent(self, temporary: str, target: str) -> bool:
        # Without links the look and the rename are two steps: two workers of one invocation
        # can pass the look together, and then the later result stands.
        if self.fs.exists(target):
            return False
        self.move(temporary, target)
        return True

    def queue_failure(
        self, name: AttemptName, kind: str, message: str, state: State = State.FAILED
    ) -> Outcome:
        """The outcome of an attempt that ended without an answer of its body."""
        if self.clock.age == float("inf"):
            self.sync_clock()  # whoever only asks has no file whose time it reads
        now = self.clock.now()
        return Outcome(
            id=name.invocation_id,
            spool=self.info.id,
            attempt=name.attempt,
            state=state,
            worker="",
            started=now,
            ended=now,
            codec="",
            failure=Failure(kind, message),
        )

    # -- reading ------------------------------------------------------------------------

    def has_outcome(self, invocation_id: str) -> bool:
        """Whether an outcome was published and is still there."""
        paths = self.layout.done(invocation_id), self.layout.kept(invocation_id)
        return any(self.fs.exists(path, fresh=True) for path in paths)

    def is_kept(self, invocation_id: str) -> bool:
        """Whether its client has collected the outcome and keeps it for others."""
        return self.fs.exists(self.layout.kept(invocation_id))

    def renew_outcome(self, invocation_id: str) -> None:
        """Let an outcome expire as if it was published now, if it is there."""
        for path in (self.layout.done(invocation_id), self.layout.kept(invocation_id)):
            with contextlib.suppress(FileNotFoundError):
                self.fs.set_time(path, None)

    def collect(self, invocation_id: str, *, keep: bool) -> Content | None:
        """The client's own first reading of an outcome; None if it is not there.

        It leaves the mailbox, so that the mailbox stays short: removed if nobody else may
        want it, or else moved to ``kept/``, which everybody prefers, this method too. So an
        outcome that a late worker publishes after this is never seen.
        """
        path, kept = self.layout.done(invocation_id), self.layout.kept(invocation_id)
        try:
            data = self.read_file(path)
        except FileNotFoundError:
            return self._collected_before(invocation_id) if keep else None
        except EnvelopeError as error:
            if keep and (first := self._collected_before(invocation_id)) is not None:
                return first
            return self.condemn(invocation_id, path, str(error), keep=keep)
        try:
            if keep:
                return self._keep(path, kept, data)
            self.fs.discard(path)
        except OSError as error:
            # The client has it, and a second reading may find nothing: the error may be about
            # the reply alone. What stays in the mailbox still refuses a later outcome.
            log.info("%s stays in its mailbox: %s", invocation_id, error)
        return data

    def _collected_before(self, invocation_id: str) -> Content | None:
        kept = self.layout.kept(invocation_id)
        try:
            return self._read_if_there(kept)
        except EnvelopeError as error:
            return self.condemn(invocation_id, kept, str(error), keep=True)

    def condemn(
        self, invocation_id: str, damaged: str | Content, reason: str, *, keep: bool
    ) -> Content:
        """Set a damaged outcome aside; returns the failure that takes its place for everybody.

        Only the client that it was for does this, when it collects.

        Args:
            invocation_id: whose outcome it should have been.
            damaged: its path, or its content if it is in no file any more.
            reason: what is wrong with it.
            keep: the failure stays readable for everybody.
        """
        name = self.free_name(invocation_id)
        source = damaged if isinstance(damaged, str) else self._write(damaged)
        self.set_aside(source, reason, name)
        message = (
            f"the outcome of invocation {invocation_id} could not be read: {reason}. "
            f"The file lies in {self.layout.quarantined(name)}; make the call again."
        )
        failure = self.queue_failure(AttemptName(invocation_id, 1), "EnvelopeError", message)
        chunks = envelope.encode(failure, (), self.key)
        if keep:
            self.move(self._write(chunks), self.layout.kept(invocation_id))
        return [b"".join(chunks)]

    def _keep(self, path: str, kept: str, data: Content) -> Content:
        """Move an outcome to where it is kept; returns the one that stands there then.

        By a link, which refuses a name that exists. Between this client's look and its move,
        another handle of it may have collected, and a late worker published: a rename would
        put the later outcome in place of the first.

        Dies after the link: the outcome has two names, and the one in the mailbox expires.
        """
        try:
            self.fs.link(path, kept)
        except (FileExistsError, FileNotFoundError):
            first = self._read_if_there(kept)
            if first is None:
                self.move(path, kept)  # its folder was missing
                return data
            data = first
        except OSError:
            # No links, or a full disk, where a rename still works: then a look must do.
            first = self._read_if_there(kept)
            if first is None:
                self.move(path, kept)
                return data
            data = first
        self.fs.discard(path)
        return data

    def peek(self, invocation_id: str) -> Content | None:
        """An outcome read by anybody, which changes nothing; None if it is not there."""
        # It moves from the one to the other and never back, hence in this order. What lies in
        # both was published by a late worker after the collection.
        done = self._read_if_there(self.layout.done(invocation_id))
        kept = self._read_if_there(self.layout.kept(invocation_id))
        return done if kept is None else kept

    def _read_if_there(self, path: str) -> Content | None:
        try:
            return self.read_file(path, fresh=True)
        except FileNotFoundError:
            return None

    def read_file(self, path: str, *, fresh: bool = False) -> Content:
        """Content of a call, an outcome or a blob.

        Raises:
            EnvelopeError: no regular file, or not as long as it says.
            SpoolVersionError: long, and written by another format version.
        """
        return self.fs.read_content(path, envelope.pieces, fresh=fresh)

    def read_outcome(self, invocation_id: str, data: Content) -> tuple[Outcome, Payload]:
        """Header and payload of an outcome.

        Raises:
            EnvelopeError: damaged, or of another invocation.
            SpoolVersionError: a newer writer's.
        """
        where = self.layout.done(invocation_id)
        outcome, payload = envelope.decode(data, Outcome, where, self.key)
        if (outcome.id, outcome.spool) != (invocation_id, self.info.id):
            raise EnvelopeError(f"{where} holds the outcome of another invocation ({outcome.id})")
        return outcome, payload

    # -- files --------------------------------------------------------------------------

    def move(self, source: str, target: str) -> bool:
        """Rename into a folder that may be missing; False if the source is gone.

        Only for a source that nobody else would take, or where it does not matter who did:
        a lost reply looks like a source that is gone.
        """
        for _ in range(_TRIES):
            try:
                self.fs.rename(source, target)
            except FileNotFoundError:
                if not self.fs.is_there(source):
                    return False
                self._make_way(target)
            except OSError:
                if not self.clear(os.path.dirname(target)):
                    raise
            else:
                return True
        raise SpoolError(f"cannot move to {target}: {_REMOVED}")

    def _make_way(self, target: str) -> None:
        folder = os.path.dirname(target)
        if not self.clear(folder):
            self.fs.make_folders(folder)

    def clear(self, folder: str) -> bool:
        """Set aside a file or link that stands where a folder belongs; False if none does.

        By a link and an unlink, which refuse folders: somebody else may have mended it, and what
        lies in there by now must not be moved away.
        """
        layout = self.layout
        if folder in layout.folders or self.fs.is_folder(folder) is not False:
            return False
        name = self.free_name(folder)
        self._explain(name, f"{folder}: stands where a folder of the spool belongs")
        try:
            self.fs.link(folder, layout.quarantined(name))
        except (FileNotFoundError, PermissionError):
            self.fs.discard(layout.quarantine_reason(name))
            return False
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
            self.fs.unlink(folder)
        log.warning("%s is not a folder, and is set aside", folder)
        return True

    # -- quarantine ---------------------------------------------------------------------

    def free_name(self, path: str) -> str:
        """A name for a file in ``quarantine/`` that nothing there has: its own, or one like it."""
        name = os.fsdecode(os.fsencode(os.path.basename(path))[:_LONGEST_NAME])
        taken = self.layout.quarantined(name), self.layout.quarantine_reason(name)
        if any(self.fs.exists(each) for each in taken):
            return f"{name}.{new_token(6)}"
        return name

    def set_aside(self, path: str, reason: str, name: str | None = None) -> None:
        """Move a file to ``quarantine/`` with its reason beside it.

        Dies in between: the reason is there, and the file still has to be moved.

        Args:
            path: the file.
            reason: what is wrong with it.
            name: from `free_name`, if it was asked for before.
        """
        name = name or self.free_name(path)
        self._explain(name, f"{path}: {reason}")
        target = self.layout.quarantined(name)
        if not self.move(path, target) and not self.fs.exists(target):
            self.fs.discard(self.layout.quarantine_reason(name))  # somebody else was faster

    def _explain(self, name: str, reason: str) -> None:
        text = f"{reason}\n".encode("utf-8", "backslashreplace")  # names can hold any bytes
        self.move(self._write([text]), self.layout.quarantine_reason(name))

    # -- writing ------------------------------------------------------------------------

    def add_file(self, path: str, chunks: Sequence[Buffer]) -> bool:
        """Make a file; False if there is one already, which stays."""
        temporary = self._write(chunks)
        try:
            return self._link(temporary, path)
        finally:
            self.fs.discard(temporary)

    def append(self, path: str, data: bytes) -> None:
        """Add to the end of a file of this process alone, whose folder may be missing, or none.

        The two folders above are looked at each time: unlike a rename, this would write on to what
        is out of the spool if one was a link.
        """
        folder = os.path.dirname(path)
        if self.fs.is_folder(os.path.dirname(folder)) is False:
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", os.path.dirname(folder))
        if not self.fs.is_folder(folder):
            self.clear(folder)
            self.fs.make_folders(folder)
        self.fs.append(path, data)

    def place(self, path: str, chunks: Sequence[Buffer]) -> None:
        """Write a file whose name nothing else has, or no file if this raises an error.

        Dies before the rename: a file in ``tmp/`` expires. Dies after it: it is there.
        """
        temporary = self._write(chunks)
        try:
            self.move(temporary, path)
        except OSError:
            # If it is not there any more it was renamed, and the error is about the reply alone.
            # Only a look can tell: the reply of a removal can be lost too.
            if self.fs.exists(temporary):
                self.fs.discard(temporary)
                raise

    def replace_file(self, path: str, chunks: Sequence[Buffer]) -> None:
        """Put a file in the place of one that only this process writes."""
        temporary = self._write(chunks)
        try:
            self.move(temporary, path)
        except OSError:
            self.fs.discard(temporary)
            raise

    def _write(self, chunks: Sequence[Buffer]) -> str:
        path = self._temporary()
        self.fs.create(path, chunks)
        return path

    def _temporary(self) -> str:
        """A path in ``tmp/`` that nobody else has."""
        return self.layout.tmp(self._owner, next(self._serial))
