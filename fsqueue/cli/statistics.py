"""Statistics as text, for ``stats``, ``status`` and ``top``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.cli.output import counted, table
from fsqueue.common.printable import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fsqueue.spool.history.statistics import Durations, Stats

_LONGEST_LABEL = 80
_SMALL = 1e-3
_SECOND, _HUNDRED = 1.0, 100.0


def summary(found: Stats) -> str:
    """A line that sums up all tasks."""
    failed = f"failed: {found.failed}{share(found.failed, found.calls)}"
    more = "".join(
        f"; {word}: {count}"
        for word, count in (
            ("cancelled", found.cancelled),
            ("retried", found.retried),
            ("lost attempts", found.lost),
        )
        if count
    )
    return (
        f"last {found.seconds // 60:.0f} min: {counted(found.calls, 'call')} ended, "
        f"{found.rate:.3g}/s; {failed}{more}"
    )


def tasks_table(found: Stats, most: int | None = None) -> RenderableType:
    """A table of the tasks; with `most`, only those with the most calls, the busiest first."""
    tasks = found.tasks
    if most is not None:
        tasks = tuple(sorted(tasks, key=lambda task: -task.calls)[:most])
    heads: tuple[str, ...] = (
        *("TASK", "CALLS", "FAILED", "RETRIED", "LOST"),
        *("WAIT 50/95/99%", "RUN 50/95/99%"),
    )
    rows: list[tuple[object, ...]] = [
        (
            task.task or "?",
            task.calls,
            f"{task.failed}{share(task.failed, task.calls)}",
            task.retried,
            task.lost,
            _percentiles(task.wait),
            _percentiles(task.run),
        )
        for task in tasks
    ]
    if any(task.failed_label for task in tasks):
        heads = (*heads, "LATEST FAILURE")
        labels = [task.failed_label[:_LONGEST_LABEL] for task in tasks]
        rows = [(*row, label) for row, label in zip(rows, labels, strict=True)]
    return table(heads, rows) if rows else "no calls have ended"


def busy(share: float | None) -> str:
    """A text for the share of its slots' time that a worker was busy."""
    return "-" if share is None else f"{share:.0%}"


def share(part: int, whole: int) -> str:
    """A text for a share in percent; empty if it is none."""
    return f" ({part / whole:.1%})" if part and whole else ""


def _percentiles(durations: Durations) -> str:
    return " / ".join(map(_short, (durations.p50, durations.p95, durations.p99)))


def _short(seconds: float | None) -> str:
    """A duration with the two or three digits that are known."""
    if seconds is None:
        return "-"
    if seconds < _SMALL:
        return "<1ms"
    if seconds < _SECOND:
        return f"{1000 * seconds:.2g}ms" if seconds < _SECOND / 10 else f"{1000 * seconds:.0f}ms"
    return f"{seconds:.1f}s" if seconds < _HUNDRED else duration(seconds)
