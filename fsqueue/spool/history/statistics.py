"""What workers have done lately, from the sums of their journals.

A look reads the files of its window only, and of those what it has not read before. What is read
is added up by minutes: memory grows with the minutes, tasks and workers of the window, and not
with the calls. What is no line of sums is passed over, whatever it is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.format.records import UNDECODABLE
from fsqueue.spool.history import sketch
from fsqueue.spool.history.journal import JOURNAL_FORMAT, MOST_SUMS, Sums, TaskSums, start_of_hour

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fsqueue.spool.store.store import Store

log = logging.getLogger(__name__)

_SUFFIX: Final = ".sums"
_PART = 1 << 18
# So many files of an hour are read at most: workers that came and went.
_MOST_FILES = 10_000
_MINUTE, _HOUR = 60.0, 3600.0
_SHARES: Final = (0.5, 0.95, 0.99)
_decoder = msgspec.json.Decoder(Sums)


class Durations(msgspec.Struct, frozen=True):
    """Percentiles in seconds, to about 5 percent; None if there is nothing to tell."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, counts: dict[int, int]) -> Durations:
        """Those of a sketch."""
        return cls(*(sketch.percentile(counts, share) for share in _SHARES))


class TaskStats(msgspec.Struct, frozen=True, kw_only=True):
    """One task."""

    task: str
    calls: int
    """That have ended."""
    failed: int
    failure_rate: float | None
    """Failed ones among those that have ended; None if none has."""
    retried: int
    lost: int
    """Attempts whose slot died."""
    wait: Durations
    """From when a call was due to the start of the attempt."""
    run: Durations


class WorkerStats(msgspec.Struct, frozen=True, kw_only=True):
    """One worker."""

    worker: str
    slots: int
    calls: int
    failed: int
    busy: float | None
    """Share of its slots' time that it worked; None if it has just begun."""
    alive: bool


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What workers did in a window that ends now."""

    seconds: float
    """Length of the window, which begins at a full minute."""
    calls: int
    failed: int
    retried: int
    lost: int
    rate: float
    """Calls that ended, each second since the first of these workers began."""
    missing: int
    """Attempts that have no line of their own in the journal."""
    tasks: tuple[TaskStats, ...]
    workers: tuple[WorkerStats, ...]


class Work(msgspec.Struct):
    """What a worker did in a minute."""

    calls: int = 0
    failed: int = 0
    busy: float = 0.0
    missing: int = 0


class Seen(msgspec.Struct):
    """What the last line of a worker said."""

    began: float
    until: float
    slots: int
    left: bool
    serial: int


class Minute(msgspec.Struct):
    """All that ended in a minute."""

    tasks: dict[str, TaskSums] = msgspec.field(default_factory=dict)
    workers: dict[str, Work] = msgspec.field(default_factory=dict)


class History:
    """Follows the journals of a spool.

    Args:
        store: the spool, whose clock was read.
        window: how far back to look, in seconds.
    """

    def __init__(self, store: Store, window: float) -> None:
        self._store, self._window = store, window
        self._read: dict[str, int] = {}
        self._minutes: dict[int, Minute] = {}
        self._seen: dict[str, Seen] = {}
        self.totals: dict[str, TaskSums] = {}
        """By task, of all lines that were read so far; this never gets less."""

    def update(self) -> None:
        """Read what is new."""
        start = self._start()
        hours = self._hours(start)
        for hour in hours:
            folder = self._store.layout.journal_hour(hour)
            for name in sorted(self._store.files.listed(folder, limit=_MOST_FILES, fresh=True)):
                if name.endswith(_SUFFIX):
                    for sums in self._new_lines(f"{folder}/{name}"):
                        self._take(name.removesuffix(_SUFFIX), sums, start)
        self._forget(hours, start)

    def _start(self) -> float:
        return (self._store.clock.now() - self._window) // _MINUTE * _MINUTE

    def _hours(self, start: float) -> list[str]:
        """The folders whose files may reach into the window."""
        now = self._store.clock.now()
        there = self._store.fs.names(self._store.layout.journal_folder, fresh=True)
        begins = ((name, start_of_hour(name)) for name in sorted(there))
        return [
            name
            for name, began in begins
            if began is not None and start - _HOUR < began <= now + _MINUTE
        ]

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
        self._read[path] = offset + len(whole) + len(newline)
        for line in whole.splitlines():
            sums = _decoded(line)
            if sums is not None:
                yield sums

    def _take(self, worker: str, sums: Sums, start: float) -> None:
        seen = self._seen.get(worker)
        if sums.until < start or (seen is not None and sums.serial <= seen.serial):
            return
        self._seen[worker] = Seen(sums.began, sums.until, sums.slots, sums.left, sums.serial)
        minute = self._minutes.setdefault(int(sums.until // _MINUTE), Minute())
        work = minute.workers.setdefault(worker, Work())
        work.busy += sums.busy
        work.missing += sums.missing
        for name, task in sums.tasks.items():
            work.calls += task.calls
            work.failed += task.failed
            minute.tasks.setdefault(name, TaskSums()).add(task)
            self.totals.setdefault(name, TaskSums()).add(task)

    def _forget(self, hours: Collection[str], start: float) -> None:
        for minute in [each for each in self._minutes if each < start // _MINUTE]:
            del self._minutes[minute]
        for worker in [name for name, seen in self._seen.items() if seen.until < start - _HOUR]:
            del self._seen[worker]
        folders = {self._store.layout.journal_hour(hour) for hour in hours}
        for path in [each for each in self._read if each.rpartition("/")[0] not in folders]:
            del self._read[path]

    # -- adding up ------------------------------------------------------------------------

    def stats(self, alive: Collection[str] = ()) -> Stats:
        """What was read, added up.

        Args:
            alive: names of the workers that are.
        """
        now, start = self._store.clock.now(), self._start()
        tasks: dict[str, TaskSums] = {}
        workers: dict[str, Work] = {}
        for minute in self._minutes.values():
            for name, sums in minute.tasks.items():
                tasks.setdefault(name, TaskSums()).add(sums)
            for name, work in minute.workers.items():
                total = workers.setdefault(name, Work())
                total.calls += work.calls
                total.failed += work.failed
                total.busy += work.busy
                total.missing += work.missing
        calls = sum(each.calls for each in tasks.values())
        first = min((self._seen[name].began for name in workers), default=start)
        return Stats(
            seconds=now - start,
            calls=calls,
            failed=sum(each.failed for each in tasks.values()),
            retried=sum(each.retried for each in tasks.values()),
            lost=sum(each.lost for each in tasks.values()),
            rate=calls / max(1.0, now - max(start, first)),
            missing=sum(each.missing for each in workers.values()),
            tasks=tuple(_of_task(name, tasks[name]) for name in sorted(tasks)),
            workers=tuple(
                self._of_worker(name, workers[name], start, now, name in alive)
                for name in sorted(workers)
            ),
        )

    def _of_worker(
        self, name: str, work: Work, start: float, now: float, alive: bool
    ) -> WorkerStats:
        seen = self._seen[name]
        # Of one that was killed the end is not known: it is the last that was heard.
        end = now if alive and not seen.left else seen.until
        there = seen.slots * (end - max(start, seen.began))
        return WorkerStats(
            worker=name,
            slots=seen.slots,
            calls=work.calls,
            failed=work.failed,
            busy=min(1.0, work.busy / there) if there > 0 else None,
            alive=alive,
        )


def read_stats(store: Store, window: float, alive: Collection[str] = ()) -> Stats:
    """What workers did lately.

    Args:
        store: the spool, whose clock was read.
        window: how far back to look, in seconds.
        alive: names of the workers that are.
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
        wait=Durations.of(sums.wait),
        run=Durations.of(sums.run),
    )


def _decoded(line: bytes) -> Sums | None:
    try:
        sums = _decoder.decode(line)
    except UNDECODABLE:
        return None
    return sums if sums.v == JOURNAL_FORMAT else None
