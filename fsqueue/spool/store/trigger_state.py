"""What triggers have to remember: events, handled ticks, and which parts have happened."""

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

    from fsqueue.spool.format.records import Call, Outcome
    from fsqueue.spool.store.files import Files

log = logging.getLogger(__name__)

_KIND = "event"
# After a loss of a race, somebody else has made progress: this many in a row are none.
_TRIES = 100


# -- events -----------------------------------------------------------------------------------


def add_event(files: Files, app_id: str, name: EventName, data: bytes) -> None:
    """Make an event known to the workers of an application.

    Dies before the rename: it was not emitted, a file in ``tmp/`` expires. Dies after it: it was.
    """
    files.place(f"{files.layout.events(app_id)}/{name}", seal(files, data))
    files.fs.ring(files.layout.event_bell(app_id))


def add_end(files: Files, call: Call, outcome: Outcome) -> None:
    """Let triggers know that the queue itself ends a call, before its outcome is published.

    Only if the application has workers that look for it: they have made its folder. Whoever ends a
    call may not know the application's code, and so none of its triggers.
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
    """What `add_end` has written.

    Raises:
        EnvelopeError: it is something else.
    """
    try:
        return msgspec.json.decode(data, type=Ended)
    except UNDECODABLE as error:
        raise EnvelopeError(f"the end of a call cannot be read: {error}") from error


def expect_ends(files: Files, app_id: str) -> None:
    """From now on whoever ends a call of the application lets its triggers know."""
    files.make_folders(files.layout.events(app_id))


def event_names(files: Files, app_id: str) -> list[EventName]:
    """Events that are still to be handled."""
    names = files.fs.names(files.layout.events(app_id), fresh=True)
    return [found for found in map(EventName.parse, names) if found is not None]


def read_event(files: Files, app_id: str, name: EventName) -> bytes | None:
    """What an event holds; None if another worker has handled it, or if it is damaged.

    Raises:
        SpoolVersionError: another format version's.
    """
    path = f"{files.layout.events(app_id)}/{name}"
    try:
        return unseal(files, path)
    except FileNotFoundError:
        return None
    except EnvelopeError as error:
        log.error("into quarantine: %s", error)  # noqa: TRY400 - that says it all
        files.set_aside(path, str(error))
        return None


def is_unhandled(files: Files, app_id: str, name: EventName) -> bool:
    """Whether an event is still there."""
    return files.fs.exists(f"{files.layout.events(app_id)}/{name}", fresh=True)


def remove_event(files: Files, app_id: str, name: EventName) -> None:
    """It was handled."""
    files.fs.discard(f"{files.layout.events(app_id)}/{name}")


def seal(files: Files, data: bytes) -> list[Any]:
    """The chunks of a file with a digest, which is keyed in a signed spool."""
    return envelope.seal(_KIND, [data], files.key, ())[1]


def unseal(files: Files, path: str) -> bytes:
    """What such a file holds.

    Raises:
        FileNotFoundError: it is gone.
        EnvelopeError: it is damaged, foreign or may not be read.
        SpoolVersionError: another format version's.
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
    """Up to when a cron trigger's ticks were handled; None if nobody has begun.

    In seconds since the epoch, by the file server's clock. The latest name in the trigger's folder
    says it, so it can only grow.
    """
    return max(_ticks(files, key), default=None)


def set_handled(files: Files, key: str, tick: float) -> None:
    """A cron trigger's ticks were handled up to this one.

    Dies before the new name: the tick is looked at again, and its key is taken. Dies before the old
    ones are gone: the latest one counts, and the next call removes the others.
    """
    folder = files.layout.trigger(key)
    path = f"{folder}/{tick_name(tick)}"
    try:
        files.fs.touch(path)
    except FileNotFoundError:
        files.make_folders(folder)
        files.fs.touch(path)
    for old in _ticks(files, key):
        if old < int(tick):
            files.fs.discard(f"{folder}/{tick_name(old)}")


def _ticks(files: Files, key: str) -> list[int]:
    names = files.fs.names(files.layout.trigger(key), fresh=True)
    return [tick for tick in map(tick_of, names) if tick is not None]


def keep(files: Files, key: str) -> None:
    """Keep what a trigger remembers from expiring."""
    folder = files.layout.trigger(key)
    for name in files.fs.names(folder):
        with contextlib.suppress(FileNotFoundError):
            files.fs.set_time(f"{folder}/{name}", None)


# -- parts ------------------------------------------------------------------------------------


class Round(NamedTuple):
    """A round of a trigger that waits for all its parts: what each part's file says."""

    number: int
    parts: tuple[bytes, ...]


class AllOfState:
    """What has happened of a trigger that waits for all of its parts.

    ``<round>.<part>`` is made by a link, so for each round a part has happened once. A round whose
    parts are all there is over, and what happens then counts for the next one. ``<round>.fired``
    says that its call was published; after that the files of the rounds before are removed.

    Args:
        files: the files of the spool.
        key: of the trigger.
        count: how many parts it has.
    """

    def __init__(self, files: Files, key: str, count: int) -> None:
        self._files, self._count = files, count
        self._folder = files.layout.trigger(key)

    def add(self, part: int, happened: str, data: bytes, wanted: Callable[[], bool]) -> None:
        """A part has happened. The same again changes nothing, until two later rounds are over.

        Dies at any point: it is there or not.

        Who asks whether it is wanted before the look at the rounds could be so slow that another
        worker has meanwhile left it out, as the second of its kind in a round, and a later round
        begun: there it would count.

        Args:
            part: number of the part.
            happened: tells what has happened from all else that can; one line.
            data: what is to be remembered of it.
            wanted: whether nobody else has dealt with it by now; asked after each look.
        """
        content = [f"{happened}\n".encode(), data]
        for _ in range(_TRIES):
            found = self._look()
            number = max((each.round for each in found), default=1)
            if any(self._holds(found, Gathered(n, part), happened) for n in (number, number - 1)):
                return
            if self._is_whole(found, number):
                number += 1
            elif Gathered(number, part) in found:
                return  # it has happened already since the last firing
            if not wanted():
                return
            name = Gathered(number, part)
            self._files.add_file(f"{self._folder}/{name}", seal(self._files, b"".join(content)))
            if not any(each.part is None and each.round > number for each in self._look()):
                return
            # Its round was over meanwhile, and the files of it removed: it counts for a later one.
            self._files.fs.discard(f"{self._folder}/{name}")

    def fire(self, publish: Callable[[Round], object]) -> None:
        """Publish for each round that is whole and was not fired.

        Dies before the mark: it is published again, for the key of the same round.
        """
        found = self._look()
        for number in sorted({each.round for each in found}):
            if not self._is_whole(found, number) or Gathered(number, None) in found:
                continue
            parts = self._read(number)
            if parts is None:
                continue
            publish(Round(number, parts))
            self._files.fs.touch(f"{self._folder}/{Gathered(number, None)}")
            self._remove_before(number)

    def _remove_before(self, number: int) -> None:
        old = [each for each in self._look() if each.round < number]
        # The marks last: a round without one, and whole, would be published again.
        for each in sorted(old, key=lambda name: name.part is None):
            self._files.fs.discard(f"{self._folder}/{each}")

    def _look(self) -> set[Gathered]:
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
                return None  # it was fired, and a later one too
            except EnvelopeError as error:
                log.error("into quarantine, and to happen again: %s", error)  # noqa: TRY400
                self._files.set_aside(path, str(error))
                return None
        return tuple(found)
