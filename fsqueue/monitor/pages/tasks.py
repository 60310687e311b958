"""The tasks: how long they run and wait, and how often they fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.common.printable import counted
from fsqueue.monitor import charts
from fsqueue.monitor.charts import Tick
from fsqueue.monitor.pages.overview import failure_trend, steps, task_rows, ticks
from fsqueue.monitor.pages.page import MissingError, Page
from fsqueue.monitor.words import percent, period, precise
from fsqueue.spool.admin.failures import grouped
from fsqueue.spool.history import sketch
from fsqueue.spool.history.minutes import sums_by_task

if TYPE_CHECKING:
    from fsqueue.monitor.looks import Look
    from fsqueue.monitor.pages.page import Ask
    from fsqueue.monitor.words import Clock
    from fsqueue.spool.history.statistics import Durations

_MOST_ROWS = 200
_LEAST_BUCKETS = 12
_COLUMNS, _ROWS = 60, 24
_MOST_WORKERS = 20


def tasks(ask: Ask) -> Page:
    """All tasks with calls that ended in the window."""
    look = ask.look()
    rows = task_rows(look)
    during = period(look.window)
    facts = {
        "rows": rows[:_MOST_ROWS],
        "total": len(rows),
        "heading": f"{counted(len(rows), 'task')} in the last {during}"
        if rows
        else f"No call has ended in the last {during}",
        "stats": {each.task: each for each in look.stats.tasks},
    }
    return Page("tasks", "Tasks", facts, look.stats, section="tasks")


def task(ask: Ask) -> Page:
    """One task: the distributions of its run time and of its waiting time."""
    name = ask.parts[1]
    look = ask.look()
    stats = next((each for each in look.stats.tasks if each.task == name), None)
    if stats is None:
        raise MissingError(f"no call of {name} has ended in the last {period(look.window)}")
    sums = sums_by_task(look.minutes.values())[name]
    whole = sum(each.seconds for each in sums_by_task(look.minutes.values()).values())
    groups = grouped(look.failed, task=name)
    facts = {
        "name": name,
        "stats": stats,
        "summary": (
            f"{counted(stats.calls, 'call')} in the last {period(look.window)}, "
            f"{percent(sums.seconds, whole)} of all slot time. Half of them ran for at most "
            f"{precise(stats.run.p50)}, 95 % for at most {precise(stats.run.p95)}."
        ),
        "run_chart": distribution(sums.run, stats.run, "Run times"),
        "wait_chart": distribution(sums.wait, stats.wait, "Waiting times"),
        "heat_chart": _heat(look, ask.clock(), name),
        "workers": _by_worker(ask, name),
        "groups": groups,
        "trends": {each.fp: failure_trend(look, each.fp) for each in groups},
        "clock": ask.clock(),
    }
    return Page("task", name, facts, stats, section="tasks")


def _heat(look: Look, clock: Clock, name: str) -> str:
    """The run times over the window. If the dark cells move up, calls get slower."""
    times = steps(look, _COLUMNS)
    sums = [
        sums_by_task(look.minutes[each] for each in range(*step) if each in look.minutes).get(name)
        for step in times
    ]
    known = {bucket for each in sums if each for bucket in each.run}
    if not known:
        return ""
    first, last = min(known), max(known)
    joined = max(1, -(-(last - first + 1) // _ROWS))
    rows = -(-(last - first + 1) // joined)
    columns = [[0.0] * rows for _ in sums]
    titles = []
    for column, found, (start, _) in zip(columns, sums, times, strict=True):
        for bucket, count in found.run.items() if found else ():
            column[(bucket - first) // joined] += count
        titles.append(f"{clock.at(60 * start)}: {counted(int(sum(column)), 'attempt')}")
    names = [
        Tick(share, precise(sketch.upper_bound(first - 1 + round(share * rows * joined))))
        for share in (0.0, 0.5, 1.0)
    ]
    label = f"Run times of {name} over time, {names[0].text} to {names[-1].text}"
    return charts.heat(columns, titles, ticks(look, clock), names, label=label)


def _by_worker(ask: Ask, name: str) -> list[tuple[str, int, str, float]]:
    """Workers with their typical run time of a task and its share of the longest; slowest first."""
    found = ask.watch.by_worker(name, ask.seconds)
    rows = sorted(found.items(), key=lambda each: -each[1][1])[:_MOST_WORKERS]
    slowest = rows[0][1][1] if rows else 1.0
    return [
        (worker, count, precise(seconds), seconds / slowest) for worker, (count, seconds) in rows
    ]


def distribution(counts: dict[int, int], known: Durations, what: str) -> str:
    """A histogram of durations on a logarithmic scale, with percentiles."""
    if not counts:
        return ""
    first, last = min(counts), max(counts)
    extra = max(0, _LEAST_BUCKETS - (last - first + 1))
    first, last = first - extra // 2, last + extra - extra // 2
    buckets = range(first, last + 1)
    span = len(buckets)

    def at(seconds: float) -> float:
        return min(1.0, max(0.0, (sketch.bucket_of(seconds) - first + 0.5) / span))

    marks = [
        Tick(at(value), f"{share} %: {precise(value)}")
        for share, value in ((50, known.p50), (95, known.p95), (99, known.p99))
        if value is not None
    ]
    titles = [
        f"{precise(sketch.upper_bound(each - 1))} to {precise(sketch.upper_bound(each))}: "
        f"{counts.get(each, 0):,}"
        for each in buckets
    ]
    texts = [precise(sketch.upper_bound(first - 1 + round(span * part / 4))) for part in range(5)]
    label = f"{what}: half at most {precise(known.p50)}, 95 % at most {precise(known.p95)}"
    values = [counts.get(each, 0) for each in buckets]
    return charts.histogram(values, titles, charts.even_ticks(texts), marks, label=label)
