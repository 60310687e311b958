"""Runs: the calls of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.common.printable import counted
from fsqueue.monitor.pages.overview import failure_trend
from fsqueue.monitor.pages.page import MissingError, Page
from fsqueue.monitor.words import period
from fsqueue.spool.admin.failures import grouped
from fsqueue.spool.admin.runs import Run, read_record
from fsqueue.spool.admin.runs import runs as find_runs
from fsqueue.spool.format.names import is_client_name

if TYPE_CHECKING:
    from fsqueue.monitor.pages.page import Ask

_MOST_ROWS = 200


def runs(ask: Ask) -> Page:
    """The processes that have made calls in the window, or whose calls have ended in it."""
    look = ask.look()
    found = find_runs(ask.watch.store, look.stats, look.now - look.window)
    during = period(look.window)
    facts = {
        "runs": found[:_MOST_ROWS],
        "heading": f"{counted(len(found), 'run')} in the last {during}"
        if found
        else f"No process has made calls in the last {during}",
        "total": len(found),
        "clock": ask.clock(),
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
    if record is None and not ended:
        raise MissingError(
            f"there is no run {client}: nothing is known of it in the last {period(look.window)}"
        )
    here = store.fs.exists(store.layout.client_lock(client), fresh=True)
    found = Run(client=client, record=record, here=here, ended=ended, failed=failed)
    mine = [each for each in look.failed if each.entry.id.rpartition("-")[0] == client]
    groups = grouped(mine)
    facts = {
        "run": found,
        "groups": groups,
        "trends": {each.fp: failure_trend(look, each.fp) for each in groups},
        "clock": ask.clock(),
        "window_text": period(look.window),
    }
    return Page("run", client, facts, {"runs": [found]}, section="runs")
