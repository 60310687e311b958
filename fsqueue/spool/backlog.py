"""Finds pending attempts to claim, at a cost that does not grow with their number."""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING

from fsqueue.spool.layout import PAUSED, AttemptName, Slot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fsqueue.spool.store import Store

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


class Backlog:
    """The pending attempts of one queue, in order of service, seen by one worker.

    Within a slot the order is random, so that many claimants seldom try the same name.
    """

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._queue = queue
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
            now = self._store.fs.monotonic()
            if not self._candidates or now - self._listed > _FRESH_FOR:
                self._candidates = self._list(now)
                self._listed = now
            return self._candidates.pop() if self._candidates else None

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
        slots = fs.names(layout.queue(self._queue), fresh=True, strict=True)
        if PAUSED in slots:
            return []
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
        return sorted(due_slots, reverse=True)

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
            self._store.clear(folder)
        except PermissionError as error:
            if folder not in self._last:
                self._last.add(folder)
                log.warning("no calls can be taken from there: %s", error)
        return []


class Backlogs:
    """The pending attempts of several queues: one queue after another, or by weight.

    Args:
        store: the spool.
        weights: how often each queue comes first, compared with the others; in this order they
            are served one after another if not `weighted`.
        weighted: draw which queue comes first, anew for each attempt.
    """

    def __init__(self, store: Store, weights: Mapping[str, float], *, weighted: bool) -> None:
        self._backlogs = {queue: Backlog(store, queue) for queue in weights}
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

    def defer(self, origin: str) -> None:
        """Try an attempt after all others of its queue: it cannot be claimed."""
        for backlog in self._backlogs.values():
            backlog.defer(origin)

    def skip(self, name: AttemptName) -> None:
        """Leave an attempt alone from now on: another version of fsqueue can read it."""
        for backlog in self._backlogs.values():
            backlog.skip(name)
