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

# A listing stops after this many names, so a slot of any size costs the same.
_BATCH = 500
# Seconds after which candidates are dropped: a call of higher priority waits no longer than that.
_FRESH_FOR = 1.0
# A lost race shows that the list is out of date, so only this share of it is kept. If all of it
# were kept, two workers would lose every second rename, and eight would lose five of six.
_KEPT_AFTER_LOSS = 0.25
# Publishers use a slot for one second, which begins `schedule.IMMEDIATE_SLACK` after it was due.
# Removing a slot that is in use costs its publisher a `mkdir` and nothing else.
_IN_USE_FOR = 2.5
# After this many empty searches, an idle worker with resources lists fewer folders.
_FULL_SEARCHES = 8
# After this many seconds, no other call may take the resources that a waiting call needs.
_PATIENCE = 30.0


class Unclaimable:
    """Attempts that a worker does not claim now, in any of its queues."""

    def __init__(self) -> None:
        self.unreadable: set[str] = set()
        """Names of attempts that only another version of fsqueue can read."""
        self.last: set[str] = set()
        """Paths of attempts and folders that cannot be moved: they are tried after all others."""


class Backlog:
    """The pending attempts of one folder of a queue, in order of service, as one worker sees them.

    Within one second the order is random, so that workers seldom try the same name.

    Args:
        store: the spool.
        queue: the folder's name.
        unclaimable: attempts that the worker does not claim now.
        temporary: remove the folder when it is empty.

    Attributes:
        paused: whether the queue was paused when it was last listed.
    """

    def __init__(
        self,
        store: Store,
        queue: str,
        unclaimable: Unclaimable | None = None,
        *,
        temporary: bool = False,
    ) -> None:
        self._store = store
        self._queue = queue
        self._temporary = temporary
        self.paused = False
        self._mutex = threading.Lock()
        self._candidates: list[str] = []
        self._candidates_listed = float("-inf")
        # Due slots in reverse order; slots that had no candidates have been dropped.
        self._slots: list[str] = []
        self._slots_listed = float("-inf")
        self._next_due = float("inf")
        self._unclaimable = unclaimable or Unclaimable()

    def next(self) -> str | None:
        """Path of an attempt to try; None if nothing is due."""
        with self._mutex:
            self._refresh()
            return self._candidates.pop() if self._candidates else None

    def peek(self) -> str:
        """The slot of the attempt that `next` would return; empty if nothing is due."""
        with self._mutex:
            self._refresh()
            return self._candidates[-1].rsplit("/", 2)[1] if self._candidates else ""

    def _refresh(self) -> None:
        now = self._store.fs.monotonic()
        if not self._candidates or now - self._candidates_listed > _FRESH_FOR:
            self._candidates = self._list(now)
            self._candidates_listed = now

    def missed(self) -> None:
        """Record that another worker claimed what `next` returned."""
        with self._mutex:
            del self._candidates[int(len(self._candidates) * _KEPT_AFTER_LOSS) :]

    @property
    def next_due(self) -> float:
        """When the next delayed attempt is due, by this host's steady clock."""
        return self._next_due

    def _list(self, now: float) -> list[str]:
        # If calls were published slowly, there may be as many slots as calls. Listing the slots
        # again for each one that is emptied would cost more the larger the backlog is.
        if self._slots and now - self._slots_listed <= _FRESH_FOR:
            found = self._list_first()
            if found:
                return found
        self._slots = self._due_slots()
        self._slots_listed = now
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
        if not slots and self._temporary:
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
        # There are many slots of one second if much is published. In random order, the workers
        # spread over them.
        random.shuffle(due_slots)
        return sorted(due_slots, key=_second, reverse=True)

    def _list_first(self) -> list[str]:
        """Candidates of the first slot that has any; drops the slots before it."""
        deferred: list[str] = []
        unreadable, last = self._unclaimable.unreadable, self._unclaimable.last
        oldest_in_use = self._store.clock.now() - _IN_USE_FOR
        while self._slots:
            folder = self._store.layout.slot(self._queue, self._slots[-1])
            names = self._names(folder)
            wanted = [f"{folder}/{name}" for name in names if name not in unreadable]
            deferred += [origin for origin in wanted if origin in last]
            wanted = [origin for origin in wanted if origin not in last]
            if wanted:
                random.shuffle(wanted)
                return wanted
            slot = Slot.parse(self._slots.pop())
            if not names and slot is not None and slot.due < oldest_in_use:
                self._store.fs.rmdir(folder)
        return deferred

    def _names(self, folder: str) -> list[str]:
        """Names in a slot, enough that some are left when ignored and deferred ones are removed."""
        last = self._unclaimable.last
        limit = _BATCH + len(self._unclaimable.unreadable) + len(last)
        try:
            return self._store.fs.names(folder, limit=limit, fresh=True, strict=True)
        except NotADirectoryError:
            self._store.files.clear(folder)
        except PermissionError as error:
            if folder not in last:
                last.add(folder)
                log.warning("no calls can be taken from there: %s", error)
        return []


def _second(slot: str) -> str:
    """A slot's priority and second, by its name, which ends with milliseconds."""
    return slot[:-3]


class Room(Protocol):
    """The resources of a worker."""

    total: Amounts
    """All its resources, free or in use."""

    def has(self, needed: Amounts) -> bool:
        """Whether these amounts are free now."""


class Needs:
    """Finds the folders of calls whose resource needs a worker can meet.

    Args:
        store: the spool.
        room: the worker's resources.
    """

    def __init__(self, store: Store, room: Room) -> None:
        self._store = store
        self.room = room
        self._mutex = threading.Lock()
        self._found: dict[str, dict[str, Amounts]] = {}
        self._listed = float("-inf")

    def expire(self) -> None:
        """List the folders anew next time, because something was published."""
        self._listed = float("-inf")

    def folders(self, queue: str) -> Mapping[str, Amounts]:
        """The folders of a queue, each with the resources that its calls need."""
        with self._mutex:
            now = self._store.fs.monotonic()
            if now - self._listed > _FRESH_FOR:
                self._listed = now
                self._found = self._list()
            return self._found.get(queue, {})

    def _list(self) -> dict[str, dict[str, Amounts]]:
        found: dict[str, dict[str, Amounts]] = {}
        for folder in self._store.fs.names(self._store.layout.pending_folder, fresh=True):
            queue, profile = split_profile(folder)
            needed = needs_of(profile) if profile else None
            if needed and covers(self.room.total, needed):
                found.setdefault(queue, {})[folder] = needed
        return found


class ResourceBacklog:
    """The pending attempts of one queue, including those that need resources.

    One order of service holds for all of them. Calls whose resources are not free now are the
    exception: other calls overtake them for a while, and then leave them what they need.

    Args:
        store: the spool.
        queue: the queue's folder name.
        unclaimable: attempts that the worker does not claim now.
        needs: finds the folders of calls that need resources.
    """

    def __init__(self, store: Store, queue: str, unclaimable: Unclaimable, needs: Needs) -> None:
        self._store, self._queue, self._needs = store, queue, needs
        self._unclaimable = unclaimable
        self._mutex = threading.Lock()
        self._plain = Backlog(store, queue, unclaimable)
        self._with_needs: dict[str, tuple[Backlog, Amounts]] = {}
        self._empty_searches = 0

    def next(self) -> str | None:
        """Path of an attempt to try; None if nothing is due whose resources are free."""
        with self._mutex:
            # On a network filesystem, an idle worker lists the two kinds of folders alternately.
            # So it sends the file server no more requests than a worker without resources.
            alternate = self._store.fs.remote and self._empty_searches > _FULL_SEARCHES
            odd = self._empty_searches % 2 == 1
            origin = self._next(plain=not alternate or not odd, with_needs=not alternate or odd)
            self._empty_searches = 0 if origin else self._empty_searches + 1
            return origin

    def _next(self, *, plain: bool, with_needs: bool) -> str | None:
        reserved: set[str] = set()
        for slot, _, backlog, needed in self._heads(plain=plain, with_needs=with_needs):
            if reserved.isdisjoint(needed):
                if self._needs.room.has(needed):
                    return backlog.next()
                if self._waits_long(slot):
                    reserved.update(needed)
        return None

    def _heads(self, *, plain: bool, with_needs: bool) -> list[tuple[str, str, Backlog, Amounts]]:
        """The head of each folder's backlog, in order of service, as slot, folder and needs."""
        members = [("", self._plain, NONE)] if plain else []
        first = self._plain.peek() if plain else ""
        if with_needs and not self._plain.paused:
            self._discover()
            members += [(folder, *each) for folder, each in self._with_needs.items()]
        heads = [
            (slot, folder, backlog, needed)
            for folder, backlog, needed in members
            if (slot := backlog.peek() if folder else first)
        ]
        return sorted(heads, key=lambda head: head[:2])

    def _discover(self) -> None:
        found = self._needs.folders(self._queue)
        known = self._with_needs
        self._with_needs = {
            folder: known.get(folder) or (self._temporary(folder), needed)
            for folder, needed in found.items()
        }

    def _temporary(self, folder: str) -> Backlog:
        return Backlog(self._store, folder, self._unclaimable, temporary=True)

    def _waits_long(self, slot: str) -> bool:
        parsed = Slot.parse(slot)
        return parsed is not None and self._store.clock.now() - parsed.due > _PATIENCE

    def missed(self) -> None:
        """Record that another worker claimed what `next` returned."""
        for backlog in (self._plain, *(each for each, _ in list(self._with_needs.values()))):
            backlog.missed()

    @property
    def next_due(self) -> float:
        """When the next delayed attempt is due, by this host's steady clock."""
        times = [self._plain.next_due]
        if not self._plain.paused:
            # Calls whose resources are in use are tried when these become free.
            with_needs = list(self._with_needs.values())
            times += [each.next_due for each, needed in with_needs if self._needs.room.has(needed)]
        return min(times)


class Backlogs:
    """The pending attempts of several queues: one queue after another, or by weight.

    Args:
        store: the spool.
        weights: how often each queue comes first, relative to the others. Their order is the
            order of service if not `weighted`.
        weighted: draw the order of the queues anew for each attempt.
        room: the worker's resources; None if it takes only calls that need none.
    """

    def __init__(
        self,
        store: Store,
        weights: Mapping[str, float],
        *,
        weighted: bool,
        room: Room | None = None,
    ) -> None:
        self._unclaimable = unclaimable = Unclaimable()
        self._needs = needs = None if room is None else Needs(store, room)
        self._backlogs: dict[str, Backlog | ResourceBacklog] = {
            queue: Backlog(store, queue, unclaimable)
            if needs is None
            else ResourceBacklog(store, queue, unclaimable, needs)
            for queue in weights
        }
        self._weights = weights
        self._weighted = weighted

    @property
    def queues(self) -> tuple[str, ...]:
        """Folder names of the queues."""
        return tuple(self._backlogs)

    def __iter__(self) -> Iterator[str]:
        """Paths of attempts to try, until nothing is due.

        Asking for the next path means that the claim of the last one failed.
        """
        for queue in self._order():
            backlog = self._backlogs[queue]
            while (origin := backlog.next()) is not None:
                yield origin
                backlog.missed()

    def _order(self) -> Iterable[str]:
        if not self._weighted:
            return self._backlogs
        # With exponential keys, the chance of each queue to come first is in proportion to its
        # weight (Efraimidis and Spirakis, 2006).
        keys = {queue: random.expovariate(weight) for queue, weight in self._weights.items()}
        return sorted(keys, key=keys.__getitem__)

    @property
    def next_due(self) -> float:
        """When the next delayed attempt is due, by this host's steady clock."""
        return min(backlog.next_due for backlog in self._backlogs.values())

    def bell_rang(self) -> None:
        """Search everything at the next attempt, because a bell has rung."""
        if self._needs is not None:
            self._needs.expire()

    def defer(self, origin: str) -> None:
        """Try an attempt after all others of its queue, because it cannot be claimed."""
        self._unclaimable.last.add(origin)

    def skip(self, name: AttemptName) -> None:
        """Ignore an attempt from now on, because only another version of fsqueue can read it."""
        self._unclaimable.unreadable.add(str(name))
