"""The first page: is anything wrong, and when will it be done?"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.common.printable import counted, duration
from fsqueue.monitor import charts
from fsqueue.monitor.attention import needs
from fsqueue.monitor.charts import Series, Tick
from fsqueue.monitor.estimates import Estimate, estimate, growth_of, recent
from fsqueue.monitor.pages.page import Page
from fsqueue.monitor.words import percent, period, precise, rate
from fsqueue.spool.admin.failures import grouped
from fsqueue.spool.admin.glance import as_document
from fsqueue.spool.format.names import split_profile
from fsqueue.spool.format.resources import queue_in_words
from fsqueue.spool.history.minutes import sums_by_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.monitor.looks import Look
    from fsqueue.monitor.pages.page import Ask
    from fsqueue.monitor.words import Clock
    from fsqueue.spool.admin.snapshot import QueueInfo
    from fsqueue.spool.history.entries import TaskSums

_MOST_ROWS, _MOST_NEEDS = 12, 8
_COLUMNS = 60
_SPARKS = 40
_BUCKETS = 22
# To the right of this, there is no room for a label besides "now".
_ROOM = 0.85


class QueueRow(NamedTuple):
    """A row of the table of queues."""

    queue: QueueInfo
    base: str
    """Its name without the needs of the calls."""
    name: str
    rate: str
    until: str
    state: str
    level: str
    trend: list[float]


class TaskRow(NamedTuple):
    """A row of the table of tasks."""

    name: str
    sums: TaskSums
    p50: str
    p95: str
    histogram: list[float]
    share: str


def overview(ask: Ask) -> Page:
    """The facts of the first page."""
    look, clock = ask.look(), ask.clock()
    snapshot = look.glance.snapshot
    groups, found = grouped(look.failed), needs(look)
    facts = {
        "sentence": sentence(look, clock),
        "summary": summary(look),
        "needs": found[:_MOST_NEEDS],
        "more_needs": max(0, len(found) - _MOST_NEEDS),
        "charts": _charts(look, clock),
        "queues": [_queue_row(look, queue, clock) for queue in snapshot.queues[:_MOST_ROWS]],
        "more_queues": max(0, len(snapshot.queues) - _MOST_ROWS),
        "tasks": task_rows(look)[:_MOST_ROWS],
        "groups": groups[:_MOST_ROWS],
        "trends": {each.fp: failure_trend(look, each.fp) for each in groups[:_MOST_ROWS]},
        "empty": _is_empty(look),
        "root": snapshot.root,
    }
    document = as_document(look.glance, look.age) | {
        "window": look.stats,
        "needs": found,
        "groups": groups,
    }
    return Page("overview", "Overview", facts, document, section="")


def _is_empty(look: Look) -> bool:
    """Whether nothing has happened in the spool yet."""
    snapshot, counts = look.glance.snapshot, look.glance.snapshot.counts
    calls = sum(each.due + each.delayed + each.waiting for each in snapshot.queues)
    ended = look.stats.calls + counts.failed + counts.waiting + counts.kept
    return not (calls or ended or snapshot.workers or look.stats.workers)


# The end of the sentence if no call has ended recently.
_NO_RATE = {
    "never": ", and none has ended in the last minutes.",
    "unknown": ". When they are done is not known yet.",
}


def sentence(look: Look, clock: Clock) -> str:
    """The answer to: when will it be done?"""
    queues = look.glance.snapshot.queues
    due = sum(each.due for each in queues)
    open_due = sum(each.due for each in queues if not each.paused and each.workers)
    running = sum(each.held for each in look.glance.snapshot.workers)
    if not due:
        later = sum(each.delayed + each.waiting for each in queues)
        if running:
            return f"{counted(running, 'call')} run{'s' * (running == 1)}, and none is due." + (
                f" {later:,} will be later." if later else ""
            )
        return f"No call is due; {later:,} will be later." if later else "No call waits or runs."
    waits = f"{counted(due, 'call')} wait{'s' * (due == 1)}"
    if not open_due:
        return f"{waits}, and no worker takes them."
    found = estimate(open_due, recent(look), growth_of(look))
    if found.kind in _NO_RATE:
        return f"{waits}{_NO_RATE[found.kind]}"
    if found.kind == "grows":
        return (
            f"{waits}. {rate(found.rate)} end, and the backlog grows by {found.growth:,.0f} "
            "a minute."
        )
    those = "they are" if open_due == due else f"{open_due:,} of them are"
    until = clock.at(look.now + found.seconds)
    left = duration(found.seconds)
    return f"{waits}. At {rate(found.rate)} {those} done at about {until}, in {left}."


def summary(look: Look) -> str:
    """The sentence about the workers and the calls that have ended."""
    workers = [each for each in look.glance.snapshot.workers if each.is_alive]
    slots, held = sum(each.slots for each in workers), sum(each.held for each in workers)
    hosts = len({each.host for each in workers})
    who = "No worker is alive."
    if workers:
        verb = "runs" if len(workers) == 1 else "run"
        who = (
            f"{counted(len(workers), 'worker')} on {counted(hosts, 'host')} {verb} "
            f"{counted(held, 'call')} in {counted(slots, 'slot')}."
        )
    stats = look.stats
    failed = f"{stats.failed:,} failed"
    if stats.failed:
        failed += f" ({percent(stats.failed, stats.calls)})"
    more = f" {counted(look.unread, 'file')} of the journal not read yet." if look.unread else ""
    during = period(look.window)
    return f"{who} In the last {during} {counted(stats.calls, 'call')} ended; {failed}.{more}"


# -- charts ---------------------------------------------------------------------------------


def steps(look: Look, count: int = _COLUMNS) -> list[tuple[int, int]]:
    """The window in steps of whole minutes: the first minute of each, and the one after it."""
    last = int(look.now // 60) + 1
    minutes = max(1, round(look.window / 60))
    count = min(count, minutes)
    edges = [last - minutes + minutes * index // count for index in range(count + 1)]
    return list(itertools.pairwise(edges))


def ticks(look: Look, clock: Clock, until: float | None = None, count: int = 4) -> list[Tick]:
    """Labels of the time axis, from the start of the window to now, or to a later time."""
    start, end = look.now - look.window, until or look.now
    times = [start + (end - start) * index / count for index in range(count + 1)]
    return charts.even_ticks([clock.at(each) for each in times])


def _charts(look: Look, clock: Clock) -> dict[str, Any]:
    return {
        "ended": ended_chart(look, clock),
        "backlog": backlog_chart(look, clock),
        "busy": busy_chart(look, clock),
    }


def ended_chart(look: Look, clock: Clock) -> str:
    """Calls that ended in each step of the window, by outcome."""
    kinds: dict[str, list[float]] = {"ok": [], "bad": [], "lost": []}
    titles = []
    for first, after in steps(look):
        found = [look.minutes[each] for each in range(first, after) if each in look.minutes]
        tasks = sums_by_task(found).values()
        calls = sum(each.calls for each in tasks)
        failed = sum(each.failed for each in tasks)
        cancelled = sum(each.cancelled for each in tasks)
        kinds["ok"].append(max(0, calls - failed - cancelled))
        kinds["bad"].append(failed)
        kinds["lost"].append(cancelled)
        when = f"{clock.at(60 * first)}" + (
            "" if after - first == 1 else f" to {clock.at(60 * after)}"
        )
        titles.append(
            f"{when}\n{calls - failed - cancelled:,} succeeded\n{failed:,} failed"
            + (f"\n{cancelled:,} cancelled" if cancelled else "")
        )
    series = [Series(kind, values) for kind, values in kinds.items()]
    label = (
        f"Calls that ended: {look.stats.calls:,} in the last {period(look.window)}, "
        f"of which {look.stats.failed:,} failed"
    )
    return charts.bars(series, titles, ticks(look, clock), label=label)


def _by_step(look: Look, values: Sequence[tuple[float, float]]) -> list[float]:
    """The last value known at the end of each step; values are pairs of time and number."""
    found, index, latest = [], 0, 0.0
    for _, after in steps(look):
        while index < len(values) and values[index][0] < 60 * after:
            latest = values[index][1]
            index += 1
        found.append(latest)
    return found


def backlog_chart(look: Look, clock: Clock) -> str:
    """How many calls were due, and how many will be."""
    now_due = sum(each.due for each in look.glance.snapshot.queues)
    gauges = [(each.at, float(sum(q.due for q in each.queues.values()))) for each in look.gauges]
    values = _by_step(look, [*gauges, (look.now, float(now_due))])
    found = estimate(now_due, recent(look), growth_of(look))
    label = f"Backlog: {now_due:,} calls are due"
    if found.kind != "done":
        return charts.lines(values, ticks(look, clock), label=label)
    ahead = min(found.late, 0.67 * look.window)
    until = look.now + ahead
    span = look.window / (look.window + ahead)

    def at(seconds: float) -> tuple[float, float]:
        """Where a line that reaches 0 after some seconds is, or leaves the chart."""
        shown = min(seconds, ahead)
        return span + (1 - span) * shown / ahead, now_due * (1 - shown / seconds)

    start = (span, float(now_due))
    marks = [Tick(0.0, clock.at(look.now - look.window)), Tick(span, "now")]
    if span < _ROOM:
        marks.append(Tick(1.0, clock.at(until)))
    return charts.lines(
        values,
        marks,
        label=f"{label}; all of them ended at about {clock.at(look.now + found.seconds)}",
        span=span,
        projection=[start, at(found.seconds)],
        band=[start, at(found.early), at(found.late)],
    )


def busy_chart(look: Look, clock: Clock) -> str:
    """Busy slots, and all slots."""
    alive = [each for each in look.glance.snapshot.workers if each.is_alive]
    held, slots = sum(each.held for each in alive), sum(each.slots for each in alive)
    busy = [*((each.at, float(each.busy)) for each in look.gauges), (look.now, float(held))]
    every = [*((each.at, float(each.slots)) for each in look.gauges), (look.now, float(slots))]
    label = f"Busy slots: {held:,} of {slots:,}"
    values, limits = _by_step(look, busy), _by_step(look, every)
    return charts.lines(values, ticks(look, clock), label=label, limits=limits)


# -- tables ---------------------------------------------------------------------------------


def _queue_row(look: Look, queue: QueueInfo, clock: Clock) -> QueueRow:
    found = estimate(queue.due, recent(look, queue.name), growth_of(look, queue.name))
    until, level = _until(look, queue, found, clock)
    state, level = _state(queue, level)
    trend = [
        (each.at, float(each.queues[queue.name].due) if queue.name in each.queues else 0.0)
        for each in look.gauges
    ]
    values = _by_step(look, [*trend, (look.now, float(queue.due))])
    return QueueRow(
        queue,
        split_profile(queue.name)[0],
        queue_in_words(queue.name),
        f"{found.rate:.3g}",
        until,
        state,
        level,
        values[-_SPARKS:],
    )


def _until(look: Look, queue: QueueInfo, found: Estimate, clock: Clock) -> tuple[str, str]:
    if queue.paused and queue.due:
        return "when resumed", "warn"
    if found.kind == "empty":
        return "-", ""
    if not queue.workers:
        return "never", "bad"
    if found.kind in _NO_RATE:
        return ("not at this rate", "warn") if found.kind == "never" else ("not known yet", "")
    if found.kind == "grows":
        return f"grows by {found.growth:,.0f} a minute", "warn"
    return f"{clock.at(look.now + found.seconds)}, in {duration(found.seconds)}", ""


def _state(queue: QueueInfo, level: str) -> tuple[str, str]:
    calls = queue.due + queue.delayed + queue.waiting
    if queue.paused:
        return "paused", "warn"
    if queue.workers or not calls:
        return "open", level
    if queue.fleets:
        return f"for a job of {', '.join(queue.fleets)}", level
    return f"no worker has {queue.need}" if queue.need else "no worker", "bad"


def task_rows(look: Look) -> list[TaskRow]:
    """The tasks, starting with the one that took the largest share of the time."""
    sums = sums_by_task(look.minutes.values())
    stats = {each.task: each for each in look.stats.tasks}
    whole = sum(each.seconds for each in sums.values())
    return [
        TaskRow(
            name,
            each,
            precise(stats[name].run.p50) if name in stats else "-",
            precise(stats[name].run.p95) if name in stats else "-",
            small_histogram(each.run),
            percent(each.seconds, whole),
        )
        for name, each in sorted(sums.items(), key=lambda item: -item[1].seconds)
    ]


def small_histogram(sketch: dict[int, int]) -> list[float]:
    """The buckets of a sketch, at most as many as a small chart has columns."""
    if not sketch:
        return []
    first, last = min(sketch), max(sketch)
    each = max(1, -(-(last - first + 1) // _BUCKETS))
    found = [0.0] * (-(-(last - first + 1) // each))
    for bucket, count in sketch.items():
        found[(bucket - first) // each] += count
    # A single bucket would fill the whole width.
    return [*found, *[0.0] * max(0, _BUCKETS // 2 - len(found))]


def failure_trend(look: Look, fp: str) -> list[float]:
    """How many calls failed with this fingerprint in each step of the window."""
    return [
        sum(look.minutes[each].failures.get(fp, 0) for each in range(*step) if each in look.minutes)
        for step in steps(look, _SPARKS)
    ]
