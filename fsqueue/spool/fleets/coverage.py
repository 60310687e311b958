"""Finds the fleets that can run a call, and those that submit no jobs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

import msgspec

from fsqueue.spool.fleets.fleets import FleetFiles, fleet_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.spool.files.files import Files


class ClosedFleet(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet that submits no jobs."""

    name: str
    state: Literal["paused", "stopped"]
    reason: str

    def __str__(self) -> str:
        return f"fleet {self.name} is {self.state}: {one_line(self.reason)}"


def one_line(reason: str) -> str:
    """Join a reason, which may quote a batch system or a log, into one line."""
    return " ".join(reason.split())


def closed_fleets(store: Files) -> list[ClosedFleet]:
    """The fleets that were paused or stopped, sorted by name."""
    known = (files for files in _fleets(store) if files.record() is not None)
    return [closed for files in known if (closed := _closed(files)) is not None]


def _fleets(store: Files) -> Iterator[FleetFiles]:
    for name in fleet_names(store):
        with contextlib.suppress(ValueError):  # a name that no fleet can have
            yield FleetFiles(store, name)


def _closed(files: FleetFiles) -> ClosedFleet | None:
    """A fleet that is both paused and stopped counts as stopped."""
    states: tuple[Literal["stopped", "paused"], ...] = ("stopped", "paused")
    for state in states:
        if (reason := files.marked(state)) is not None:
            return ClosedFleet(name=files.name, state=state, reason=reason)
    return None


def outlook(store: Files, name: str) -> str:
    """What a caller can expect of the fleet that can run its call, according to the spool."""
    files = FleetFiles(store, name)
    closed, taken = _closed(files), set(files.slots.taken().values())
    unborn = len(taken - set(files.born()))
    if closed is not None:
        text = f"but it is {closed.state}: {one_line(closed.reason)}"
    elif unborn:
        text = f"jobs that wait in the batch system or are starting: {unborn} of {len(taken)}"
    else:
        text = f"jobs that have workers: {len(taken) or 'none'}"
    return f"A job of the fleet {name} can run it; {text}. See `fsqueue fleet show {name}`"


def fleets_that_take(store: Files, folder: str) -> list[str]:
    """Names of the fleets whose jobs can run the calls of a queue's folder.

    Fleets that were stopped do not count; those that are paused do.
    """
    found = []
    for files in _fleets(store):
        record = files.record()
        if record is not None and record.takes(folder) and files.marked("stopped") is None:
            found.append(files.name)
    return found
