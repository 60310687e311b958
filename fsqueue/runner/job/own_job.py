"""The batch job in which a worker runs: its end, its fleet, and its part of the worker's record."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fsqueue.common.values import format_duration
from fsqueue.runner.job.cuts import JobEnded
from fsqueue.runner.job.fleet_member import FleetMember
from fsqueue.runner.job.job_watch import JobWatch, ParentWatch
from fsqueue.runner.job.lifetime import AUTO, JobEnd
from fsqueue.runner.processes.job import find_end, job_of, this_host
from fsqueue.spool.format.records import BatchJob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.runner.job.lifetime import Departure, Terms
    from fsqueue.spool.fleets.records import EndReason
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)


class OwnJob:
    """What a worker knows about its batch job. Outside of one, it may have a time limit.

    Args:
        terms: the worker's time limit and margin.
        environ: the environment variables, in which batch systems describe the job.

    Attributes:
        end: the job's end; unknown until `find_end`.
    """

    def __init__(self, store: Store, terms: Terms, environ: Mapping[str, str]) -> None:
        self._terms, self._environ = terms, environ
        self._monotonic = store.fs.monotonic
        self._job = job_of(environ)
        self.end: JobEnd = JobEnd(terms.stop_margin)
        self._member = FleetMember.of(store.files, self._job)

    def find_end(self) -> None:
        """Find out when the job ends. May ask the batch system, and wait for its answer."""
        now, limit = self._monotonic(), self._terms.time_limit
        if limit is None:
            return
        if limit != AUTO:
            self.end.learn(now + limit, now)
            return
        found = find_end(self._environ, this_host()._replace(monotonic=self._monotonic))
        if found is not None:
            self.end.learn(found.at, self._monotonic())
            left = format_duration(max(0, round(found.at - self._monotonic())))
            log.info("the job ends in %s, according to %s", left, found.source)
        elif self._job is not None:
            text = (
                "the end of job %s is unknown, so the worker cannot leave in time: give it a "
                "--time-limit"
            )
            log.warning(text, self._job.id)

    def time_left(self) -> float:
        """Seconds that a call may take if it is claimed now."""
        return self.end.room(self._monotonic())

    def describe(self, now: float) -> BatchJob | None:
        """The job for the worker's record; None without a job and an end.

        Args:
            now: the time by the file server's clock.
        """
        job, end = self._job, self.end
        until = round(now + end.at - self._monotonic(), 3) if end.known else 0.0
        if job is None:
            return BatchJob(until=until) if end.known else None
        return BatchJob(
            system=job.system,
            job=job.id,
            array_task=job.array_task,
            restart=job.restart,
            fleet=job.fleet,
            token=job.token,
            until=until,
        )

    def ended(self) -> JobEnded:
        """The end of the job, as recorded for each call that it interrupts."""
        return JobEnded("" if self._job is None else self._job.id, self.end.given)

    def ask_fleet(self) -> str:
        """Why the fleet wants the worker to leave; empty if it does not, or without a fleet."""
        return "" if self._member is None else self._member.ask()

    def tell_fleet(self, reason: EndReason, calls: int, worker: str) -> None:
        """Report why a worker leaves, and how many calls it has run."""
        if self._member is not None:
            self._member.note_end(reason, calls, worker)

    def watch(self, leave: Callable[[Departure], object]) -> JobWatch:
        """A watch for the end of the job, and of this process's parent if the worker depends on it.

        Args:
            leave: gives the running calls back and ends the process.
        """
        parent = ParentWatch(self._environ, in_job=self._terms.time_limit is not None)
        return JobWatch(self.end.last_call, parent, leave, self._monotonic)
