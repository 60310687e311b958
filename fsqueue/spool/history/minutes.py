"""What ended in a period of time, added up by task, worker, queue and caller."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from fsqueue.spool.history.entries import TaskSums

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Work(msgspec.Struct):
    """A worker's work in one minute."""

    calls: int = 0
    failed: int = 0
    busy: float = 0.0
    missing: int = 0


class Minute(msgspec.Struct):
    """All calls that ended in one minute, by task and by worker."""

    tasks: dict[str, TaskSums] = msgspec.field(default_factory=dict)
    workers: dict[str, Work] = msgspec.field(default_factory=dict)
    queues: Counter[str] = msgspec.field(default_factory=Counter)
    failures: Counter[str] = msgspec.field(default_factory=Counter)
    runs: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)


def sums_by_task(minutes: Iterable[Minute]) -> dict[str, TaskSums]:
    """The totals by task over several minutes."""
    tasks: dict[str, TaskSums] = {}
    for minute in minutes:
        for name, sums in minute.tasks.items():
            tasks.setdefault(name, TaskSums()).add(sums)
    return tasks


def all_runs(minutes: Iterable[Minute]) -> dict[str, tuple[int, int]]:
    """The calls of several minutes, by client: those that ended, and those that failed."""
    found: dict[str, tuple[int, int]] = {}
    for minute in minutes:
        add_runs(found, minute.runs)
    return found


def add_runs(into: dict[str, tuple[int, int]], other: Mapping[str, tuple[int, int]]) -> None:
    """Add the calls of each client to those counted so far."""
    for client, (ended, failed) in other.items():
        before = into.get(client, (0, 0))
        into[client] = before[0] + ended, before[1] + failed
