"""The logs of a fleet's jobs."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError

if TYPE_CHECKING:
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.fleets.fleets import FleetFiles

_LOG_BYTES = 1 << 16


def log_tail(store: Files, fleet: FleetFiles, lines: int = 10, job_id: str = "") -> list[str]:
    """The last lines of the log that was written to most recently; empty if there is none.

    Anything that is not a text file or cannot be read is skipped.

    Args:
        fleet: the fleet.
        lines: the most lines to return, from the last 64 KiB.
        job_id: only read the logs of this job of the batch system.
    """
    fs = store.fs
    names = [name for name in fs.names(fleet.logs) if _is_log_of(name, job_id)]
    written: list[tuple[float, int, str]] = []
    for path in (f"{fleet.logs}/{name}" for name in names):
        with contextlib.suppress(OSError):
            status = fs.status(path, follow=False)
            written.append((status.st_mtime, status.st_size, path))
    for _, size, path in sorted(written, reverse=True):
        with contextlib.suppress(OSError, SpoolError):
            data = fs.read_part(path, _LOG_BYTES, max(0, size - _LOG_BYTES))
            if found := data.decode(errors="replace").splitlines()[-lines:]:
                return found
    return []


def _is_log_of(name: str, job_id: str) -> bool:
    """Whether a file is the log of a job: ``1234[7]``, ``1234.7`` or ``1234_7``, by system."""
    wanted = re.findall(r"[A-Za-z0-9]+", job_id)
    return re.findall(r"[A-Za-z0-9]+", name)[: len(wanted)] == wanted
