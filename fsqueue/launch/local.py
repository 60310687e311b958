"""The fleet ``local``: supervisors of workers that run outside of batch systems.

Each supervisor is one job of the fleet, with the id ``HOST:PID``. No batch system lists or cancels
it. A supervisor on this host is listed while its process exists, and one on another host while its
heartbeat is recent. It finds out from the spool that it was cancelled.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Final

from fsqueue.launch.batch import Listed
from fsqueue.launch.batch.request import NAME_PREFIX
from fsqueue.spool.disk.identity import host_name
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import MOST_JOBS, EndRecord, FleetRecord, Member, PastRecord
from fsqueue.spool.format.names import new_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.files.files import Files

LOCAL: Final = "local"
_TOKEN_LENGTH: Final = 6
# Seconds between heartbeats of a supervisor; after _SILENT without one, other hosts consider it
# gone.
_NOTE: Final = 60.0
_SILENT: Final = 300.0


def job_id(pid: int) -> str:
    """``HOST:PID`` of a process of this host."""
    return f"{host_name()}:{pid}"


class LocalJob:
    """One supervisor in the fleet ``local``.

    Args:
        app_id: the application.
        queues: queues of its workers.
        slots: calls that its workers run at a time.
    """

    def __init__(self, store: Files, app_id: str, queues: Sequence[str], slots: int) -> None:
        self._files, self._store = FleetFiles(store, LOCAL), store
        self._record = FleetRecord(
            name=LOCAL,
            system=LOCAL,
            app_id=app_id,
            queues=tuple(queues),
            walltime=0.0,
            slots=slots,
            max=MOST_JOBS,
        )
        self._member = Member(new_token(_TOKEN_LENGTH), 1)
        self._began = self._noted = store.fs.monotonic()

    def join(self) -> None:
        """Make the job visible.

        If this process dies in the middle, the next listing on this host frees the job.
        """
        self._files.define(self._record)
        self._files.unmark("stopped")
        self._files.begin(self._member.token, 1)
        self._files.slots.take(self._member.token, 1, MOST_JOBS)
        self._files.submitted(self._member.token, {1: job_id(os.getpid())})
        self._files.note_birth(self._member)

    def beat(self) -> bool:
        """Record a heartbeat; returns whether `fsqueue fleet stop local` was called since."""
        now = self._store.fs.monotonic()
        if now - self._noted > _NOTE:
            self._noted = now
            self._files.note_birth(self._member)
        return self._files.is_cancelled(self._member)

    def leave(self) -> None:
        """Free the slot, and record that the workers have left."""
        seconds = self._store.fs.monotonic() - self._began
        end = EndRecord(reason="drained", calls=0, seconds=seconds)
        self._files.note_end(self._member, end, "supervisor")
        past = PastRecord(kind="drained", at=self._files.now(), id=job_id(os.getpid()))
        self._files.free(self._member, past)


def list_local(files: FleetFiles) -> list[Listed]:
    """The supervisors of this spool that are alive, as far as this host can tell."""
    found, born = [], files.born()
    for member in files.slots.taken().values():
        record = files.submission(member.token)
        if record is None or record.is_gone:
            continue
        if record.host != host_name() and files.now() - born.get(member, record.began) > _SILENT:
            continue
        known = files.ids(member.token).get(member.number, job_id(record.pid))
        found.append(Listed(known, f"{NAME_PREFIX}-{LOCAL}-{member.token}", "running"))
    return found


def hurry(files: FleetFiles) -> None:
    """Make the workers of supervisors on this host return their calls at once."""
    for member in files.slots.taken().values():
        record = files.submission(member.token)
        if record is None or record.host != host_name() or record.is_gone:
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(record.pid, signal.SIGQUIT)
