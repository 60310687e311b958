"""A worker as a member of a fleet: it reports its start and end, and obeys a stop."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import EndRecord, Member

if TYPE_CHECKING:
    from fsqueue.runner.processes.job import Job
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.fleets.records import EndReason

log: logging.Logger = logging.getLogger(__name__)


class FleetMember:
    """A worker in one of a fleet's jobs. A job with several nodes has one worker on each.

    A worker can do without its fleet: errors here are logged, and it goes on.

    ==============================  ===============================================================
    dies                            what the fleet finds
    ==============================  ===============================================================
    before its birth is noted       a job without a worker, which counts as a failed start
    before its end is noted         a job that has ended without a report
    its end is noted, reply lost    the end: the file is replaced as a whole
    ==============================  ===============================================================

    Args:
        member: the job.
        restart: how often the batch system has requeued the job.
    """

    def __init__(self, files: FleetFiles, member: Member, restart: int) -> None:
        self._files, self._member, self._restart = files, member, restart
        self._began = time.monotonic()
        self._born = False

    @classmethod
    def of(cls, store: Files, job: Job | None) -> FleetMember | None:
        """The member that a job's environment names; None if the job belongs to no fleet."""
        if job is None or not job.fleet or not job.token:
            return None
        member = Member.parse(f"{job.token}.{job.number}")
        try:
            files = FleetFiles(store, job.fleet)
        except ValueError as error:
            log.warning("this worker reports to no fleet: %s", error)
            return None
        if member is None:
            log.warning("this worker reports to no fleet: %r is not a submission token", job.token)
            return None
        return cls(files, member, job.restart)

    def ask(self) -> str:
        """Record the worker's start, and return why it should leave; empty if it should not.

        Called before the first claim and at every heartbeat. From the second time on, it costs two
        `stat` calls.
        """
        try:
            if not self._born:
                self._files.note_birth(self._member)
                self._born = True
            reason = self._files.marked("stopped")
            if reason is not None:
                return f"its fleet {self._files.name} is stopped: {reason}"
            if self._files.is_cancelled(self._member):
                return f"its fleet {self._files.name} cancels this job"
        except (OSError, SpoolError) as error:
            log.warning("cannot check fleet %s, trying again: %s", self._files.name, error)
        return ""

    def note_end(self, reason: EndReason, calls: int, worker: str) -> None:
        """Record why the worker leaves.

        Args:
            reason: why it leaves.
            calls: how many calls it has run.
            worker: its name.
        """
        seconds = time.monotonic() - self._began
        end = EndRecord(reason=reason, calls=calls, seconds=seconds, restart=self._restart)
        try:
            self._files.note_end(self._member, end, worker)
        except (OSError, SpoolError) as error:
            text = "cannot tell fleet %s why this worker leaves: %s"
            log.warning(text, self._files.name, error)
