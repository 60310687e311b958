"""Finds the pending attempts of one folder, at a cost that does not grow with their number."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from typing import TYPE_CHECKING

from fsqueue.common.recent import RecentTexts
from fsqueue.spool.format.names import PAUSED, Slot

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.arrivals import Arrivals

log = logging.getLogger(__name__)

# A listing stops after this many names, so a slot of any size costs the same.
_BATCH = 500
# Seconds after which candidates are dropped: a call of higher priority waits no longer than that.
FRESH_FOR = 1.0
# A lost race shows that the list is out of date, so only this share of it is kept. If all of it
# were kept, two workers would lose every second rename, and eight would lose five of six.
_KEPT_AFTER_LOSS = 0.25
# Publishers use a slot for one second, which begins `schedule.IMMEDIATE_SLACK` after it was due.
# Removing a slot that is in use costs its publisher a `mkdir` and nothing else.
_IN_USE_FOR = 2.5
# After this many calls in a row that are too long, a worker leaves their folder to others. If it
# tried them all, the cost of leaving would grow with their number.
_TOO_LONG = 100
# Bad files that a worker remembers. If there are more, it tries the others again and again.
_REMEMBERED = 10_000


class Unclaimable:
    """Attempts that a worker does not claim now, in any of its queues."""

    def __init__(self) -> None:
        self.unreadable = RecentTexts(_REMEMBERED)
        """Names of attempts that are ignored: another version of fsqueue can read them, or another
        worker has the time for them."""
        self.last = RecentTexts(_REMEMBERED)
        """Paths of attempts and folders that cannot be moved: they are tried after all others."""
        self.closed: set[str] = set()
        """Folders of which so many calls were too long that the others are not tried."""
        self.too_long: Counter[str] = Counter()
        """By folder, how many calls in a row were too long for the time that is left."""

    def was_too_long(self, name: str, folder: str) -> None:
        """Ignore an attempt from now on, because it might not end in the time that is left."""
        self.unreadable.add(name)
        self.too_long[folder] += 1
        if self.too_long[folder] >= _TOO_LONG:
            self.closed.add(folder)

    def was_run(self, folder: str) -> None:
        """Note that a call of a folder was not too long."""
        if folder not in self.closed:
            del self.too_long[folder]


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
        arrivals: new calls of the folder, by file events; None without events.
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
        self.arrivals: Arrivals | None = None
        # The last listing found nothing, and events have named every call since.
        self._quiet = False

    def expire(self) -> None:
        """List the folder next time, even if no event has named a new call."""
        self._quiet = False

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

    def take(self) -> str | None:
        """Like `next`, right after `peek`: without another look at the clock."""
        with self._mutex:
            if not self._candidates:  # another thread has lost a race: see `missed`
                self._refresh()
            return self._candidates.pop() if self._candidates else None

    def _refresh(self) -> None:
        now, closed = self._store.fs.monotonic(), self._queue in self._unclaimable.closed
        if not self._candidates or now - self._candidates_listed > FRESH_FOR or closed:
            arrived = self._arrived() if self._quiet and not closed else None
            self._candidates = self._list(now) if arrived is None else arrived
            self._candidates_listed = now

    def _arrived(self) -> list[str] | None:
        """The calls that came after the folder was found empty; None if it must be listed."""
        arrivals = self.arrivals
        if arrivals is None or arrivals.missed:
            self._quiet = False
            return None
        paths, now = arrivals.take(), self._store.clock.now()
        random.shuffle(paths)
        slots = [Slot.parse(path.rsplit("/", 2)[1]) for path in paths]
        if any(slot is None or slot.due > now for slot in slots) or any(map(self._is_bad, paths)):
            self._quiet = False
            return None
        return sorted(paths, key=lambda path: _second(path.rsplit("/", 2)[1]), reverse=True)

    def _is_bad(self, path: str) -> bool:
        bad = self._unclaimable
        return path in bad.last or path.rpartition("/")[2] in bad.unreadable

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
        if self._slots and now - self._slots_listed <= FRESH_FOR:
            found = self._list_first()
            if found:
                return found
        arrivals = self.arrivals
        if arrivals is not None:
            arrivals.begin()
        self._slots = self._due_slots()
        self._slots_listed = now
        if arrivals is not None:
            arrivals.watch(self._slots)
        found = self._list_first()
        self._quiet = not found and not self.paused and arrivals is not None and not arrivals.missed
        return found

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
        if self._queue in self._unclaimable.closed:
            return []
        deferred: list[str] = []
        unreadable, last = self._unclaimable.unreadable, self._unclaimable.last
        oldest_in_use = self._store.clock.now() - _IN_USE_FOR
        while self._slots:
            folder = self._store.layout.slot(self._queue, self._slots[-1])
            names = self._names(folder)
            wanted = [f"{folder}/{name}" for name in names]
            if unreadable:
                wanted = [f"{folder}/{name}" for name in names if name not in unreadable]
            if last:
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
            if last.add(folder):
                log.warning("no calls can be taken from there: %s", error)
        return []


def _second(slot: str) -> str:
    """A slot's priority and second, by its name, which ends with milliseconds."""
    return slot[:-3]
