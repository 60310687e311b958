"""Batch jobs and the fleets that submit them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fsqueue.common.printable import counted
from fsqueue.errors import EnvelopeError
from fsqueue.monitor.pages.page import Page
from fsqueue.monitor.words import listed, period
from fsqueue.spool.fleets.fleets import FleetFiles, fleet_names

# msgspec reads the annotations of the fields at runtime.
from fsqueue.spool.fleets.records import EndRecord, FleetRecord, Note, PastRecord

if TYPE_CHECKING:
    from fsqueue.monitor.looks import Look
    from fsqueue.monitor.pages.page import Ask
    from fsqueue.spool.admin.snapshot import WorkerInfo
    from fsqueue.spool.store.store import Store

# A page reads the files of at most this many fleets, past jobs and decisions.
_FLEETS, _PAST, _NOTES = 20, 20, 8
_MOST_ROWS = 200


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A job that has ended."""

    job: str
    past: PastRecord
    end: EndRecord | None
    """The last report of its workers."""


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet according to its files in the spool; the batch system is not asked."""

    name: str
    record: FleetRecord | None
    state: str
    """open, paused, stopped, or unreadable."""
    reason: str = ""
    jobs: int = 0
    """Jobs that are submitted, wait or run."""
    born: int = 0
    """Those of them whose workers have started."""
    workers: int = 0
    """Its living workers."""
    ended: list[Ended] = []
    trail: list[Note] = []
    """Its last decisions."""


def jobs(ask: Ask) -> Page:
    """The fleets, the workers in batch jobs, and how the last jobs ended."""
    look = ask.look()
    store = ask.watch.store
    workers = [each for each in look.glance.snapshot.workers if each.batch and each.batch.job]
    names = fleet_names(store.files)
    fleets = [_fleet(store, name, workers) for name in names[:_FLEETS]]
    facts = {
        "heading": _heading(look, fleets, workers),
        "fleets": fleets,
        "more": len(names) - len(fleets),
        "workers": sorted(workers, key=lambda each: (each.left is None, each.left, each.name))[
            :_MOST_ROWS
        ],
        "total": len(workers),
        "clock": ask.clock(),
        "soon": 900.0,
    }
    document = {"fleets": fleets, "workers": workers}
    return Page("jobs", "Batch jobs", facts, document, section="jobs")


def _heading(look: Look, fleets: list[Fleet], workers: list[WorkerInfo]) -> str:
    if not fleets and not workers:
        return f"No batch job has run workers in the last {period(look.window)}"
    ids = {each.batch.job for each in workers if each.batch and each.is_alive}
    queued = sum(each.jobs - each.born for each in fleets)
    parts = [f"{counted(len(ids), 'batch job')} with living workers"]
    if queued > 0:
        parts.append(f"{queued:,} submitted and not started")
    closed = [each.name for each in fleets if each.state != "open"]
    if closed:
        parts.append(f"no more jobs for {listed(closed)}")
    return "; ".join(parts)


def _fleet(store: Store, name: str, workers: list[WorkerInfo]) -> Fleet:
    mine = [each for each in workers if each.batch and each.batch.fleet == name]
    alive = sum(each.is_alive for each in mine)
    try:
        files = FleetFiles(store.files, name)
        record = files.record()
        stopped, paused = files.marked("stopped"), files.marked("paused")
        taken, born = set(files.slots.taken().values()), files.born()
        ended = [
            Ended(job=past.id or str(member), past=past, end=files.end(member))
            for member, past in reversed(files.past(_PAST))
        ]
        trail = files.trail(_NOTES)
    except (OSError, EnvelopeError, ValueError) as error:
        return Fleet(name=name, record=None, state="unreadable", reason=str(error), workers=alive)
    state = "stopped" if stopped is not None else "paused" if paused is not None else "open"
    return Fleet(
        name=name,
        record=record,
        state=state,
        reason=stopped or paused or "",
        jobs=len(taken),
        born=len(taken & born.keys()),
        workers=alive,
        ended=ended,
        trail=list(reversed(trail)),
    )
