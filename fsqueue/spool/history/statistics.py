"""Statistics of the workers' recent work, computed from the sums in their journals.

An update reads only new lines, and only in the files of the window. It adds up the sums by minute,
so memory grows with the minutes, tasks and workers in the window, but not with the calls.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.format.records import UNDECODABLE
from fsqueue.spool.history import sketch
from fsqueue.spool.history.entries import JOURNAL_FORMAT, Sums, TaskSums
from fsqueue.spool.history.folders import JournalFolders
from fsqueue.spool.history.journal import MOST_SUMS
from fsqueue.spool.history.minutes import Minute, Work, add_runs, all_runs, sums_by_task
from fsqueue.spool.history.paces import Paces

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

_SUFFIX: Final = ".sums"
_PART = 1 << 18
_MOST_FILES = 10_000
_MINUTE, _HOUR = 60.0, 3600.0
_SHARES: Final = (0.5, 0.95, 0.99)
_decoder = msgspec.json.Decoder(Sums)


class Durations(msgspec.Struct, frozen=True):
    """Percentiles in seconds, accurate to about 5 percent; None without calls."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, counts: dict[int, int]) -> Durations:
        """The percentiles of a sketch."""
        return cls(*(sketch.percentile(counts, share) for share in _SHARES))


class TaskStats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of one task."""

    task: str
    calls: int
    """Calls that have ended."""
    failed: int
    failure_rate: float | None
    """The share of finished calls that failed; None if no call has finished."""
    retried: int
    lost: int
    """Attempts whose worker or slot died."""
    cancelled: int = 0
    failed_label: str
    """The label of one of the latest attempts that failed; empty if it had none."""
    wait: Durations
    """From the time a call was due to the start of the attempt."""
    run: Durations


class WorkerStats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of one worker."""

    worker: str
    slots: int
    calls: int
    failed: int
    busy: float | None
    """The share of time in which its slots were busy; None if it has just started."""
    alive: bool
    left: bool = False
    """Whether it has exited properly. A worker that is neither alive nor has left has died."""
    pace: float | None = None
    """How long its calls take, relative to the same tasks on all workers. See `paces`."""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of all workers in a window that ends now."""

    seconds: float
    """The length of the window, which begins at a full minute."""
    calls: int
    failed: int
    retried: int
    lost: int
    cancelled: int = 0
    rate: float
    """Finished calls per second, since the first of these workers started."""
    missing: int
    """Attempts that have no line in the journal."""
    unread: int = 0
    """Journals that have not been read yet, because there are very many: the numbers are too
    low."""
    tasks: tuple[TaskStats, ...]
    workers: tuple[WorkerStats, ...]
    queues: dict[str, int] = {}
    """Calls that have ended, by queue."""
    failures: dict[str, int] = {}
    """Calls that have failed, by fingerprint."""
    runs: dict[str, tuple[int, int]] = {}
    """Calls that have ended, and how many of them failed, by client."""

    def per_second(self, calls: int) -> float:
        """The rate of some of these calls, over the same period as `rate`."""
        return self.rate * calls / self.calls if self.calls else 0.0


class LastLine(msgspec.Struct):
    """What a worker's latest line says."""

    began: float
    until: float
    slots: int
    left: bool
    serial: int


class History:
    """Follows the journals of a spool.

    Args:
        store: the spool; its clock must have been read.
        window: the length of the window, in seconds.
        most_files: the most files to read in one update, in turn.
        folders: the journal's folders, if shared; their owner then updates them.
        until: the end of the window, by the file server's clock; None for now.
        period: the resolution in seconds; more than a minute for long windows.
    """

    def __init__(
        self,
        store: Store,
        window: float,
        *,
        most_files: int = _MOST_FILES,
        folders: JournalFolders | None = None,
        until: float | None = None,
        period: float = _MINUTE,
    ) -> None:
        self._until, self._period = until, period
        self._store, self._window = store, window
        self.most_files: int = most_files
        self._folders, self._lists = folders or JournalFolders(store), folders is None
        # By path, least recently read first.
        self._read: dict[str, int] = {}
        # The latest serial in each file, so that a line that was appended twice counts once.
        self._serials: dict[str, int] = {}
        self._unread = 0
        self._minutes: dict[int, Minute] = {}
        self._last: dict[str, LastLine] = {}
        self.paces: Paces = Paces()
        self.totals: dict[str, TaskSums] = {}
        """Totals by task over all lines read so far; they only grow."""

    def update(self) -> None:
        """Read the new lines of the journals."""
        start = self._start()
        if self._lists:
            self._folders.update(start)
        paths = sorted(self._folders.paths(start, _SUFFIX))
        for path in self._turn(paths):
            for sums in self._new_lines(path):
                self._take(path, sums, start)
            # Otherwise, if this host died, the worker could not append until the server gives this
            # host up.
            self._store.fs.let_go(path)
        self._unread = sum(path not in self._read for path in paths)
        self._forget(paths, start)

    def _turn(self, paths: list[str]) -> list[str]:
        """The files to read this time: all, in order, unless there are too many."""
        if len(paths) <= self.most_files:
            return paths
        there = set(paths)
        new = [path for path in reversed(paths) if path not in self._read]
        turn = [*new, *(path for path in self._read if path in there)]
        return sorted(turn[: self.most_files])

    def _start(self, window: float | None = None) -> float:
        return (self._now() - (window or self._window)) // self._period * self._period

    def _now(self) -> float:
        """The end of the window."""
        return self._store.clock.now() if self._until is None else self._until

    def _new_lines(self, path: str) -> Iterator[Sums]:
        offset, data = self._read.get(path, 0), b""
        try:
            while offset + len(data) < MOST_SUMS:
                part = self._store.fs.read_part(path, _PART, offset + len(data))
                data += part
                if len(part) < _PART:
                    break
        except (OSError, EnvelopeError) as error:
            log.info("cannot read %s: %s", path, error)
            return
        whole, newline, _ = data.rpartition(b"\n")
        self._read.pop(path, None)
        self._read[path] = offset + len(whole) + len(newline)
        for line in whole.splitlines():
            sums = _decoded(line)
            if sums is not None:
                yield sums

    def add(self, worker: str, sums: Sums) -> None:
        """Add a worker's sums that are not in any file."""
        self._take(worker, sums, self._start())

    def _take(self, path: str, sums: Sums, start: float) -> None:
        late = self._until is not None and sums.until > self._until
        if sums.until < start or late or sums.serial <= self._serials.get(path, -1):
            return
        self._serials[path] = sums.serial
        worker = path.rpartition("/")[2].removesuffix(_SUFFIX)
        last = self._last.get(worker)
        if last is None or last.serial < sums.serial:  # files of earlier hours may be read later
            line = LastLine(sums.began, sums.until, sums.slots, sums.left, sums.serial)
            self._last[worker] = line
        minute = self._minutes.setdefault(int(sums.until // self._period), Minute())
        work = minute.workers.setdefault(worker, Work())
        work.busy += sums.busy
        work.missing += sums.missing
        self.paces.add(worker, sums)
        minute.queues.update(sums.queues)
        minute.failures.update(sums.failures)
        add_runs(minute.runs, sums.runs)
        for name, task in sums.tasks.items():
            work.calls += task.calls
            work.failed += task.failed
            minute.tasks.setdefault(name, TaskSums()).add(task)
            self.totals.setdefault(name, TaskSums()).add(task)

    def _forget(self, paths: Collection[str], start: float) -> None:
        for minute in [each for each in self._minutes if each < start // self._period]:
            del self._minutes[minute]
        self.paces.forget(start)
        for worker in [name for name, last in self._last.items() if last.until < start - _HOUR]:
            del self._last[worker]
        for path in self._read.keys() - set(paths):
            del self._read[path]
            self._serials.pop(path, None)

    # -- adding up ------------------------------------------------------------------------

    def minutes(self, window: float | None = None) -> dict[int, Minute]:
        """What ended in each minute (or period), by its number since the epoch.

        Args:
            window: a shorter window, in seconds.
        """
        first = self._start(window) // self._period
        return {each: self._minutes[each] for each in sorted(self._minutes) if each >= first}

    def stats(self, alive: Collection[str] = (), window: float | None = None) -> Stats:
        """The statistics of the window.

        Args:
            alive: names of the living workers.
            window: a shorter window, in seconds.
        """
        now, start = self._now(), self._start(window)
        minutes = self.minutes(window).values()
        tasks = sums_by_task(minutes)
        workers: dict[str, Work] = {}
        for minute in minutes:
            for name, work in minute.workers.items():
                total = workers.setdefault(name, Work())
                total.calls += work.calls
                total.failed += work.failed
                total.busy += work.busy
                total.missing += work.missing
        paces = self.paces.compared(start)
        calls = sum(each.calls for each in tasks.values())
        first = min((self._last[name].began for name in workers), default=start)
        return Stats(
            seconds=now - start,
            calls=calls,
            failed=sum(each.failed for each in tasks.values()),
            retried=sum(each.retried for each in tasks.values()),
            lost=sum(each.lost for each in tasks.values()),
            cancelled=sum(each.cancelled for each in tasks.values()),
            rate=calls / max(1.0, now - max(start, first)),
            missing=sum(each.missing for each in workers.values()),
            unread=self._unread,
            tasks=tuple(_of_task(name, tasks[name]) for name in sorted(tasks)),
            workers=tuple(
                msgspec.structs.replace(
                    self._of_worker(name, workers[name], start, now, name in alive),
                    pace=paces.get(name),
                )
                for name in sorted(workers)
                if self._last[name].slots  # clients have no slots: they only note what they cancel
            ),
            queues=sum((each.queues for each in minutes), Counter()),
            failures=sum((each.failures for each in minutes), Counter()),
            runs=all_runs(minutes),
        )

    def run_times(self) -> dict[str, dict[int, int]]:
        """The sketches of the run times in the window, by task."""
        return {name: sums.run for name, sums in sums_by_task(self._minutes.values()).items()}

    def _of_worker(
        self, name: str, work: Work, start: float, now: float, alive: bool
    ) -> WorkerStats:
        last = self._last[name]
        # When a killed worker ended is unknown. Its last line is the best estimate.
        end = now if alive and not last.left else last.until
        available = last.slots * (end - max(start, last.began))
        return WorkerStats(
            worker=name,
            slots=last.slots,
            calls=work.calls,
            failed=work.failed,
            busy=min(1.0, work.busy / available) if available > 0 else None,
            alive=alive,
            left=last.left,
        )


def read_stats(store: Store, window: float, alive: Collection[str] = ()) -> Stats:
    """The workers' statistics for a window that ends now.

    Args:
        store: the spool; its clock must have been read.
        window: the length of the window, in seconds.
        alive: names of the living workers.
    """
    history = History(store, window)
    history.update()
    return history.stats(alive)


def _of_task(name: str, sums: TaskSums) -> TaskStats:
    return TaskStats(
        task=name,
        calls=sums.calls,
        failed=sums.failed,
        failure_rate=sums.failed / sums.calls if sums.calls else None,
        retried=sums.retried,
        lost=sums.lost,
        cancelled=sums.cancelled,
        failed_label=sums.failed_label,
        wait=Durations.of(sums.wait),
        run=Durations.of(sums.run),
    )


def _decoded(line: bytes) -> Sums | None:
    try:
        sums = _decoder.decode(line)
    except UNDECODABLE:
        return None
    return sums if sums.v == JOURNAL_FORMAT else None
