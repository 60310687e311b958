"""The workers: are they busy, and which one is slow or bad?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsqueue.common.printable import counted, duration
from fsqueue.monitor import charts
from fsqueue.monitor.charts import Bar, Lane
from fsqueue.monitor.pages.overview import steps
from fsqueue.monitor.pages.page import MissingError, Page
from fsqueue.monitor.words import percent, period
from fsqueue.spool.admin.attempts import attempts_on
from fsqueue.spool.admin.worker_rows import list_workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.monitor.looks import Look
    from fsqueue.monitor.pages.page import Ask
    from fsqueue.monitor.words import Clock
    from fsqueue.spool.admin.attempts import Attempt
    from fsqueue.spool.admin.snapshot import WorkerInfo
    from fsqueue.spool.history.statistics import WorkerStats

_MOST_ROWS = 200
# Factor over the usual run times from which the slowest worker is mentioned.
_SLOWER = 1.2
# Failures, and factor over the failing share of the other workers, from which one is mentioned.
_FAILED, _OFTENER = 5, 2.0
_SHORT = 600.0
# The most attempts and rows of a worker's timeline; attempts may share a row if they overlap by
# less than this many seconds.
_MOST_ATTEMPTS, _MOST_LANES, _TOUCH = 2_000, 64, 0.002
_LEVELS = {"alive": "", "silent": "warn", "dead": "bad", "died": "bad", "left": "dim"}
_ICONS = {"alive": "", "silent": "attention", "dead": "failed", "died": "failed", "left": "none"}


class Row(NamedTuple):
    """One worker: what its record says, and what it has done in the window."""

    name: str
    info: WorkerInfo | None
    """None if it has left or died."""
    stats: WorkerStats | None
    state: str
    level: str
    icon: str
    busy: list[float | None]
    failed: list[bool]
    pace: float | None
    """How long its calls take, as a multiple of the same tasks on all workers."""


def workers(ask: Ask) -> Page:
    """All workers, those that need a look first."""
    look = ask.look()
    rows = rows_of(look)
    facts = {"rows": rows[:_MOST_ROWS], "total": len(rows), "clock": ask.clock(),
             "start": look.now - look.window, "now": look.now}  # fmt: skip
    facts |= {"heading": _heading(rows, look), "summary": _summary(rows)}
    found = look.glance.snapshot.workers
    return Page("workers", "Workers", facts, {"workers": found}, section="workers")


def worker(ask: Ask) -> Page:
    """One worker, with the calls that it runs."""
    name = ask.parts[1]
    look = ask.look()
    row = next((each for each in rows_of(look) if each.name == name), None)
    if row is None:
        raise MissingError(
            f"there is no worker {name}, and none has left or died in the last "
            f"{period(look.window)}"
        )
    info = row.info
    if info is not None and len(info.running) < info.held:
        here = list_workers(ask.watch.store, heartbeat=ask.watch.heartbeat)
        info = next((each for each in here if each.name == name), info)
    lines = [each for each in look.failed if each.worker == name]
    attempts = attempts_on(ask.watch.store, name, look.now - look.window, most=_MOST_ATTEMPTS)
    clock = ask.clock()
    facts = {
        "row": row,
        "info": info,
        "failed": sorted(lines, key=lambda each: -each.ended)[:20],
        "timeline": _timeline(look, attempts, info, clock),
        "attempts": len(attempts),
        "cut": len(attempts) >= _MOST_ATTEMPTS,
        "clock": clock,
    }
    return Page("worker", name, facts, {"worker": info, "recent": row.stats}, section="workers")


def _timeline(
    look: Look, attempts: Sequence[Attempt], info: WorkerInfo | None, clock: Clock
) -> str:
    """The attempts of the window, and what runs now, in as many rows as ran at the same time."""
    spans = [
        (each.ended - each.entry.run, each.ended, _kind(each), _words(each)) for each in attempts
    ]
    spans += [
        (look.now - each.seconds, look.now, "run", f"{each.id}: running")
        for each in (info.running if info else ())
        if each.seconds is not None
    ]
    if not spans:
        return ""
    # Only the latest attempts of a busy worker are read, so the axis begins with them.
    first = max(look.now - look.window, min(each[0] for each in spans))
    whole = max(1.0, look.now - first)
    lanes: list[list[Bar]] = []
    ends: list[float] = []
    for start, end, kind, words in sorted(spans):
        at = next((row for row, until in enumerate(ends) if until <= start + _TOUCH), len(ends))
        if at == _MOST_LANES:
            continue
        if at == len(ends):
            lanes.append([])
            ends.append(end)
        ends[at] = end
        bar = Bar(max(0.0, (start - first) / whole), min(1.0, (end - first) / whole), kind, words)
        lanes[at].append(bar)
    label = (
        f"{counted(len(spans), 'attempt')} since {clock.at(first)}, at most {len(lanes)} at once"
    )
    moments = [first + whole * part / 4 for part in range(5)]
    # In a timeline of a few minutes, labels need seconds.
    times = [clock.exact(each)[-8:] if whole < _SHORT else clock.at(each) for each in moments]
    return charts.timeline(
        [Lane("slots", each) for each in lanes], charts.even_ticks(times), label=label
    )


def _kind(attempt: Attempt) -> str:
    state = attempt.entry.state
    return {"succeeded": "ok", "lost": "lost", "cancelled": "lost"}.get(state, "bad")


def _words(attempt: Attempt) -> str:
    entry = attempt.entry
    return f"{entry.id}\n{entry.task}\n{entry.state} after {duration(entry.run)}"


def rows_of(look: Look) -> list[Row]:
    """A row for each worker that lives, or has left or died in the window."""
    infos = {each.name: each for each in look.glance.snapshot.workers}
    stats = {each.worker: each for each in look.stats.workers}
    rows = [_row(look, name, infos.get(name), stats.get(name)) for name in
            {**infos, **stats}]  # fmt: skip
    return sorted(rows, key=_urgency)


def _row(
    look: Look,
    name: str,
    info: WorkerInfo | None,
    stats: WorkerStats | None,
) -> Row:
    state = info.state if info else "left" if stats and stats.left else "died"
    slots = (stats.slots if stats else 0) or (info.slots if info else 0) or 1
    began = int((look.now - (info.age or 0.0)) // 60) if info else 0
    busy: list[float | None] = []
    failed = []
    for first, after in steps(look):
        works = [
            look.minutes[each].workers[name]
            for each in range(first, after)
            if each in look.minutes and name in look.minutes[each].workers
        ]
        share = sum(each.busy for each in works) / (60 * slots * (after - first))
        busy.append(None if not works and (info is None or after <= began) else min(1.0, share))
        failed.append(any(each.failed for each in works))
    return Row(
        name,
        info,
        stats,
        f"{state}, draining" if info and info.draining else state,
        _LEVELS.get(state, ""),
        _ICONS.get(state, ""),
        busy,
        failed,
        stats.pace if stats else None,
    )


def _urgency(row: Row) -> tuple[int, float, str]:
    rank = {"bad": 0, "warn": 1, "": 2, "dim": 3}[row.level]
    share = row.stats.failed / row.stats.calls if row.stats and row.stats.calls else 0.0
    return rank, -share, row.name


def _heading(rows: list[Row], look: Look) -> str:
    alive = [each for each in rows if each.info is not None and each.info.is_alive]
    if not rows:
        return "No worker has been here"
    silent = sum(each.state.startswith(("silent", "dead")) for each in rows)
    parts = [f"{counted(len(alive), 'worker')} alive"]
    if silent:
        parts.append(f"{silent:,} silent or dead")
    held = sum(each.info.held for each in alive if each.info)
    slots = sum(each.info.slots for each in alive if each.info)
    busy = f"; {percent(held, slots)} of their slots are busy" if slots else ""
    old = f", {duration(look.age)} ago" if look.age > 2 * 10 else ""
    return ", ".join(parts) + busy + old


def _summary(rows: list[Row]) -> str:
    paced = [each for each in rows if each.pace is not None]
    if len(paced) < 2:  # noqa: PLR2004 - one has no others to compare it with
        return ""
    living = [each for each in paced if each.info is not None] or paced
    slowest = max(living, key=lambda each: each.pace or 0.0)
    text = "All take about as long for the same tasks."
    if (slowest.pace or 0.0) >= _SLOWER:
        text = (
            f"Slowest: {slowest.name}, whose calls take {slowest.pace:.2f} times as long as the "
            "same tasks on all workers."
        )
    return f"{text} {_failing(rows)}".rstrip()


def _failing(rows: list[Row]) -> str:
    """The worker on which calls fail much more often than on the others, if there is one."""
    found = [each.stats for each in rows if each.stats and each.stats.failed >= _FAILED]
    worst = max(found, key=lambda each: each.failed / max(1, each.calls), default=None)
    if worst is None:
        return ""
    others = [each.stats for each in rows if each.stats and each.stats is not worst]
    failed, calls = sum(each.failed for each in others), sum(each.calls for each in others)
    share, usual = worst.failed / max(1, worst.calls), failed / max(1, calls)
    if not calls or share < _OFTENER * usual:
        return ""
    return (
        f"Calls fail most often on {worst.worker}: {worst.failed:,} of {worst.calls:,}, "
        f"{percent(failed, calls)} on the others."
    )
