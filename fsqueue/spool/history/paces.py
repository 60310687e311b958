"""Paces: how long calls take on each worker, compared with the same tasks on all workers.

A worker's pace is the geometric mean, over its calls, of the run time divided by the typical run
time of the same task. So it does not matter which tasks a worker has run, and a single long call
hardly counts. Paces have a resolution of one hour, since each worker has separate numbers for each
task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.spool.history import sketch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.spool.history.entries import Sums

_HOUR = 3600.0
# With fewer attempts, a worker's pace is unknown. The number is low because slow workers have few.
_LEAST = 10


class Paces:
    """Adds up the run times of each worker, task and hour."""

    def __init__(self) -> None:
        # Counts of attempts, and sums of their buckets: a bucket is the logarithm of a duration.
        self._hours: dict[int, dict[tuple[str, str], tuple[int, int]]] = {}

    def add(self, worker: str, sums: Sums) -> None:
        """Add a line of a worker."""
        found = self._hours.setdefault(int(sums.until // _HOUR), {})
        for task, each in sums.tasks.items():
            count, total = found.get((worker, task), (0, 0))
            count += sum(each.run.values())
            total += sum(bucket * number for bucket, number in each.run.items())
            found[worker, task] = count, total

    def forget(self, before: float) -> None:
        """Drop the hours that ended before `before`."""
        for hour in [each for each in self._hours if (each + 1) * _HOUR < before]:
            del self._hours[hour]

    def compared(self, since: float) -> dict[str, float]:
        """The workers' paces in the hours since `since`; 1 is the average of all."""
        every: dict[str, tuple[int, int]] = {}
        for _, task, count, total in self._since(since):
            counts, totals = every.get(task, (0, 0))
            every[task] = counts + count, totals + total
        sums: dict[str, tuple[int, float]] = {}
        for worker, task, count, total in self._since(since):
            counts, totals = every[task]
            number, apart = sums.get(worker, (0, 0.0))
            sums[worker] = number + count, apart + total - count * totals / max(1, counts)
        return {
            worker: sketch.upper_bound(apart / number)
            for worker, (number, apart) in sums.items()
            if number >= _LEAST
        }

    def of_task(self, task: str, since: float) -> dict[str, tuple[int, float]]:
        """How often each worker ran a task since `since`, and the mean run time in seconds.

        It is the geometric mean, as for paces.
        """
        sums: dict[str, tuple[int, int]] = {}
        for worker, name, count, total in self._since(since):
            if name == task:
                counts, totals = sums.get(worker, (0, 0))
                sums[worker] = counts + count, totals + total
        return {
            worker: (count, sketch.upper_bound(total / count - 0.5))
            for worker, (count, total) in sums.items()
            if count
        }

    def _since(self, since: float) -> Iterator[tuple[str, str, int, int]]:
        for hour, found in self._hours.items():
            if (hour + 1) * _HOUR >= since:
                for (worker, task), (count, total) in found.items():
                    yield worker, task, count, total
