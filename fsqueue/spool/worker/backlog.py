"""Finds pending attempts to claim, at a cost that does not grow with their number."""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING, Protocol

from fsqueue.spool.format.names import PAUSED, AttemptName, Slot, split_profile
from fsqueue.spool.format.resources import NONE, covers, needs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fsqueue.spool.format.resources import Amounts
    from fsqueue.spool.store.store import Store

log = logging.getLogger(__name__)

# Listing stops there: a slot of any size costs the same.
_BATCH = 500
# Candidates older than this are forgotten, so that a call of higher priority waits no longer.
_FRESH_FOR = 1.0
# Each name that somebody else was faster with tells that the list is out of date: so much of it is
# still worth a try. With all of it, two workers lose every second rename, and eight five of six.
_KEPT_AFTER_LOSS = 0.25
# Publishers use a slot for a second, which begins `client.IMMEDIATE_SLACK` after it was due. To
# remove it while it is in use costs the publisher a `mkdir`, no more.
_IN_USE_FOR = 2.5
# So often an idle worker with resources finds nothing before it saves looks.
_LOOKS_AT_BOTH = 8
# A call that has been due for so many seconds is passed by none that takes what it needs.
_PATIENCE = 30.0


class Backlog:
    """The pending attempts of one queue, in order of service, seen by one worker.

    Within a second the order is random, so that many claimants seldom try the same name.

    Args:
        store: the spool.
        queue: the queue's folder name.
        passing: remove the folder when it is empty.

    Attributes:
        paused: nobody is to claim from it, as was last seen.
    """

    def __init__(self, store: Store, queue: str, *, passing: bool = False) -> None:
        self._store = store
        self._queue = queue
        self._passing = passing
        self.paused = False
        self._mutex = threading.Lock()
        self._candidates: list[str] = []
        self._listed = float("-inf")
        # Due slots, the first one last; those before it have no candidates.
        self._slots: list[str] = []
        self._looked = float("-inf")
        self._next_due = float("inf")
        self._unreadable: set[str] = set()
        self._last: set[str] = set()

    def next(self) -> str | None:
        """Path of an attempt to try; None if nothing is due."""
        with self._mutex:
            self._refresh()
            return self._candidates.pop() if self._candidates else None

    def peek(self) -> str:
        """The slot of what `next` would give; empty if nothing is due."""
        with self._mutex:
            self._refresh()
            return self._candidates[-1].rsplit("/", 2)[1] if self._candidates else ""

    def _refresh(self) -> None:
        now = self._store.fs.monotonic()
        if not self._candidates or now - self._listed > _FRESH_FOR:
            self._candidates = self._list(now)
            self._listed = now

    def missed(self) -> None:
        """Somebody else was faster with what `next` gave."""
        with self._mutex:
            del self._candidates[int(len(self._candidates) * _KEPT_AFTER_LOSS) :]

    @property
    def next_due(self) -> float:
        """When the next attempt is due that was not yet, by this host's steady clock."""
        return self._next_due

    def skip(self, name: AttemptName) -> None:
        """Leave an attempt alone from now on: another version of fsqueue can read it."""
        self._unreadable.add(str(name))

    def defer(self, origin: str) -> None:
        """Try an attempt after all others from now on: it cannot be moved from its folder."""
        self._last.add(origin)

    def _list(self, now: float) -> list[str]:
        # There may be as many slots as calls, if they were published slowly: to list them for
        # each slot that is emptied would cost more the larger the backlog is.
        if self._slots and now - self._looked <= _FRESH_FOR:
            found = self._list_first()
            if found:
                return found
        self._slots = self._due_slots()
        self._looked = now
        return self._list_first()

    def _due_slots(self) -> list[str]:
        fs, layout = self._store.fs, self._store.layout
        now = self._store.clock.now()
        self._next_due = float("inf")
        try:
            slots = fs.names(layout.queue(self._queue), fresh=True, strict=True)
        except PermissionError as error:
            self._store.files.pass_over(layout.queue(self._queue), error)
            return []
        self.paused = PAUSED in slots
        if self.paused:
            return []
        if not slots and self._passing:
            fs.rmdir(layout.queue(self._queue))
        due_slots = []
        for name in slots:
            slot = Slot.parse(name)
            if slot is None:
                continue
            if slot.due <= now:
                due_slots.append(name)
            else:
                due = fs.monotonic() + slot.due - now
                self._next_due = min(self._next_due, due)
        # Those of one second, of which there are many if much is published, in any order: so many
        # claimants spread over them.
        random.shuffle(due_slots)
        return sorted(due_slots, key=_second, reverse=True)

    def _list_first(self) -> list[str]:
        """Candidates of the first slot that has any; those before it are left out from now on."""
        deferred: list[str] = []
        oldest_in_use = self._store.clock.now() - _IN_USE_FOR
        while self._slots:
            folder = self._store.layout.slot(self._queue, self._slots[-1])
            names = self._names(folder)
            wanted = [f"{folder}/{name}" for name in names if name not in self._unreadable]
            deferred += [origin for origin in wanted if origin in self._last]
            wanted = [origin for origin in wanted if origin not in self._last]
            if wanted:
                random.shuffle(wanted)
                return wanted
            slot = Slot.parse(self._slots.pop())
            if not names and slot is not None and slot.due < oldest_in_use:
                self._store.fs.rmdir(folder)
        return deferred

    def _names(self, folder: str) -> list[str]:
        """Names in a slot, enough of them that some are left without those to pass over."""
        limit = _BATCH + len(self._unreadable) + len(self._last)
        try:
            return self._store.fs.names(folder, limit=limit, fresh=True, strict=True)
        except NotADirectoryError:
            self._store.files.clear(folder)
        except PermissionError as error:
            if folder not in self._last:
                self._last.add(folder)
                log.warning("no calls can be taken from there: %s", error)
        return []


def _second(slot: str) -> str:
    """A slot's priority and second, by its name, which ends with milliseconds."""
    return slot[:-3]


class Room(Protocol):
    """The resources of a worker."""

    total: Amounts
    """What it has, whoever holds it now."""

    def has(self, needed: Amounts) -> bool:
        """Whether so much is free now."""


class Needs:
    """Which folders hold calls that need what a worker has.

    Args:
        store: the spool.
        room: the worker's resources.
    """

    def __init__(self, store: Store, room: Room) -> None:
        self._store = store
        self.room = room
        self._mutex = threading.Lock()
        self._found: dict[str, dict[str, Amounts]] = {}
        self._looked = float("-inf")

    def news(self) -> None:
        """Something was published: look at once."""
        self._looked = float("-inf")

    def folders(self, queue: str) -> Mapping[str, Amounts]:
        """The folders of a queue and what their calls need."""
        with self._mutex:
            now = self._store.fs.monotonic()
            if now - self._looked > _FRESH_FOR:
                self._looked = now
                self._found = self._look()
            return self._found.get(queue, {})

    def _look(self) -> dict[str, dict[str, Amounts]]:
        found: dict[str, dict[str, Amounts]] = {}
        for folder in self._store.fs.names(self._store.layout.pending_folder, fresh=True):
            queue, profile = split_profile(folder)
            needed = needs_of(profile) if profile else None
            if needed and covers(self.room.total, needed):
                found.setdefault(queue, {})[folder] = needed
        return found


class NeedyBacklog:
    """The pending attempts of one queue, those that need resources among them.

    The order of service holds across all of them, but for calls for which there is no room now:
    others pass them for a while, and then leave them what they need.

    Args:
        store: the spool.
        queue: the queue's folder name.
        needs: finds the folders of calls that need resources.
    """

    def __init__(self, store: Store, queue: str, needs: Needs) -> None:
        self._store, self._queue, self._needs = store, queue, needs
        self._mutex = threading.Lock()
        self._plain = Backlog(store, queue)
        self._needy: dict[str, tuple[Backlog, Amounts]] = {}
        self._empty_looks = 0

    @property
    def _all(self) -> list[Backlog]:
        return [self._plain, *(backlog for backlog, _ in list(self._needy.values()))]

    def next(self) -> str | None:
        """Path of an attempt to try; None if nothing is due for which there is room."""
        with self._mutex:
            # On a network filesystem an idle worker looks at one of the two only, in turn: so it
            # asks the file server no more often than one without resources.
            in_turn = self._store.fs.remote and self._empty_looks > _LOOKS_AT_BOTH
            odd = self._empty_looks % 2 == 1
            origin = self._next(plain=not in_turn or not odd, needy=not in_turn or odd)
            self._empty_looks = 0 if origin else self._empty_looks + 1
            return origin

    def _next(self, *, plain: bool, needy: bool) -> str | None:
        kept: set[str] = set()
        for slot, _, backlog, needed in self._heads(plain=plain, needy=needy):
            if kept.isdisjoint(needed):
                if self._needs.room.has(needed):
                    return backlog.next()
                if self._waits_long(slot):
                    kept.update(needed)
        return None

    def _heads(self, *, plain: bool, needy: bool) -> list[tuple[str, str, Backlog, Amounts]]:
        """What comes first in each folder, in order of service: slot, folder and need."""
        members = [("", self._plain, NONE)] if plain else []
        first = self._plain.peek() if plain else ""
        if needy and not self._plain.paused:
            self._discover()
            members += [(folder, *each) for folder, each in self._needy.items()]
        heads = [
            (slot, folder, backlog, needed)
            for folder, backlog, needed in members
            if (slot := backlog.peek() if folder else first)
        ]
        return sorted(heads, key=lambda head: head[:2])

    def _discover(self) -> None:
        found = self._needs.folders(self._queue)
        known = self._needy
        self._needy = {
            folder: known.get(folder) or (Backlog(self._store, folder, passing=True), needed)
            for folder, needed in found.items()
        }

    def _waits_long(self, slot: str) -> bool:
        parsed = Slot.parse(slot)
        return parsed is not None and self._store.clock.now() - parsed.due > _PATIENCE

    def missed(self) -> None:
        """Somebody else was faster with what `next` gave."""
        for backlog in self._all:
            backlog.missed()

    @property
    def next_due(self) -> float:
        """When the next attempt is due that was not yet, by this host's steady clock."""
        times = [self._plain.next_due]
        if not self._plain.paused:
            # Those for which there is no room are looked at when there is.
            needy = list(self._needy.values())
            times += [each.next_due for each, needed in needy if self._needs.room.has(needed)]
        return min(times)

    def defer(self, origin: str) -> None:
        """Try an attempt after all others from now on: it cannot be moved from its folder."""
        for backlog in self._all:
            backlog.defer(origin)

    def skip(self, name: AttemptName) -> None:
        """Leave an attempt alone from now on: another version of fsqueue can read it."""
        for backlog in self._all:
            backlog.skip(name)


class Backlogs:
    """The pending attempts of several queues: one queue after another, or by weight.

    Args:
        store: the spool.
        weights: how often each queue comes first, compared with the others; in this order they
            are served one after another if not `weighted`.
        weighted: draw which queue comes first, anew for each attempt.
        room: of a worker with resources, which takes calls that need some.
    """

    def __init__(
        self,
        store: Store,
        weights: Mapping[str, float],
        *,
        weighted: bool,
        room: Room | None = None,
    ) -> None:
        self._needs = None if room is None else Needs(store, room)
        self._backlogs: dict[str, Backlog | NeedyBacklog] = {
            queue: Backlog(store, queue)
            if self._needs is None
            else NeedyBacklog(store, queue, self._needs)
            for queue in weights
        }
        self._weights = weights
        self._weighted = weighted

    @property
    def queues(self) -> tuple[str, ...]:
        """Folder names of the queues."""
        return tuple(self._backlogs)

    def __iter__(self) -> Iterator[str]:
        """Paths of attempts to try, until nothing is due; to go on is to say that one was lost."""
        for queue in self._order():
            backlog = self._backlogs[queue]
            while (origin := backlog.next()) is not None:
                yield origin
                backlog.missed()

    def _order(self) -> Iterable[str]:
        if not self._weighted:
            return self._backlogs
        # Exponential keys: each queue comes first with a chance in proportion to its weight
        # (Efraimidis and Spirakis, 2006).
        keys = {queue: random.expovariate(weight) for queue, weight in self._weights.items()}
        return sorted(keys, key=keys.__getitem__)

    @property
    def next_due(self) -> float:
        """When the next attempt is due that was not yet, by this host's steady clock."""
        return min(backlog.next_due for backlog in self._backlogs.values())

    def news(self) -> None:
        """A bell has rung."""
        if self._needs is not None:
            self._needs.news()

    def defer(self, origin: str) -> None:
        """Try an attempt after all others of its queue: it cannot be claimed."""
        for backlog in self._backlogs.values():
            backlog.defer(origin)

    def skip(self, name: AttemptName) -> None:
        """Leave an attempt alone from now on: another version of fsqueue can read it."""
        for backlog in self._backlogs.values():
            backlog.skip(name)
