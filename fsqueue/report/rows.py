"""Numbers of a report as text and as the columns of charts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fsqueue.common.printable import duration, moment
from fsqueue.monitor.charts import Tick
from fsqueue.monitor.words import precise
from fsqueue.spool.history import sketch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsqueue.report.facts import Report, Window, WorkerRow
    from fsqueue.spool.history.statistics import Durations

_TICKS = 4
_DAY = 86_400.0
_DATE_AND_TIME = len("2026-11-28 09:00:00")


def percentiles(durations: Durations) -> str:
    """The median, and the 95th and 99th percentiles."""
    return " / ".join(map(precise, (durations.p50, durations.p95, durations.p99)))


def busy_share(row: WorkerRow) -> str:
    """How busy a worker was: a share, or the time if its slots are not known."""
    return duration(row.seconds) if row.busy is None else f"{row.busy:.0%}".replace("%", " %")


def when(seconds: float) -> str:
    """A time, to a second, in the time zone that the page names."""
    return moment(seconds)[:_DATE_AND_TIME]


def zone(seconds: float) -> str:
    """The time zone of this machine."""
    return f"UTC{moment(seconds)[_DATE_AND_TIME:]}"


def span_of_time(window: Window) -> str:
    """The period of a window, in words."""
    begin, end = when(window.begin), when(window.end)
    return f"between {begin} and {end} ({duration(window.seconds)})"


def ticks_of(report: Report) -> list[Tick]:
    """Labels of the time axis."""
    first = report.periods[0].at
    last = report.periods[-1].at + report.period
    form = "%H:%M" if last - first < _DAY else "%a %H:%M" if last - first < 7 * _DAY else "%d %b"
    count = _TICKS if form == "%H:%M" else _TICKS // 2  # long labels need more room
    return [
        Tick(
            number / count,
            datetime.fromtimestamp(first + (last - first) * number / count, UTC)
            .astimezone()
            .strftime(form),
        )
        for number in range(count + 1)
    ]


def histogram_of(counts: Mapping[int, int], columns: int) -> list[tuple[int, float, float]]:
    """Reduce a sketch to fewer columns: the count and the shortest and longest duration of each."""
    if not counts:
        return []
    first, last = min(counts), max(counts)
    step = max(1, -(-(last - first + 1) // columns))
    found = []
    for begin in range(first, last + 1, step):
        number = sum(counts.get(bucket, 0) for bucket in range(begin, begin + step))
        low, high = sketch.upper_bound(begin - 1), sketch.upper_bound(begin + step - 1)
        found.append((number, low, high))
    return found
