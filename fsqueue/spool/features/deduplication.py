"""Deduplication: publishes at most one pending call per key.

Concurrent publishers with the same key agree on one call; the others get its id.

Entries, ``once/<key>/<n>``, record the calls under a key. An entry says where its call was written
(in ``tmp/``) and where it will be pending. The entry is linked before the call is renamed from the
first place to the second, and any publisher that finds the entry may do that rename. So if a
publisher dies in between, the next one makes its call pending.

A key allows *one pending call*, counted from its publication to its first claim. Once a call was
claimed, cancelled or withdrawn, its key is free, even if the call becomes pending again: after a
requeue or a retry its body has already started. A call that waits for a concurrency limit counts as
pending, except for the moment in which a worker finds out that it has to wait.

The next call under a free key is entry ``n + 1``. It is valid if it is the newest entry after its
link, and entry ``n`` is there. So a publisher with an outdated listing cannot reuse a number, since
only expiry removes the newest entry. A publisher whose entry is invalid takes its call back before
it removes the entry. Taking back is a rename, so either the publisher has the call, or the call is
pending.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fsqueue.errors import EnvelopeError, SpoolError
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import (
    AttemptName,
    is_entry_name,
    is_key_name,
    is_queue_name,
    is_slot_name,
    is_temporary_name,
    lane_limit,
)
from fsqueue.spool.format.records import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.features.limits import Limits
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.format.layout import Layout
    from fsqueue.spool.format.records import Call

log: logging.Logger = logging.getLogger(__name__)

_KIND = "once"
_TRIES = 100


class Key(NamedTuple):
    """A deduplication key.

    Attributes:
        name: 32 hexadecimal digits, such as a digest of application, task and some arguments.
        content: distinguishes calls with the same key, such as a digest of all arguments; may be
            empty.
    """

    name: str
    content: str = ""


class Published(NamedTuple):
    """The pending call under a key."""

    invocation_id: str
    path: str
    """Where it is or was pending."""
    content: str
    """The content of its `Key`."""
    mine: bool
    """True if this is the caller's own call, False if it reuses an earlier one."""


class Entry(msgspec.Struct, frozen=True):
    """The content of ``once/<key>/<n>``."""

    key: str
    id: str
    temporary: str
    queue: str
    slot: str
    content: str
    lanes: tuple[str, ...] = ()
    """The concurrency limits for which it may wait."""


_decode = msgspec.json.Decoder(Entry).decode


class _Newest(NamedTuple):
    """The newest entry under a key."""

    pending: Published | None
    """Its call, if pending."""
    number: int
    """The number of the entry; 0 if there is none."""
    damage: str = ""
    """Why the entry cannot be read."""


_NO_ENTRY = _Newest(None, 0)


class Deduplication:
    """Publishes calls with deduplication keys.

    Args:
        limits: where a pending call may wait for its turn.
    """

    def __init__(self, files: Files, limits: Limits) -> None:
        self._files, self._fs, self._layout = files, files.fs, files.layout
        self._limits = limits

    def publish(
        self,
        key: Key,
        call: Call,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer] = (),
    ) -> Published:
        """Make a call pending unless one already is under this key; returns the pending call.

        Dies before the link: the call was not accepted, and files in ``tmp/`` expire. Dies after
        it: the next publisher with this key makes the call pending, unless it has expired. Dies
        after the rename: the call is pending.

        Lost reply of the link: the entry's file has two names. Lost reply of the rename: the call
        is pending, as if another publisher had helped.

        Raises:
            OSError: the shared directory did not take the call.
            SpoolVersionError: another version wrote the entry under this key.
        """
        for _ in range(_TRIES):
            newest = self._newest(key)
            if newest.pending is not None:
                return newest.pending
            chunks = envelope.encode(call, payload, self._files.key, buffers)
            if self._is_published(key, newest, call, chunks):
                return Published(call.id, _pending(self._layout, call), key.content, mine=True)
        raise SpoolError(
            f"cannot publish under {self._layout.once(key.name)}: other publishers were faster "
            "each time. Check what is in that folder, and remove what does not belong there."
        )

    def pending(self, key: Key) -> Published | None:
        """The pending call under a key; completes the publication of a dead publisher first.

        Raises:
            SpoolVersionError: another version wrote the entry under this key.
        """
        return self._newest(key).pending

    def _newest(self, key: Key) -> _Newest:
        numbers = self._numbers(key)
        if not numbers:
            return _NO_ENTRY
        number = numbers[-1]
        try:
            entry = self._read_entry(key, number)
        except FileNotFoundError:  # it has just expired, so the number is invalid
            return _Newest(None, number)
        except EnvelopeError as error:
            return _Newest(None, number, str(error))
        pending, temporary = self._places(entry)
        found = Published(entry.id, pending, entry.content, mine=False)
        if self._fs.exists(pending, fresh=True):
            return _Newest(found, number)
        if _counts(number, numbers) and self._fs.exists(temporary, fresh=True):
            self._files.move(temporary, pending)
        if self._waits(entry):
            return _Newest(found, number)
        # Another publisher was faster, or a reply was lost; or the call is claimed, or gone.
        return _Newest(found if self._fs.exists(pending, fresh=True) else None, number)

    def _waits(self, entry: Entry) -> bool:
        """Whether a call waits for a concurrency limit, and so will return to its slot."""
        name = f"{entry.id}.1"
        return any(
            name in self._fs.names(folder, fresh=True)
            for lane in entry.lanes
            for waiting, folder in self._limits.waiting_folders(lane)
            if (waiting.slot, waiting.queue) == (entry.slot, entry.queue)
        )

    def _places(self, entry: Entry) -> tuple[str, str]:
        """The path where a call will be pending, and the path where it was written."""
        folder = self._layout.slot(entry.queue, entry.slot)
        return f"{folder}/{entry.id}.1", f"{self._layout.tmp_folder}/{entry.temporary}"

    def _is_published(
        self, key: Key, newest: _Newest, call: Call, chunks: Sequence[Buffer]
    ) -> bool:
        """Make a call pending; False if another publisher was faster."""
        with self._files.temporary.file(chunks) as temporary:
            return self._is_published_from(temporary, key, newest, call)

    def _is_published_from(self, temporary: str, key: Key, newest: _Newest, call: Call) -> bool:
        number, entered = newest.number + 1, False
        try:
            entered = self._enter(key, number, call, temporary)
            if entered and _counts(number, self._numbers(key)):
                self._files.move(
                    temporary, _pending(self._layout, call)
                )  # False: another one helped
                self._remove_older(key, newest)
                return True
        except OSError:
            if self._take_back(temporary):
                raise
            return True
        if not self._take_back(temporary):
            return True
        if entered:
            # After its call, which another publisher might have made pending. An entry that stays
            # is invalid.
            with contextlib.suppress(OSError):
                self._fs.discard(self._layout.once_entry(key.name, number))
        return False

    def _enter(self, key: Key, number: int, call: Call, temporary: str) -> bool:
        """Add an entry; False if another publisher was faster."""
        name = os.path.basename(temporary)
        entry = Entry(key.name, call.id, name, call.queue, call.slot, key.content, call.lanes)
        _, chunks = envelope.seal(_KIND, [msgspec.json.encode(entry)], self._files.key, ())
        return self._files.add_file(self._layout.once_entry(key.name, number), chunks)

    def _take_back(self, temporary: str) -> bool:
        """Remove a call that is not pending yet; False if another publisher has made it pending.

        It is first renamed to a name that is in no entry. Dies after that: the entry is invalid.
        Lost reply: the new name is there.
        """
        with self._files.temporary.file() as taken:
            try:
                self._fs.rename(temporary, taken)
            except FileNotFoundError:
                if not self._fs.exists(taken, fresh=True):
                    return False
            self._fs.discard(taken)
        return True

    def _remove_older(self, key: Key, newest: _Newest) -> None:
        """Remove all entries but the newest one; after an error, the next publisher does it."""
        try:
            if newest.damage:
                path = self._layout.once_entry(key.name, newest.number)
                self._files.set_aside(
                    path, newest.damage, self._files.free_name(f"{key.name}.{newest.number}")
                )
            for number in self._numbers(key) if newest.number else ():
                # Keep this call's entry even if it is no longer the newest: the next publisher's
                # entry is valid only while its predecessor exists.
                if number <= newest.number:
                    self._fs.discard(self._layout.once_entry(key.name, number))
        except (OSError, SpoolError) as error:
            log.info("cannot remove old entries of %s: %s", self._layout.once(key.name), error)

    def expire_entries(self, ttl: float) -> int:
        """Remove the entries older than `ttl` seconds whose calls are no longer pending.

        A publisher that has just read such an entry as the newest starts over. Returns how many
        entries were removed.
        """
        removed = 0
        for name in filter(is_key_name, self._fs.names(self._layout.once_folder)):
            key = Key(name)
            for number in self._numbers_seen(key):
                path = self._layout.once_entry(name, number)
                try:
                    if self._files.clock.now() - self._fs.modified(path) > ttl and not self._lives(
                        key, number
                    ):
                        self._fs.discard(path)
                        removed += 1
                except (OSError, SpoolError) as error:
                    log.info("cannot expire %s: %s", path, error)
            with contextlib.suppress(OSError):
                self._fs.rmdir(self._layout.once(name))
        return removed

    def _lives(self, key: Key, number: int) -> bool:
        try:
            entry = self._read_entry(key, number)
        except (EnvelopeError, FileNotFoundError):
            return False
        places = self._places(entry)
        return any(self._fs.exists(place, fresh=True) for place in places) or self._waits(entry)

    def _numbers_seen(self, key: Key) -> list[int]:
        return sorted(
            int(n) for n in self._files.listed(self._layout.once(key.name)) if is_entry_name(n)
        )

    def _numbers(self, key: Key) -> list[int]:
        names = self._fs.names(self._layout.once(key.name), fresh=True)
        return sorted(int(name) for name in names if is_entry_name(name))

    def _read_entry(self, key: Key, number: int) -> Entry:
        path = self._layout.once_entry(key.name, number)
        found = self._files.unseal(self._files.read_file(path), path)
        try:
            entry = _decode(found.payload.data)
        except UNDECODABLE as error:
            raise EnvelopeError(f"{path} has an unreadable header: {error}") from error
        if found.kind != _KIND or entry.key != key.name or not _is_sane(entry):
            raise EnvelopeError(f"{path} is not an entry of this key")
        return entry


def _counts(number: int, numbers: Sequence[int]) -> bool:
    """Whether an entry is valid: it is the newest, and its predecessor is still there."""
    return numbers[-1:] == [number] and (number - 1 in numbers or numbers == [1])


def _pending(layout: Layout, call: Call) -> str:
    return f"{layout.slot(call.queue, call.slot)}/{call.id}.1"


def _is_sane(entry: Entry) -> bool:
    """Whether the names in an entry are well formed, so that no path points outside the spool."""
    return (
        AttemptName.parse(f"{entry.id}.1") is not None
        and is_temporary_name(entry.temporary)
        and is_queue_name(entry.queue)
        and is_slot_name(entry.slot)
        and all(map(lane_limit, entry.lanes))
    )
