"""Groups failures by fingerprint, so that people see one entry for each kind of failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fsqueue.spool.admin.attempts import failed_attempts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fsqueue.spool.admin.attempts import Attempt
    from fsqueue.spool.store.store import Store

_SAMPLES = 5


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One failed call."""

    id: str
    attempt: int
    label: str
    worker: str
    ended: float


class FailureGroup(msgspec.Struct, kw_only=True):
    """All failures with the same fingerprint. Times are by the file server's clock."""

    fp: str
    """The fingerprint; empty for failures recorded by an older version."""
    type: str
    message: str
    """The latest message, shortened."""
    at: str
    """Where it was raised, if known."""
    calls: int = 0
    """Calls that failed with it."""
    retried: int = 0
    """Attempts that failed with it and were retried."""
    lost: int = 0
    """Attempts whose worker died, if that is why the call failed."""
    first: float
    last: float
    tasks: dict[str, int] = {}
    workers: dict[str, int] = {}
    samples: list[Sample] = []
    """The latest failed calls."""

    def add(self, found: Attempt) -> None:
        """Count an attempt."""
        entry = found.entry
        self.calls += entry.failed
        self.retried += entry.state == "retried"
        self.lost += entry.state == "lost"
        self.first = min(self.first, found.ended)
        if found.ended >= self.last:
            self.last, self.message, self.at = found.ended, entry.message, entry.at
        self.tasks[entry.task] = self.tasks.get(entry.task, 0) + 1
        self.workers[found.worker] = self.workers.get(found.worker, 0) + 1
        if entry.failed and (len(self.samples) < _SAMPLES or found.ended > self.samples[-1].ended):
            sample = Sample(
                id=entry.id,
                attempt=entry.attempt,
                label=entry.label,
                worker=found.worker,
                ended=found.ended,
            )
            latest = sorted([*self.samples, sample], key=lambda each: -each.ended)
            self.samples = latest[:_SAMPLES]


def failure_groups(store: Store, since: float, *, task: str = "") -> list[FailureGroup]:
    """Groups the failures after `since`, the group with the most failed calls first.

    Args:
        since: seconds since the epoch by the file server's clock.
        task: only failures of this task; empty for all.
    """
    return grouped(failed_attempts(store, since), task=task)


def grouped(attempts: Iterable[Attempt], *, task: str = "") -> list[FailureGroup]:
    """Groups failed attempts. An attempt that lost its worker counts only if its call failed.

    Cancelled calls do not count as failed.
    """
    groups: dict[str, FailureGroup] = {}
    for attempt in attempts:
        entry = attempt.entry
        if (task and entry.task != task) or not entry.failure:
            continue
        key = entry.fp or entry.failure
        if key not in groups:
            groups[key] = FailureGroup(
                fp=entry.fp,
                type=entry.failure,
                message=entry.message,
                at=entry.at,
                first=attempt.ended,
                last=attempt.ended,
            )
        groups[key].add(attempt)
    found = [each for each in groups.values() if each.calls or each.retried]
    return sorted(found, key=lambda each: (-each.calls, -each.retried, -each.last))
