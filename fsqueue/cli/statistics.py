"""Statistics as text, for ``stats``, ``status`` and ``top``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.common.printable import counted, duration

if TYPE_CHECKING:
    from fsqueue.spool.history.statistics import Durations, Stats

_SMALL = 1e-3
_SECOND, _HUNDRED = 1.0, 100.0


def summary(found: Stats) -> str:
    """A line that sums up all tasks."""
    why = ", see fsqueue failures" if found.failed else ""
    failed = f"failed: {found.failed}{share(found.failed, found.calls)}{why}"
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


def busy(share: float | None) -> str:
    """A text for the share of its slots' time that a worker was busy."""
    return "-" if share is None else f"{share:.0%}"


def share(part: int, whole: int) -> str:
    """A text for a share in percent; empty if the share is 0."""
    return f" ({part / whole:.1%})" if part and whole else ""


def percentiles(durations: Durations) -> str:
    """A text for the median, and the 95th and 99th percentiles."""
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
