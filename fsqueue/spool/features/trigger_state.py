"""The state of triggers: unhandled events, handled ticks, and completed parts of `all_of`."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import app_of
from fsqueue.spool.format.records import UNDECODABLE, Ended
from fsqueue.spool.format.trigger_names import ENDED, EventName, Gathered, tick_name, tick_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.files.files import Files
    from fsqueue.spool.format.records import Call, Outcome

log: logging.Logger = logging.getLogger(__name__)

_KIND = "event"
# Losing a race means that another process made progress. Losing this many in a row is an error.
_TRIES = 100


# -- events -----------------------------------------------------------------------------------


def add_event(files: Files, app_id: str, name: EventName, data: bytes) -> None:
    """Emit an event to the workers of an application.

    Dies before the rename: the event was not emitted, and a file in ``tmp/`` expires. Dies after
    it: the event was emitted.
    """
    files.place(f"{files.layout.events(app_id)}/{name}", seal(files, data))
    files.fs.ring(files.layout.event_bell(app_id))


def add_end(files: Files, call: Call, outcome: Outcome) -> None:
    """Add an event for a call that the queue itself ends, before its outcome is published.

    Nothing is written unless the application's workers have created the folder for these events.
    The process that ends a call may not have the application's code, so it cannot know its
    triggers.
    """
    app_id = app_of(call.queue)
    if outcome.failure is None or not files.fs.exists(files.layout.events(app_id)):
        return
    ended = Ended(
        id=call.id,
        task=call.task,
        members=call.members,
        state=outcome.state,
        failure=outcome.failure,
    )
    add_event(files, app_id, EventName(ENDED, call.id), msgspec.json.encode(ended))


def decode_end(data: bytes) -> Ended:
    """Decode an event that `add_end` has written.

    Raises:
        EnvelopeError: it is something else.
    """
    try:
        return msgspec.json.decode(data, type=Ended)
    except UNDECODABLE as error:
        raise EnvelopeError(f"the end of a call cannot be read: {error}") from error


def expect_ends(files: Files, app_id: str) -> None:
    """Ask every process that ends one of the application's calls to add an event for it."""
    files.make_folders(files.layout.events(app_id))


def event_names(files: Files, app_id: str) -> list[EventName]:
    """The unhandled events."""
    names = files.fs.names(files.layout.events(app_id), fresh=True)
    return [found for found in map(EventName.parse, names) if found is not None]


def read_event(files: Files, app_id: str, name: EventName) -> bytes | None:
    """The payload of an event; None if another worker has handled it or it is damaged.

    Raises:
        SpoolVersionError: another version wrote it.
    """
    path = f"{files.layout.events(app_id)}/{name}"
    try:
        return unseal(files, path)
    except FileNotFoundError:
        return None
    except EnvelopeError as error:
        log.error("set aside: %s", error)  # noqa: TRY400 - the message is complete
        files.set_aside(path, str(error))
        return None


def is_unhandled(files: Files, app_id: str, name: EventName) -> bool:
    """Whether an event is still unhandled."""
    return files.fs.exists(f"{files.layout.events(app_id)}/{name}", fresh=True)


def remove_event(files: Files, app_id: str, name: EventName) -> None:
    """Remove a handled event."""
    files.fs.discard(f"{files.layout.events(app_id)}/{name}")


def seal(files: Files, data: bytes) -> list[Any]:
    """Encode data as a file with a digest, which is signed in a signed spool."""
    return envelope.seal(_KIND, [data], files.key, ())[1]


def unseal(files: Files, path: str) -> bytes:
    """The content of a file that `seal` encoded.

    Raises:
        FileNotFoundError: it is gone.
        EnvelopeError: it is damaged or foreign, or may not be read.
        SpoolVersionError: another version wrote it.
    """
    try:
        content = files.read_file(path, fresh=True)
    except PermissionError as error:
        raise EnvelopeError(f"{path} may not be read: {error.strerror}") from error
    found = files.unseal(content, path)
    if found.kind != _KIND:
        raise EnvelopeError(f"{path} holds a {found.kind!r}, not a {_KIND!r}")
    return bytes(found.payload.data)


# -- ticks ------------------------------------------------------------------------------------


def handled_until(files: Files, key: str) -> int | None:
    """The time up to which a cron trigger's ticks were handled; None if no tick was.

    In seconds since the epoch, by the file server's clock. It is the latest name in the trigger's
    folder, so it can only grow.
    """
    return max(_ticks(files, key), default=None)


def set_handled(files: Files, key: str, tick: float) -> None:
    """Record that a cron trigger's ticks were handled up to and including this one.

    Dies before the new name is made: the tick is tried again, and its key is taken. Dies before the
    old names are removed: the latest one counts, and the next call removes the others.
    """
    folder = files.layout.trigger(key)
    path = f"{folder}/{tick_name(tick)}"
    files.touch(path)
    for old in _ticks(files, key):
        if old < int(tick):
            files.fs.discard(f"{folder}/{tick_name(old)}")


def _ticks(files: Files, key: str) -> list[int]:
    names = files.fs.names(files.layout.trigger(key), fresh=True)
    return [tick for tick in map(tick_of, names) if tick is not None]


def keep(files: Files, key: str) -> None:
    """Keep a trigger's state from expiring."""
    folder = files.layout.trigger(key)
    for name in files.fs.names(folder):
        with contextlib.suppress(FileNotFoundError):
            files.fs.set_time(f"{folder}/{name}", None)


# -- parts ------------------------------------------------------------------------------------


class Round(NamedTuple):
    """A completed round of an `all_of` trigger, with the content of each part's file."""

    number: int
    parts: tuple[bytes, ...]


class AllOfState:
    """The state of an `all_of` trigger: which of its parts have happened.

    ``<round>.<part>`` is created by a link, so each part counts once per round. A round with all
    its parts is complete, and later occurrences count for the next round. ``<round>.fired`` records
    that the round's call was published. Then the files of earlier rounds are removed.

    Args:
        key: the trigger's key.
        count: the trigger's number of parts.
    """

    def __init__(self, files: Files, key: str, count: int) -> None:
        self._files, self._count = files, count
        self._folder = files.layout.trigger(key)

    def add(self, part: int, happened: str, data: bytes, wanted: Callable[[], bool]) -> None:
        """Record that a part has happened. Repeating this has no effect for the next two rounds.

        Dies at any point: the record is there, or it is not.

        `wanted` is called after the rounds were listed. Otherwise, after another worker has dropped
        an occurrence as the second of its kind in a round, a slow worker could add it to a round
        that has started since.

        Args:
            part: the part's number.
            happened: identifies the occurrence, in one line.
            data: what to store for it.
            wanted: returns False if another worker has handled it; called after each listing.
        """
        content = [f"{happened}\n".encode(), data]
        for _ in range(_TRIES):
            found = self._list()
            number = max((each.round for each in found), default=1)
            if any(self._holds(found, Gathered(n, part), happened) for n in (number, number - 1)):
                return
            if self._is_whole(found, number):
                number += 1
            elif Gathered(number, part) in found:
                return  # it has already happened since the last firing
            if not wanted():
                return
            name = Gathered(number, part)
            self._files.add_file(f"{self._folder}/{name}", seal(self._files, b"".join(content)))
            if not any(each.part is None and each.round > number for each in self._list()):
                return
            # Its round was meanwhile completed and removed, so it counts for a later round.
            self._files.fs.discard(f"{self._folder}/{name}")

    def fire(self, publish: Callable[[Round], object]) -> None:
        """Publish a call for each complete round that has not fired.

        Dies before the mark is made: the call is published again, under the same round's key.
        """
        found = self._list()
        for number in sorted({each.round for each in found}):
            if not self._is_whole(found, number) or Gathered(number, None) in found:
                continue
            parts = self._read(number)
            if parts is None:
                continue
            publish(Round(number, parts))
            self._files.touch(f"{self._folder}/{Gathered(number, None)}")
            self._remove_before(number)

    def _remove_before(self, number: int) -> None:
        old = [each for each in self._list() if each.round < number]
        # The marks go last: a complete round without a mark would be published again.
        for each in sorted(old, key=lambda name: name.part is None):
            self._files.fs.discard(f"{self._folder}/{each}")

    def _list(self) -> set[Gathered]:
        names = map(Gathered.parse, self._files.fs.names(self._folder, fresh=True))
        return {name for name in names if name is not None}

    def _is_whole(self, found: set[Gathered], number: int) -> bool:
        return all(Gathered(number, part) in found for part in range(self._count))

    def _holds(self, found: set[Gathered], name: Gathered, happened: str) -> bool:
        if name not in found:
            return False
        try:
            first = unseal(self._files, f"{self._folder}/{name}").partition(b"\n")[0]
            return first == happened.encode()
        except (FileNotFoundError, EnvelopeError):
            return False

    def _read(self, number: int) -> tuple[bytes, ...] | None:
        found = []
        for part in range(self._count):
            path = f"{self._folder}/{Gathered(number, part)}"
            try:
                found.append(unseal(self._files, path).partition(b"\n")[2])
            except FileNotFoundError:
                return None  # it has fired, and so has a later one
            except EnvelopeError as error:
                log.error("into quarantine, and to happen again: %s", error)  # noqa: TRY400
                self._files.set_aside(path, str(error))
                return None
        return tuple(found)
