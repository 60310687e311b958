"""Finds pending attempts to claim, at a cost that does not grow with their number."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from fsqueue.spool.layout import PAUSED, AttemptName, Slot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fsqueue.spool.store import Store

# Listing stops there: a slot of any size costs the same.
_BATCH = 500
# Candidates older than this are forgotten, so that a call of higher priority waits no longer.
_FRESH_FOR = 1.0
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
        self._next_due = float("inf")
        self._unreadable: set[str] = set()

    def next(self) -> str | None:
        """Path of an attempt to try; None if nothing is due."""
        with self._mutex:
            now = self._store.fs.monotonic()
            if not self._candidates or now - self._listed > _FRESH_FOR:
                self._candidates = self._list()
                self._listed = now
            return self._candidates.pop() if self._candidates else None

    @property
    def next_due(self) -> float:
        """When the next attempt is due that was not yet, by this host's steady clock."""
        return self._next_due

    def skip(self, name: AttemptName) -> None:
        """Leave an attempt alone from now on: another version of fsqueue can read it."""
        self._unreadable.add(str(name))

    def _list(self) -> list[str]:
        fs, layout = self._store.fs, self._store.layout
        now = self._store.clock.now()
        self._next_due = float("inf")
        slots = fs.names(layout.queue(self._queue), fresh=True)
        if PAUSED in slots:
            return []
        for slot_name in sorted(slots):
            slot = Slot.parse(slot_name)
            if slot is None:
                continue
            if slot.due > now:
                due = fs.monotonic() + slot.due - now
                self._next_due = min(self._next_due, due)
                continue
            folder = layout.slot(self._queue, slot_name)
            names = fs.names(folder, limit=_BATCH, fresh=True)
            wanted = [f"{folder}/{name}" for name in names if name not in self._unreadable]
            if wanted:
                random.shuffle(wanted)
                return wanted
            if not names and slot.due < now - _IN_USE_FOR:
                fs.rmdir(folder)
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
        """Paths of attempts to try, until nothing is due."""
        for queue in self._order():
            while (origin := self._backlogs[queue].next()) is not None:
                yield origin

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

    def skip(self, name: AttemptName) -> None:
        """Leave an attempt alone from now on: another version of fsqueue can read it."""
        for backlog in self._backlogs.values():
            backlog.skip(name)
