"""A pass over the lines of the journal: the failures, the slowest calls, and the sums of one run.

Lines are read and decoded in blocks, so each takes about a microsecond and no lasting memory.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import msgspec

from fsqueue.report.facts import SlowCall
from fsqueue.spool.admin.attempts import Attempt, attempt_of
from fsqueue.spool.admin.failures import FailureGroup, grouped
from fsqueue.spool.format.records import UNDECODABLE
from fsqueue.spool.history.entries import JOURNAL_FORMAT, Entry, Sums, TaskSums
from fsqueue.spool.history.lines import LineReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.report.facts import Window
    from fsqueue.spool.store.store import Store

_decode_lines = msgspec.json.Decoder(Entry).decode_lines


# The sums of a run are kept for at most this many pairs of an interval and a worker.
_MOST_PIECES = 2_000


class _Work:
    """The work of one worker for a run in one interval."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskSums] = {}
        self.busy = 0.0
        self.ended = self.failed = 0

    def count(self, entry: Entry) -> None:
        """Count an attempt."""
        sums = self.tasks.get(entry.task)
        if sums is None:
            sums = self.tasks[entry.task] = TaskSums()
        self.ended += sums.count(entry)
        self.failed += entry.failed
        self.busy += max(0.0, entry.run)

    def add(self, other: _Work) -> None:
        """Add the work of another interval."""
        for name, sums in other.tasks.items():
            self.tasks.setdefault(name, TaskSums()).add(sums)
        self.busy += other.busy
        self.ended += other.ended
        self.failed += other.failed


class Lines:
    """A summary of the lines of a window.

    Args:
        window: the period, and the run.
        slowest: how many of the slowest attempts to keep.
        step: seconds of an interval in the sums of a run; intervals may become longer.
    """

    def __init__(self, store: Store, window: Window, slowest: int, step: float) -> None:
        self._window, self._most = window, slowest
        self.step: float = step
        """Seconds of each interval in the sums of a run."""
        self._reader = LineReader(store)
        self._needle = f'"id":"{window.run}-'.encode() if window.run else b""
        self._heap: list[tuple[float, int, Entry, str]] = []
        self._kept = 0
        self._work: dict[tuple[str, int], _Work] = {}
        self.count: int = 0
        """Number of lines that were read; only those of the run, if there is one."""
        self.first: float = float("inf")
        self.last: float = 0.0
        """When the first and the last attempt of the run ended."""

    def read(self) -> list[FailureGroup]:
        """Read the lines, and return the groups of failures."""
        return grouped(self._failures())

    def _failures(self) -> Iterator[Attempt]:
        window = self._window
        for worker, data in self._reader.blocks(window.begin, window.end):
            entries = self._entries(worker, data)
            self.count += len(entries)
            for entry in entries:
                interesting = bool(entry.failure or entry.evidence or self._needle)
                if not interesting and self._full and entry.run <= self._heap[0][0]:
                    continue
                ended = entry.ended_at or entry.started + entry.run
                if not window.begin <= ended <= window.end:
                    continue
                self._keep(entry, worker)
                if self._needle:
                    self._add(entry, worker, ended)
                if entry.failure or entry.evidence:
                    yield Attempt(entry, entry.worker or worker, ended)

    @property
    def _full(self) -> bool:
        return len(self._heap) >= self._most

    def _entries(self, worker: str, data: bytes) -> list[Entry]:
        if self._needle:
            lines = [line for line in data.splitlines() if self._needle in line]
            data = b"\n".join(lines)
        try:
            entries = _decode_lines(data)
        except UNDECODABLE:  # some line is damaged
            found = (attempt_of(line, worker) for line in data.splitlines())
            return [each.entry for each in found if each is not None]
        return [entry for entry in entries if entry.v == JOURNAL_FORMAT]

    def _keep(self, entry: Entry, worker: str) -> None:
        if not entry.started:
            return
        self._kept += 1
        item = (entry.run, -self._kept, entry, worker)
        if not self._full:
            heapq.heappush(self._heap, item)
        elif item > self._heap[0]:
            heapq.heapreplace(self._heap, item)

    def _add(self, entry: Entry, worker: str, ended: float) -> None:
        """Count an attempt of the run."""
        self.first, self.last = min(self.first, ended), max(self.last, ended)
        key = worker, int(ended // self.step)
        work = self._work.get(key)
        if work is None:
            work = self._work[key] = _Work()
            if len(self._work) > _MOST_PIECES:
                self._coarsen()
                work = self._work[worker, int(ended // self.step)]
        work.count(entry)

    def _coarsen(self) -> None:
        """Merge intervals in pairs, since memory must not grow with the length of a run."""
        self.step *= 2
        fine, self._work = self._work, {}
        for (worker, number), work in fine.items():
            self._work.setdefault((worker, number // 2), _Work()).add(work)

    @property
    def slowest(self) -> list[SlowCall]:
        """The attempts that took the longest."""
        return [
            SlowCall(
                id=entry.id,
                task=entry.task,
                state=entry.state,
                worker=worker,
                attempt=entry.attempt,
                wait=entry.wait,
                run=entry.run,
                ended=entry.started + entry.run,
                label=entry.label,
            )
            for run, _, entry, worker in sorted(self._heap, reverse=True)
            if run > 0
        ]

    def sums(self) -> Iterator[tuple[str, Sums]]:
        """The sums of the run, as its workers would have written them."""
        for serial, ((worker, number), work) in enumerate(sorted(self._work.items())):
            began = number * self.step
            yield (
                worker,
                Sums(
                    serial=serial + 1,
                    began=began,
                    since=began,
                    until=began,
                    slots=1,
                    busy=work.busy,
                    tasks=work.tasks,
                    runs={self._window.run: (work.ended, work.failed)},
                ),
            )

    def left_out(self) -> Iterator[str]:
        """Descriptions of the files that could not be read."""
        if self._reader.unread:
            yield f"{self._reader.unread >> 20:,} MiB of lines of the journal"
        if not self._reader.complete:
            yield "the oldest lines of the journal: there are more than are read for a report"
