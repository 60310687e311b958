"""Looks at a spool for all open pages: what is in it now, and what its journals say.

All pages and tabs share one look. A new one is taken at most every `PAUSE` seconds, and not before
ten times as long as the last one took. Its number of file operations depends neither on the backlog
nor on the number of workers: it reads the snapshot of one worker, and in turn what is new in a few
files of the journals. The pages say how many files were not read yet.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from fsqueue.spool.admin.attempts import FailedAttempts
from fsqueue.spool.admin.census import Bounds
from fsqueue.spool.admin.glance import Looks
from fsqueue.spool.history.folders import JournalFolders
from fsqueue.spool.history.gauges import read_gauges
from fsqueue.spool.history.journal import hour_of
from fsqueue.spool.history.statistics import History

if TYPE_CHECKING:
    from fsqueue.spool.admin.attempts import Attempt
    from fsqueue.spool.admin.glance import Glance
    from fsqueue.spool.history.gauges import Gauge
    from fsqueue.spool.history.minutes import Minute
    from fsqueue.spool.history.statistics import Stats
    from fsqueue.spool.store.store import Store

PAUSE: Final = 2.0
"""The least time between two looks, in seconds."""
WINDOWS: Final = {"15m": 900.0, "1h": 3600.0, "6h": 21_600.0, "24h": 86_400.0, "7d": 604_800.0}
"""The windows that a page can show, in seconds."""
DEFAULT_WINDOW: Final = "1h"
_HOUR, _MINUTE = 3600.0, 60.0
# The cost limits of a look that counts calls by itself, because no worker does.
_OWN = Bounds(slots=10, workers=3, others=2)
# Files of the journal that a look reads: sums, and lines of failures.
_FILES, _FEW = (24, 8), (4, 3)
# Folders of past hours that a look lists. Each is listed only once.
_FOLDERS, _FEW_FOLDERS = 24, 6
# Seconds after the end of an hour from which its gauges no longer change.
_SETTLED = 120.0


class Look(NamedTuple):
    """The state of a spool at a moment, and the events of a window before it."""

    glance: Glance
    age: float
    """Seconds since the glance was taken."""
    now: float
    """The file server's clock."""
    window: float
    stats: Stats
    minutes: dict[int, Minute]
    """The calls that ended in each minute of the window, by its number since the epoch."""
    gauges: list[Gauge]
    """How full the spool was, about once a minute."""
    failed: list[Attempt]
    """The failed attempts of the window."""
    unread: int
    """Files of the journal that were not read yet."""
    cut: bool
    """Whether the oldest failed attempts are missing in `failed`."""
    used: float
    """The share of the disk that is in use."""
    batch: bool
    """Whether batch jobs run workers, or there are fleets."""
    operations: int
    """File operations that the look took."""
    took: float
    """Seconds that it took."""


class Watch:
    """Takes looks at one spool. Not for several threads at once.

    Args:
        store: a handle on the spool that only looks.
        heartbeat: seconds between two beats of a worker.
        result_ttl: seconds for which results are kept.
        pause: the least time between two looks, in seconds; 0 takes one whenever it is asked for.
    """

    def __init__(
        self, store: Store, *, heartbeat: float, result_ttl: float, pause: float = PAUSE
    ) -> None:
        self.store: Store = store
        self.pause: float = pause
        self.heartbeat: float = heartbeat
        self._looks = Looks(store, heartbeat=heartbeat, result_ttl=result_ttl, bounds=_OWN)
        self._folders = JournalFolders(store, _FOLDERS)
        self._remember(WINDOWS[DEFAULT_WINDOW])
        self._gauges: dict[str, list[Gauge]] = {}
        self._last: Look | None = None
        self._taken = float("-inf")
        self.number: int = 0
        """How many looks were taken."""

    def _remember(self, window: float) -> None:
        """Start reading the journals from scratch, for a longer window."""
        self._window = window
        self._history = History(self.store, window, folders=self._folders)
        self._failures = FailedAttempts(self.store, self._folders, files=_FILES[1])

    @property
    def due_in(self) -> float:
        """Seconds until the next look may be taken."""
        if self._last is None or not self.pause:
            return 0.0
        pause = max(self.pause, 10 * self._last.took)
        return max(0.0, self._taken + pause - time.monotonic())

    def look(self, window: float = WINDOWS[DEFAULT_WINDOW]) -> Look:
        """The latest look, or a new one if that is due."""
        last = self._last
        if window > self._window:
            self._remember(window)
        elif last is not None and self.due_in:
            return self._of_window(last, window)
        return self._of_window(self._take(), window)

    def _of_window(self, look: Look, window: float) -> Look:
        start = look.now - window
        alive = {each.name for each in look.glance.snapshot.workers if each.is_alive}
        return look._replace(
            window=window,
            stats=self._history.stats(alive, window),
            minutes=self._history.minutes(window),
            gauges=[each for each in look.gauges if each.at >= start],
            failed=[each for each in look.failed if each.ended >= start],
        )

    def _take(self) -> Look:
        store, began = self.store, time.monotonic()
        before = getattr(store.fs, "operations", 0)
        glance = self._looks.look()
        now = store.clock.now()
        self._folders.most = _FOLDERS if glance.worker else _FEW_FOLDERS
        self._folders.update(now - self._window)
        self._history.most_files, self._failures.most_files = _FILES if glance.worker else _FEW
        former = {} if self._last is None else _failed_of(self._last.stats)
        self._history.update()
        stats = self._history.stats()
        failing = {name for name, count in _failed_of(stats).items() if former.get(name) != count}
        failed = self._failures.look(now - self._window, failing)
        total, free = store.fs.space(store.layout.root)
        look = Look(
            glance=glance,
            age=self._looks.age(glance),
            now=now,
            window=self._window,
            stats=stats,
            minutes={},
            gauges=self._read_gauges(now),
            failed=failed,
            unread=stats.unread + self._failures.unread,
            cut=self._failures.cut,
            used=1 - free / total if total else 0.0,
            batch=any(each.batch and each.batch.job for each in glance.snapshot.workers)
            or bool(store.fs.names(store.layout.fleets_folder, fresh=True)),
            operations=getattr(store.fs, "operations", 0) - before,
            took=time.monotonic() - began,
        )
        self._last, self._taken = look, time.monotonic()
        self.number += 1
        return look

    def by_worker(self, task: str, window: float) -> dict[str, tuple[int, float]]:
        """The attempts of a task on each worker in the last hours, and their typical run time."""
        return self._history.paces.of_task(task, self.store.clock.now() - window)

    def _read_gauges(self, now: float) -> list[Gauge]:
        """About one gauge a minute. A look reads the current hour and one more."""
        start = now - self._window
        hours = [hour_of(now - ago * _HOUR) for ago in range(int(self._window // _HOUR) + 2)]
        self._gauges = {hour: found for hour, found in self._gauges.items() if hour in hours}
        missing = [hour for hour in hours[1:] if hour not in self._gauges]
        for hour in [hours[0], *missing[:1]]:
            thinned = {int(each.at // _MINUTE): each for each in read_gauges(self.store, hour)}
            self._gauges[hour] = list(thinned.values())
        if now % _HOUR < _SETTLED:  # the end of the last hour may be missing
            self._gauges.pop(hours[1], None)
        every = (each for hour in sorted(self._gauges) for each in self._gauges[hour])
        return [each for each in every if each.at >= start]


def _failed_of(stats: Stats) -> dict[str, int]:
    return {each.worker: each.failed for each in stats.workers}
