"""Runs: the calls of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsqueue.common.printable import counted, duration
from fsqueue.monitor.pages.overview import failure_trend
from fsqueue.monitor.pages.page import MissingError, Page
from fsqueue.monitor.words import period
from fsqueue.spool.admin.failures import grouped
from fsqueue.spool.admin.runs import Run, going_on, read_record, running_of
from fsqueue.spool.admin.runs import runs as find_runs
from fsqueue.spool.format.names import is_client_name

if TYPE_CHECKING:
    from fsqueue.monitor.looks import Look
    from fsqueue.monitor.pages.page import Ask
    from fsqueue.monitor.words import Clock

_MOST_ROWS = 200


class RunRow(NamedTuple):
    """One run in the list."""

    run: Run
    shares: list[tuple[str, float]]
    """Shares of its calls by colour, for the bar."""
    in_words: str
    """The bar in words."""
    until: str
    """When its calls will have ended."""
    level: str


def _row(run: Run, look: Look, clock: Clock) -> RunRow:
    running, waiting = run.running or 0, run.waiting or 0
    counts = {"ok": run.ended - run.failed, "bad": run.failed, "run": running, "wait": waiting}
    every = sum(counts.values()) or 1
    words = (
        f"{counts['ok']:,} succeeded, {run.failed:,} failed, {running:,} running, "
        f"{'at least ' * (not run.exact)}{waiting:,} waiting"
    )
    shares = [(kind, count / every) for kind, count in counts.items()]
    return RunRow(run, shares, words, *_until(run, look, clock))


def _until(run: Run, look: Look, clock: Clock) -> tuple[str, str]:
    if not (run.running or run.waiting):
        return "-", ""
    if run.ends is not None:
        return f"{clock.at(look.now + run.ends)}, in {duration(run.ends)}", ""
    return ("not at this rate", "warn") if run.exact else ("not known", "")


def runs(ask: Ask) -> Page:
    """The processes that made calls in the window, or whose calls ended in it."""
    look = ask.look()
    found = find_runs(ask.watch.store, look.stats, look.now - look.window, look.glance)
    during, clock = period(look.window), ask.clock()
    facts = {
        "runs": [_row(each, look, clock) for each in found[:_MOST_ROWS]],
        "heading": f"{counted(len(found), 'run')} in the last {during}"
        if found
        else f"No process has made calls in the last {during}",
        "total": len(found),
        "clock": clock,
    }
    return Page("runs", "Runs", facts, {"runs": found}, section="runs")


def run(ask: Ask) -> Page:
    """One process, with what failed of its calls."""
    client = ask.parts[1]
    if not is_client_name(client):
        raise MissingError(f"{client} is not the name of a run")
    look = ask.look()
    store = ask.watch.store
    record = read_record(store, client)
    ended, failed = look.stats.runs.get(client, (0, 0))
    if record is None and not ended and client not in look.glance.snapshot.unstarted:
        raise MissingError(
            f"there is no run {client}: nothing is known about it in the last {period(look.window)}"
        )
    here = store.fs.exists(store.layout.client_lock(client), fresh=True)
    found = going_on(
        Run(client=client, record=record, here=here, ended=ended, failed=failed),
        look.glance,
        running_of(look.glance),
    )
    mine = [each for each in look.failed if each.entry.id.rpartition("-")[0] == client]
    groups = grouped(mine)
    facts = {
        "run": found,
        "row": _row(found, look, ask.clock()),
        "groups": groups,
        "trends": {each.fp: failure_trend(look, each.fp) for each in groups},
        "clock": ask.clock(),
        "window_text": period(look.window),
    }
    return Page("run", client, facts, {"runs": [found]}, section="runs")
