"""Which fleets can run which calls."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fsqueue.spool.fleets.fleets import FleetFiles, fleet_names

if TYPE_CHECKING:
    from fsqueue.spool.files.files import Files


def fleets_that_take(store: Files, folder: str) -> list[str]:
    """Names of the fleets whose jobs can run the calls of a queue's folder.

    Fleets that were stopped do not count; those that are paused do.
    """
    found = []
    for name in fleet_names(store):
        with contextlib.suppress(ValueError):  # a name that no fleet can have
            files = FleetFiles(store, name)
            record = files.record()
            if record is not None and record.takes(folder) and files.marked("stopped") is None:
                found.append(name)
    return found
