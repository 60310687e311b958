"""Chooses the attempt that a worker claims next, across its queues and their folders."""

from __future__ import annotations

import contextlib
import random
import threading
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from fsqueue.spool.format.names import AttemptName, Slot, folder_of, split_profile
from fsqueue.spool.format.resources import NONE, needs_of
from fsqueue.spool.worker.backlog.arrivals import Arrivals
from fsqueue.spool.worker.backlog.folder import FRESH_FOR, FolderBacklog, Unclaimable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.resources import Amounts
    from fsqueue.spool.store.store import Store

# A worker without resources seldom serves folders other than the plain one. It lists them every
# _RARELY seconds while it is busy, and at every eighth search while it is idle.
_RARELY = 5.0
_IDLE_SEARCHES = 8
# After this many empty searches, an idle worker with resources lists fewer folders.
_FULL_SEARCHES = 8
# After this many seconds, no other call may take the resources that a waiting call needs.
_PATIENCE = 30.0
_hears_all, _is_quiet = attrgetter("hears_all"), attrgetter("is_quiet")


class Room(Protocol):
    """The resources of a worker, and the time that it has left."""

    total: Amounts
    """All its resources, free or in use."""

    def fits(self, needed: Amounts) -> bool:
        """Whether the worker has enough resources, free or in use, and enough time."""

    def has(self, needed: Amounts) -> bool:
        """Whether these amounts are free now."""


class Needs:
    """Finds the folders of calls whose needs, of resources or time, a worker can meet.

    Args:
        room: the worker's resources.
    """

    def __init__(self, store: Store, room: Room) -> None:
        self._store = store
        self.room = room
        self._mutex = threading.Lock()
        self._found: dict[str, dict[str, Amounts]] = {}
        self._listed = float("-inf")

    def expire(self) -> None:
        """List the folders again next time, because something was published."""
        self._listed = float("-inf")

    def folders(self, queue: str, *, busy: bool) -> Mapping[str, Amounts]:
        """The folders of a queue, each with the needs of its calls.

        Args:
            queue: the queue's folder name.
            busy: whether the last search found a call, so that the worker need not list them soon.
        """
        with self._mutex:
            now = self._store.fs.monotonic()
            rarely = busy and not self.room.total and not self._found
            if now - self._listed > (_RARELY if rarely else FRESH_FOR):
                self._listed = now
                self._found = self._list()
            return self._found.get(queue, {})

    def _list(self) -> dict[str, dict[str, Amounts]]:
        found: dict[str, dict[str, Amounts]] = {}
        for folder in self._store.fs.names(self._store.layout.pending_folder, fresh=True):
            queue, profile = split_profile(folder)
            needed = needs_of(profile) if profile else None
            if needed and self.room.fits(needed):
                found.setdefault(queue, {})[folder] = needed
        return found


class QueueBacklog:
    """The pending attempts of one queue: in its plain folder, and in those of calls with needs.

    All of them share one order of service. The exception are calls whose resources are in use:
    other calls overtake them for a while, and then leave those resources to them. Calls that need
    more time than the worker has left are left to other workers.

    An idle worker lists the two kinds of folders in turn, so it sends no more requests to the file
    server than if there were only plain calls.

    Args:
        queue: the queue's folder name.
        unclaimable: attempts that the worker does not claim now.
        needs: finds the folders of calls with needs.
    """

    def __init__(self, store: Store, queue: str, unclaimable: Unclaimable, needs: Needs) -> None:
        self._store, self._queue, self._needs = store, queue, needs
        self._unclaimable = unclaimable
        self._mutex = threading.Lock()
        self._plain = FolderBacklog(store, queue, unclaimable)
        self._with_needs: dict[str, tuple[FolderBacklog, Amounts]] = {}
        self._empty_searches = 0

    def next(self) -> str | None:
        """Path of an attempt to try; None if nothing is due whose needs can be met now."""
        with self._mutex:
            plain, with_needs = self._kinds() if self._empty_searches else (True, True)
            origin = self._next(plain=plain, with_needs=with_needs)
            self._empty_searches = 0 if origin else self._empty_searches + 1
            return origin

    def _kinds(self) -> tuple[bool, bool]:
        """After empty searches: whether to search the plain folder, and those with needs."""
        empty = self._empty_searches
        if self._needs.room.total:
            if not self._store.fs.remote or empty <= _FULL_SEARCHES:
                return True, True
            every = 2
        else:
            every = 2 if self._with_needs else _IDLE_SEARCHES
        plain = empty % every != every - 1
        return plain, not plain

    def listen(self, announce: Callable[[], object]) -> Arrivals:
        """Collect the calls that file events report in the plain folder."""
        self._plain.arrivals = Arrivals(self._store, self._queue, announce)
        return self._plain.arrivals

    def stop_listening(self) -> None:
        """Undo `listen`."""
        if self._plain.arrivals is not None:
            self._plain.arrivals.end()
        self._plain.arrivals = None

    def expire(self) -> None:
        """List the plain folder at the next search, as events may have been lost."""
        self._plain.expire()

    @property
    def has_more(self) -> bool:
        """Whether the last search has found more plain calls than were tried."""
        return self._plain.has_more

    @property
    def is_exhausted(self) -> bool:
        """Whether the last search has shown all calls, and all of these were tried."""
        return self._plain.is_exhausted and not self._with_needs

    @property
    def is_quiet(self) -> bool:
        """Whether no call is known, and events or bells announce all that come from now on."""
        return self._plain.is_quiet and not self._with_needs

    @property
    def hears_all(self) -> bool:
        """Whether events announce all calls that come to the plain folder."""
        return self._plain.hears_all

    def rung(self) -> None:
        """Search everything next time, because a bell has rung."""
        self._empty_searches = 0

    def _next(self, *, plain: bool, with_needs: bool) -> str | None:
        if with_needs and not self._plain.paused:
            self._discover()
        if not (with_needs and self._with_needs):
            return self._plain.next() if plain else None
        first = self._plain.peek() if plain else ""
        if self._plain.paused:
            return None
        reserved: set[str] = set()
        for slot, _, backlog, needed in self._heads(first):
            if self._needs.room.fits(needed) and reserved.isdisjoint(needed):
                if self._needs.room.has(needed):
                    return backlog.take()
                if self._waits_long(slot):
                    reserved.update(needed)
        return None

    def _heads(self, first: str) -> list[tuple[str, str, FolderBacklog, Amounts]]:
        """The head of each folder's backlog, in order of service, as slot, folder and needs.

        Args:
            first: the slot of the plain folder's head; empty if there is none.
        """
        heads = [(first, "", self._plain, NONE)] if first else []
        heads += [
            (slot, folder, backlog, needed)
            for folder, (backlog, needed) in self._with_needs.items()
            if (slot := backlog.peek())
        ]
        return sorted(heads, key=lambda head: head[:2])

    def _discover(self) -> None:
        found = self._needs.folders(self._queue, busy=self._empty_searches == 0)
        known = self._with_needs
        if not found and not known:
            return
        make = partial(FolderBacklog, self._store, unclaimable=self._unclaimable, temporary=True)
        self._with_needs = {
            folder: known.get(folder) or (make(folder), needed) for folder, needed in found.items()
        }

    def _waits_long(self, slot: str) -> bool:
        parsed = Slot.parse(slot)
        return parsed is not None and self._store.clock.now() - parsed.due > _PATIENCE

    def missed(self, times: int) -> None:
        """Record that other workers claimed what `next` returned, this many times in a row."""
        for backlog in (self._plain, *(each for each, _ in list(self._with_needs.values()))):
            backlog.missed(times)

    @property
    def next_due(self) -> float:
        """When the next delayed attempt is due, by this host's steady clock."""
        times = [self._plain.next_due]
        if not self._plain.paused:
            # Calls whose resources are in use are tried when those become free.
            with_needs = list(self._with_needs.values())
            times += [each.next_due for each, needed in with_needs if self._needs.room.has(needed)]
        return min(times)


class WorkerBacklog:
    """The pending attempts of several queues: one queue after another, or by weight.

    Args:
        weights: how often each queue comes first, relative to the others. Their order is the
            order of service if not `weighted`.
        room: the worker's resources.
        weighted: whether to draw a new order of the queues for each attempt.
    """

    def __init__(
        self, store: Store, weights: Mapping[str, float], room: Room, *, weighted: bool
    ) -> None:
        self._needs = needs = Needs(store, room)
        self._unclaimable = unclaimable = Unclaimable()
        self._backlogs = {
            queue: QueueBacklog(store, queue, unclaimable, needs) for queue in weights
        }
        self._arrivals: list[Arrivals] = []
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
        for queue in self._drawn_order() if self._weighted else self._backlogs:
            backlog, times = self._backlogs[queue], 0
            while (origin := backlog.next()) is not None:
                yield origin
                times += 1
                backlog.missed(times)

    def _drawn_order(self) -> Iterable[str]:
        # With exponential keys, the chance of each queue to come first is in proportion to its
        # weight (Efraimidis and Spirakis, 2006).
        keys = {queue: random.expovariate(weight) for queue, weight in self._weights.items()}
        return sorted(keys, key=keys.__getitem__)

    @property
    def next_due(self) -> float:
        """When the next delayed attempt is due, by this host's steady clock."""
        return min(backlog.next_due for backlog in self._backlogs.values())

    @property
    def hears_all(self) -> bool:
        """Whether events announce all calls that come to the plain folders of the queues."""
        return all(map(_hears_all, self._backlogs.values()))

    @property
    def is_quiet(self) -> bool:
        """Whether no call is known, and events or bells announce all that come from now on."""
        return all(map(_is_quiet, self._backlogs.values()))

    def bell_rang(self, *, needs: bool) -> None:
        """Search everything at the next attempt, because a bell has rung.

        Args:
            needs: whether it was the bell of calls with needs, whose folders may be new.
        """
        if needs:
            self._needs.expire()
        for backlog in self._backlogs.values():
            backlog.rung()

    def was_too_long(self, claim: Claim) -> None:
        """Ignore a call from now on, because it might not end in the time that is left."""
        self._unclaimable.was_too_long(str(claim.name), folder_of(claim.origin))

    def was_run(self, origin: str) -> None:
        """Record that a call was not too long, by the path at which it was pending."""
        if self._unclaimable.too_long:
            self._unclaimable.was_run(folder_of(origin))

    def was_taken(self, origin: str) -> None:
        """Forget an attempt that a slot of this worker has claimed itself."""
        for arrivals in self._arrivals:
            arrivals.forget(origin)

    @contextlib.contextmanager
    def listening(self, announce: Callable[[], object]) -> Iterator[None]:
        """In the block, collect the calls that file events report in the queues.

        Args:
            announce: called when a call has arrived.
        """
        with contextlib.ExitStack() as stack:
            for backlog in self._backlogs.values():
                self._arrivals.append(backlog.listen(announce))
                stack.callback(backlog.stop_listening)
            stack.callback(self._arrivals.clear)
            yield

    def rest(self, *, rests: bool) -> None:
        """Set whether to ignore file events."""
        for arrivals in self._arrivals:
            arrivals.rests = rests
            if rests:
                arrivals.end()

    @property
    def has_more(self) -> bool:
        """Whether the last search has found more plain calls than were tried."""
        return any(backlog.has_more for backlog in self._backlogs.values())

    @property
    def is_exhausted(self) -> bool:
        """Whether the last search has shown all calls, and all of these were tried.

        With several queues, a search ends at the first one that has a call, so it shows only some.
        """
        return len(self._backlogs) == 1 and all(
            backlog.is_exhausted for backlog in self._backlogs.values()
        )

    def expire(self) -> None:
        """List the queues at the next attempt, because no event has come for a while."""
        for backlog in self._backlogs.values():
            backlog.expire()

    def defer(self, origin: str) -> None:
        """Try an attempt after all others of its queue, because it cannot be claimed."""
        self._unclaimable.last.add(origin)

    def skip(self, name: AttemptName) -> None:
        """Ignore an attempt from now on, because only another version of fsqueue can read it."""
        self._unclaimable.unreadable.add(str(name))
