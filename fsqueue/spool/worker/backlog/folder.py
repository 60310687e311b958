"""Finds the pending attempts of one folder, at a cost that does not grow with their number."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING

from fsqueue.common.recent import RecentTexts
from fsqueue.spool.format.names import PAUSED, Slot
from fsqueue.spool.wakeups.watching import watches

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.backlog.arrivals import Arrivals

# A listing stops after this many names, so that slots of any size cost the same.
_BATCH = 500
# Seconds after which candidates are dropped, so a call of higher priority waits at most this long.
FRESH_FOR = 1.0
# On a file server, a name that was listed before the folder changed costs a request of its own. So
# a busy worker lists again sooner: after these seconds, once it has tried so many names, and so
# large a share of those that are left.
_FRESH_ON_SERVER, _LEAST_TRIED, _SHARE_TRIED = 0.25, 8, 1 / 16
# Seconds after which a worker lists its queue, even if events keep reporting calls.
_HEARD_FOR = 1.0
# Up to _FEW calls, in up to _FEW_SLOTS slots, are listed all at once.
_FEW, _FEW_SLOTS = 16, 4
# After this many lost races in a row, other workers have probably claimed the next candidates, too.
_LOST_IN_A_ROW = 2
# Publishers use a slot for one second, which begins `schedule.IMMEDIATE_SLACK` after it was due.
# Removing a slot that is in use costs its publisher a `mkdir` and nothing else.
_IN_USE_FOR = 2.5
# After this many calls in a row that are too long for its remaining time, a worker leaves the
# folder to others. Otherwise the cost of leaving would grow with the number of these calls.
_TOO_LONG = 100
# The most bad files that a worker remembers. It tries any others again and again.
_REMEMBERED = 10_000


class Unclaimable:
    """Attempts that a worker does not claim now, in any of its queues."""

    def __init__(self) -> None:
        self.unreadable: RecentTexts = RecentTexts(_REMEMBERED)
        """Names of attempts to ignore: only another version of fsqueue can read them, or only
        another worker has enough time for them."""
        self.last: RecentTexts = RecentTexts(_REMEMBERED)
        """Paths of attempts and folders that cannot be moved, which are tried after all others."""
        self.closed: set[str] = set()
        """Folders whose calls are no longer tried, because too many were too long."""
        self.too_long: Counter[str] = Counter()
        """By folder, how many calls in a row were too long for the time that is left."""

    def was_too_long(self, name: str, folder: str) -> None:
        """Ignore an attempt from now on, because it might not end in the time that is left."""
        self.unreadable.add(name)
        self.too_long[folder] += 1
        if self.too_long[folder] >= _TOO_LONG:
            self.closed.add(folder)

    def was_run(self, folder: str) -> None:
        """Record that a call of a folder was not too long."""
        if folder not in self.closed:
            del self.too_long[folder]


class FolderBacklog:
    """The pending attempts of one folder of a queue, in order of service, as one worker sees them.

    Among the calls of one second, a worker begins at a random place and goes on in the order of the
    folder, which is the same for all workers. So it seldom tries a call that another worker has
    claimed, until it comes to where another one began. In random order, it would soon meet calls
    claimed by others.

    Args:
        queue: the folder's name.
        unclaimable: attempts that the worker does not claim now.
        temporary: whether to remove the folder when it is empty.

    Attributes:
        paused: whether the queue was paused when it was last listed.
        arrivals: new calls of the folder that file events report; None without events.
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
        self.paused: bool = False
        self._mutex = threading.Lock()
        self._candidates: list[str] = []
        self._candidates_listed, self._found = float("-inf"), 0
        # Due slots in reverse order, without those that had no candidates.
        self._slots: list[str] = []
        self._slots_listed = float("-inf")
        self._next_due = float("inf")
        self._unclaimable = unclaimable or Unclaimable()
        self.arrivals: Arrivals | None = None
        # The last listing showed all due calls, and events have reported every call since then. So
        # when the candidates are used up, no listing is needed.
        self._heard_all = False
        # Whether the last listing showed all calls, and whether it showed only a few.
        self._all_listed = self._is_short = False
        self._listed = 0  # names in the last slot that was listed

    def expire(self) -> None:
        """List the folder next time, even if no event has reported a new call."""
        self._heard_all = False

    @property
    def hears_all(self) -> bool:
        """Whether events announce all calls that come from now on."""
        return self._heard_all and self.arrivals is not None and not self.arrivals.missed

    @property
    def is_quiet(self) -> bool:
        """Whether no call is known, and events announce all that come from now on."""
        with self._mutex:  # another thread may be about to make arrivals candidates
            known = self._candidates or (self.arrivals is not None and self.arrivals.paths)
            return not known and self.hears_all

    @property
    def has_more(self) -> bool:
        """Whether the last search found more calls than were tried."""
        return bool(self._candidates)

    @property
    def is_exhausted(self) -> bool:
        """Whether the last listing showed all calls, and all of them were tried."""
        return not self._candidates and len(self._slots) <= 1 and self._listed < _BATCH

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
        if not self._candidates or self._are_old(now) or closed:
            arrived = None if self._candidates or closed else self._arrived(now)
            if arrived is None:
                self._candidates = self._list(now)
                self._heard_all = self._all_listed and self._hears(self._candidates)
            else:
                self._candidates = arrived
            self._candidates_listed, self._found = now, len(self._candidates)

    def _are_old(self, now: float) -> bool:
        """Whether the folder is listed again although candidates are left."""
        age, left = now - self._candidates_listed, len(self._candidates)
        tried = self._found - left
        has_tried_many = tried >= max(_LEAST_TRIED, _SHARE_TRIED * left)
        fresh_for = _FRESH_ON_SERVER if self._store.fs.remote and has_tried_many else FRESH_FOR
        return age > fresh_for

    def _arrived(self, now: float) -> list[str] | None:
        """The calls that came since the last listing; None if the folder must be listed.

        The folder is listed from time to time in any case: calls from other hosts cause no events,
        and events of this host's calls must not keep the worker from them.
        """
        arrivals = self.arrivals
        if not self._heard_all or arrivals is None:
            return None
        if not arrivals.paths:  # the thread that was woken has read the events
            watches().hear()
        if not arrivals.missed and now < min(self._slots_listed + _HEARD_FOR, self._next_due):
            paths = arrivals.take()
            if not paths or self._may_be_claimed(paths):
                if len(paths) > 1:
                    random.shuffle(paths)
                    paths.sort(key=lambda path: _second(path.rsplit("/", 2)[1]), reverse=True)
                return paths
        self._slots.clear()  # there may be others
        return None

    def _may_be_claimed(self, paths: list[str]) -> bool:
        """Whether all of these attempts are due, and all may be tried now."""
        now, bad = self._store.clock.now(), self._unclaimable
        for path in paths:
            slot = Slot.parse(path.rsplit("/", 2)[1])
            if slot is None or slot.due > now:
                return False
            if path in bad.last or path.rpartition("/")[2] in bad.unreadable:
                return False
        return True

    def _hears(self, listed: list[str]) -> bool:
        """Whether events report all calls that come after a listing."""
        arrivals = self.arrivals
        if arrivals is None or self.paused:
            return False
        arrivals.drop(listed)
        return not arrivals.missed

    def missed(self, times: int) -> None:
        """Record that other workers claimed what `next` returned, this many times in a row."""
        with self._mutex:
            if self._candidates and times >= _LOST_IN_A_ROW:
                self._candidates.clear()
                self._heard_all = False  # the dropped candidates may still be pending

    @property
    def next_due(self) -> float:
        """When the next delayed attempt is due, by this host's steady clock."""
        return self._next_due

    def _list(self, now: float) -> list[str]:
        # If calls were published slowly, there may be as many slots as calls. Listing the slots
        # again for each emptied slot would cost more, the larger the backlog is.
        arrivals = self.arrivals
        # After a short listing, everything is listed, so that events report all later calls.
        may_hear = arrivals is not None and self._is_short
        if self._slots and not may_hear and now - self._slots_listed <= FRESH_FOR:
            found = self._list_first()
            if found:
                return found
        if arrivals is not None:
            arrivals.begin()
        self._slots = self._due_slots()
        self._slots_listed = now
        if arrivals is not None:
            arrivals.watch(self._slots)
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
        # If much is published, one second has many slots. The random order spreads the workers over
        # them. On a file server, the newest comes last: publishers may still be using it.
        random.shuffle(due_slots)
        remote = self._store.fs.remote
        newest = {_second(name): name for name in sorted(due_slots)} if remote else {}
        return sorted(
            due_slots,
            key=lambda name: (_second(name), newest.get(_second(name)) == name),
            reverse=True,
        )

    def _list_first(self) -> list[str]:
        """Candidates of the first slot that has any; drops the slots before it."""
        self._all_listed = self._is_short = False
        if self._queue in self._unclaimable.closed:
            return []
        deferred: list[str] = []
        oldest_in_use = self._store.clock.now() - _IN_USE_FOR
        while self._slots:
            folder = self._store.layout.slot(self._queue, self._slots[-1])
            names = self._names(folder)
            wanted = self._wanted(folder, names, deferred)
            if wanted:
                if self.arrivals is not None and len(self._slots) <= _FEW_SLOTS:
                    return self._with_rest(wanted, whole=len(wanted) == len(names))
                return wanted
            slot = Slot.parse(self._slots.pop())
            if not names and slot is not None and slot.due < oldest_in_use:
                self._store.fs.rmdir(folder)
        self._all_listed = not deferred
        return deferred

    def _wanted(self, folder: str, names: list[str], deferred: list[str]) -> list[str]:
        """The attempts of a slot that may be claimed now, starting at a random one."""
        unreadable, last = self._unclaimable.unreadable, self._unclaimable.last
        wanted = [f"{folder}/{name}" for name in names]
        if unreadable:
            wanted = [f"{folder}/{name}" for name in names if name not in unreadable]
        if last:
            deferred += [origin for origin in wanted if origin in last]
            wanted = [origin for origin in wanted if origin not in last]
        first = random.randrange(len(wanted)) if wanted else 0  # noqa: S311 - no secret
        return wanted[first:] + wanted[:first]

    def _with_rest(self, found: list[str], *, whole: bool) -> list[str]:
        """Add the calls of the last slots, if they are few; events report all later ones.

        Args:
            found: the candidates of the first of these slots.
            whole: whether they are all that is in the slot.
        """
        everything = found
        for slot in reversed(self._slots[:-1]):
            if not whole or len(everything) > _FEW:
                return found
            folder = self._store.layout.slot(self._queue, slot)
            names = self._names(folder)
            more = self._wanted(folder, names, [])
            everything, whole = more + everything, len(more) == len(names)
        self._all_listed = whole and len(everything) < _BATCH
        self._is_short = whole and len(everything) <= _FEW
        return everything if self._all_listed else found

    def _names(self, folder: str) -> list[str]:
        """Names in a slot: enough for some to remain without the ignored and deferred ones."""
        last = self._unclaimable.last
        limit = _BATCH + len(self._unclaimable.unreadable) + len(last)
        try:
            names = self._store.fs.names(folder, limit=limit, fresh=True, strict=True)
        except NotADirectoryError:
            self._store.files.clear(folder)
        except PermissionError as error:
            last.add(folder)
            self._store.files.pass_over(folder, error)  # whoever counts may have told of it
        else:
            self._listed = len(names)
            return names
        return []


def _second(slot: str) -> str:
    """A slot's priority and second: its name without the milliseconds at the end."""
    return slot[:-3]
