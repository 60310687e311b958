"""``fsqueue stats``, and what ``status`` and ``top`` show of the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fsqueue.cli.output import console, counted, duration, print_json, table
from fsqueue.cli.target import AppOption, JsonOption, RootOption, env, opened, seconds_of
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fsqueue.spool.history import Durations, Stats

RECENT = 300.0
"""Seconds that `status` and `top` look back."""
_SMALL = 1e-3
_SECOND, _HUNDRED = 1.0, 100.0


def stats(
    app: AppOption = None,
    root: RootOption = None,
    window: Annotated[
        str,
        typer.Option(
            metavar="AGE", envvar=env("stats-window"), help="How far back: 90, 15m, 2h, 7d."
        ),
    ] = "1h",
    as_json: JsonOption = False,
) -> None:
    """Show what workers did lately: failure rates, waiting and run times, and how busy they were.

    By task and by worker, from the sums in their journals. What a worker did in the last seconds
    may be missing, and what one did in its last ten that was killed.
    """
    from fsqueue.spool.census import look_at_workers
    from fsqueue.spool.history import read_stats

    with opened(app, root) as target:
        seconds = seconds_of(window)
        if not seconds:
            raise ConfigError("--window: expected more than 0 seconds")
        store = target.store
        workers = look_at_workers(store, heartbeat=target.app.conf.heartbeat)
        alive = {worker.name for worker in workers if worker.state == "alive"}
        found = read_stats(store, seconds, alive)
        if as_json:
            print_json(found)
            return
        for part in (summary(found), "", tasks_table(found), "", _workers_table(found)):
            console().print(part)


def summary(found: Stats) -> str:
    """One line about all tasks."""
    failed = f"failed: {found.failed}{_share(found.failed, found.calls)}"
    more = "".join(
        f"; {word}: {count}"
        for word, count in (("retried", found.retried), ("lost attempts", found.lost))
        if count
    )
    return (
        f"last {found.seconds // 60:.0f} min: {counted(found.calls, 'call')} ended, "
        f"{found.rate:.3g}/s; {failed}{more}"
    )


def tasks_table(found: Stats, most: int | None = None) -> RenderableType:
    """The tasks, those with the most calls first if not all are shown."""
    tasks = found.tasks
    if most is not None:
        tasks = tuple(sorted(tasks, key=lambda task: -task.calls)[:most])
    heads = ("TASK", "CALLS", "FAILED", "RETRIED", "LOST", "WAIT 50/95/99%", "RUN 50/95/99%")
    rows = [
        (
            task.task or "?",
            task.calls,
            f"{task.failed}{_share(task.failed, task.calls)}",
            task.retried,
            task.lost,
            _percentiles(task.wait),
            _percentiles(task.run),
        )
        for task in tasks
    ]
    return table(heads, rows) if rows else "no calls have ended"


def _workers_table(found: Stats) -> RenderableType:
    rows = [
        (
            worker.worker,
            "alive" if worker.alive else "left",
            worker.slots,
            busy(worker.busy),
            worker.calls,
            f"{worker.failed}{_share(worker.failed, worker.calls)}",
        )
        for worker in found.workers
    ]
    return table(("WORKER", "STATE", "SLOTS", "BUSY", "CALLS", "FAILED"), rows) if rows else ""


def busy(share: float | None) -> str:
    """How much of its slots' time a worker worked."""
    return "-" if share is None else f"{share:.0%}"


def _share(part: int, whole: int) -> str:
    return f" ({part / whole:.1%})" if part and whole else ""


def _percentiles(durations: Durations) -> str:
    return " / ".join(map(_short, (durations.p50, durations.p95, durations.p99)))


def _short(seconds: float | None) -> str:
    """Two or three digits: more are not known."""
    if seconds is None:
        return "-"
    if seconds < _SMALL:
        return "<1ms"
    if seconds < _SECOND:
        return f"{1000 * seconds:.2g}ms" if seconds < _SECOND / 10 else f"{1000 * seconds:.0f}ms"
    return f"{seconds:.1f}s" if seconds < _HUNDRED else duration(seconds)
