"""Gathers what a report says, from a spool or from a copy of its journal alone.

It only reads. The only payloads that it opens are descriptions of exceptions, which are text.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fsqueue.errors import FSQueueError
from fsqueue.monitor.attention import in_period
from fsqueue.report.attempts import Lines
from fsqueue.report.facts import (
    JOBS_OF,
    FailureRow,
    Job,
    Limits,
    Period,
    Report,
    TaskRow,
    Totals,
    Window,
    WorkerRow,
    cut,
)
from fsqueue.spool.admin.runs import runs
from fsqueue.spool.features.body_reports import latest_output, read_output
from fsqueue.spool.fleets.fleets import FleetFiles, fleet_names
from fsqueue.spool.history.gauges import read_gauges
from fsqueue.spool.history.lines import hours_of
from fsqueue.spool.history.minutes import sums_by_task
from fsqueue.spool.history.statistics import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fsqueue.spool.admin.failures import FailureGroup
    from fsqueue.spool.admin.snapshot import Snapshot
    from fsqueue.spool.history.gauges import Gauge
    from fsqueue.spool.history.minutes import Minute
    from fsqueue.spool.history.statistics import Stats, WorkerStats
    from fsqueue.spool.store.store import Store

_MINUTE, _HOUR = 60.0, 3600.0
# Charts have about this many columns at most, each a multiple of _STEP seconds long.
_COLUMNS, _STEP = 120, 30.0


class Sources(NamedTuple):
    """Where a report takes its facts from."""

    store: Store
    snapshot: Snapshot | None
    """Of the spool now; None for a copy of the journal."""
    traceback: Callable[[bytes | memoryview, str], str]
    """The text of an exception's description, which must not unpickle it."""
    versions: dict[str, str]
    settings: dict[str, Any]


def gather(sources: Sources, window: Window, limits: Limits) -> Report:
    """Everything that a report says. The window begins with a full column of its charts."""
    store = sources.store
    period = _period_of(window)
    window = msgspec.structs.replace(window, begin=window.begin // period * period)
    lines = Lines(store, window, limits.slowest, _STEP)
    groups = lines.read()
    if window.run and lines.last:
        window = msgspec.structs.replace(window, end=lines.last)
    period = max(lines.step, _period_of(window))
    history = _history(store, window, lines, period)
    periods = {number * period: each for number, each in history.minutes().items()}
    snapshot = sources.snapshot
    alive = {each.name for each in snapshot.workers if each.is_alive} if snapshot else ()
    stats = history.stats(alive)
    left_out = list(lines.left_out())
    if stats.missing:
        left_out.append(f"the lines of {stats.missing:,} attempts: workers did not write them")
    gauges = list(_gauges(store, window))
    # For a copy, or for a past period, it is not known which workers are still alive.
    is_now = snapshot is not None and store.clock.now() - window.end < _MINUTE
    workers = _workers(periods, stats, window, period, is_now=is_now)
    tasks = _tasks(periods, stats)
    jobs = [] if window.run else _jobs(store, window, left_out)
    found = [each for each in groups if each.calls or each.retried]
    report = Report(
        made=store.clock.now(),
        root=store.layout.root,
        window=window,
        period=period,
        journal_alone=sources.snapshot is None,
        totals=_totals(stats, periods),
        attention=[],
        periods=_periods(periods, [] if window.run else gauges, window, period),
        runs=cut(_runs(store, stats, window), limits.runs, "runs", left_out),
        workers=cut(workers, limits.workers, "workers", left_out),
        tasks=cut(tasks, limits.tasks, "tasks", left_out),
        failures=[
            _failure(sources, group, limits)
            for group in cut(found, limits.failures, "groups of failures", left_out)
        ],
        slowest=lines.slowest,
        jobs=cut(jobs, limits.jobs, "batch jobs", left_out),
        versions=sources.versions,
        settings=sources.settings,
        left_out=left_out,
    )
    last = gauges[-1] if gauges and not window.run else None
    return _with_attention(report, stats, last)


def _with_attention(report: Report, stats: Stats, last: Gauge | None) -> Report:
    """The report with the list of what needs attention, by the rules of the web page."""
    states = {each.worker: each.state for each in report.workers}
    failures = [each.group for each in report.failures]
    return msgspec.structs.replace(report, attention=list(in_period(stats, states, failures, last)))


def _history(store: Store, window: Window, lines: Lines, period: float) -> History:
    """The sums of the window, or those of the run."""
    history = History(store, window.seconds, until=window.end, period=period)
    if window.run:
        for worker, sums in lines.sums():
            history.add(worker, sums)
    else:
        history.update()
    return history


def _period_of(window: Window) -> float:
    return max(1, math.ceil(window.seconds / _COLUMNS / _STEP)) * _STEP


def _totals(stats: Stats, periods: Mapping[float, Minute]) -> Totals:
    return Totals(
        calls=stats.calls,
        failed=stats.failed,
        retried=stats.retried,
        lost=stats.lost,
        cancelled=stats.cancelled,
        seconds=sum(work.busy for each in periods.values() for work in each.workers.values()),
    )


# -- over time --------------------------------------------------------------------------------


def _gauges(store: Store, window: Window) -> Iterator[Gauge]:
    for hour, began in reversed(hours_of(store)):
        if began + _HOUR >= window.begin and began <= window.end:
            for gauge in read_gauges(store, hour):
                if window.begin <= gauge.at <= window.end:
                    yield gauge


def _periods(
    ended: Mapping[float, Minute], gauges: list[Gauge], window: Window, period: float
) -> list[Period]:
    """A column for each period of the window, including those in which nothing happened."""
    counted: dict[float, list[Gauge]] = {}
    for gauge in gauges:
        counted.setdefault(gauge.at // period * period, []).append(gauge)
    first = window.begin // period
    found = []
    for number in range(max(1, math.ceil(window.end / period - first))):
        at = (first + number) * period
        minute, seen = ended.get(at), counted.get(at, [])
        sums = list(minute.tasks.values()) if minute else []
        failed = sum(each.failed for each in sums)
        work = minute.workers.values() if minute else ()
        found.append(
            Period(
                at=at,
                succeeded=max(0, sum(each.calls - each.cancelled for each in sums) - failed),
                failed=failed,
                due=max((_due(each) for each in seen), default=None),
                waiting=max((_waiting(each) for each in seen), default=0),
                slots=max((each.slots for each in seen), default=None),
                busy=round(sum(each.busy for each in work) / period, 3),
            )
        )
    return found


def _due(gauge: Gauge) -> int:
    return sum(queue.due for queue in gauge.queues.values())


def _waiting(gauge: Gauge) -> int:
    return gauge.parked + sum(each.delayed + each.waiting for each in gauge.queues.values())


# -- rows -------------------------------------------------------------------------------------


def _workers(
    periods: Mapping[float, Minute], stats: Stats, window: Window, period: float, *, is_now: bool
) -> list[WorkerRow]:
    """The workers; those that died and those with the most failures come first."""
    known = {each.worker: each for each in stats.workers}
    names = {name for each in periods.values() for name in each.workers}
    first = window.begin // period
    count = max(1, math.ceil(window.end / period - first))
    rows = []
    for name in names:
        works = {at: each.workers[name] for at, each in periods.items() if name in each.workers}
        stat = None if window.run else known.get(name)
        if stat is None and not window.run:
            continue  # not a worker: a client that recorded its cancellations
        slots = stat.slots if stat else 1
        shares, failures = [0.0] * count, [0] * count
        for at, work in works.items():
            place = min(count - 1, int(at // period - first))
            shares[place] = round(min(1.0, work.busy / period / max(1, slots)), 3)
            failures[place] = work.failed
        rows.append(
            WorkerRow(
                worker=name,
                state="" if stat is None else _state(stat, is_now=is_now),
                slots=stat.slots if stat else 0,
                calls=sum(each.calls for each in works.values()),
                failed=sum(each.failed for each in works.values()),
                seconds=sum(each.busy for each in works.values()),
                busy=stat.busy if stat else None,
                shares=shares,
                failures=failures,
            )
        )
    return sorted(rows, key=lambda row: (row.state != "died", -row.failed, row.worker))


def _state(stat: WorkerStats, *, is_now: bool) -> str:
    if stat.left:
        return "left"
    return ("alive" if stat.alive else "died") if is_now else ""


def _tasks(periods: Mapping[float, Minute], stats: Stats) -> list[TaskRow]:
    """The tasks, by the time that they took."""
    sums = sums_by_task(periods.values())
    rows = [
        TaskRow(stats=each, seconds=sums[each.task].seconds, run=sums[each.task].run)
        for each in stats.tasks
    ]
    return sorted(rows, key=lambda row: (-row.seconds, row.stats.task))


def _runs(store: Store, stats: Stats, window: Window) -> list[Any]:
    found = runs(store, stats, window.begin)
    in_time = (
        each for each in found if each.ended or (each.record and each.record.started <= window.end)
    )
    return [each for each in in_time if not window.run or each.client == window.run]


def _failure(sources: Sources, group: FailureGroup, limits: Limits) -> FailureRow:
    """A group, with the traceback and the output of its latest call that has any."""
    if sources.snapshot is None:
        return FailureRow(group=group)
    files = sources.store.files
    for sample in group.samples:
        trace = _traceback(sources, sample.id)
        data = b""
        with contextlib.suppress(OSError):  # the folder of outputs may be closed to the reader
            data = read_output(files, latest_output(files, sample.id))
        output = data[-4 * limits.text :].decode("utf-8", "replace")[-limits.text :]
        if trace or output:
            trace = trace[-limits.text :]
            return FailureRow(group=group, sample=sample.id, traceback=trace, output=output)
    return FailureRow(group=group)


def _traceback(sources: Sources, invocation_id: str) -> str:
    outcomes = sources.store.outcomes
    try:
        data = outcomes.peek(invocation_id)
        if data is None:
            return ""
        outcome, payload = outcomes.read(invocation_id, data)
    except (OSError, FSQueueError):
        return ""
    if outcome.failure is None or outcome.members or not payload.data:
        return ""
    return sources.traceback(payload.data, outcome.codec)


def _jobs(store: Store, window: Window, left_out: list[str]) -> list[Job]:
    """The batch jobs that have ended in the window, and how."""
    found: list[Job] = []
    for name in fleet_names(store.files):
        try:
            found += _jobs_of(FleetFiles(store.files, name), window)
        except ValueError:  # a name that no fleet can have
            continue
        except OSError as error:
            left_out.append(f"{JOBS_OF}{name}: {error.strerror}")
    return found


def _jobs_of(fleet: FleetFiles, window: Window) -> list[Job]:
    ended = [
        (member, past, fleet.end(member))
        for member, past in fleet.past()
        if window.begin <= past.at <= window.end
    ]
    return [
        Job(
            fleet=fleet.name,
            job=past.id or str(member),
            state=past.kind,
            detail=past.detail,
            calls=last.calls if last else None,
            ended=past.at,
        )
        for member, past, last in ended
    ]
