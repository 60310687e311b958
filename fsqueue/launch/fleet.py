"""A fleet: submits batch jobs, and keeps their state in the spool in step with the batch system.

A slot is taken before a job is submitted and freed after the job has ended, so there are never
more jobs than slots, however many processes submit and whenever one of them is killed:

=======================================  =========================================================
dies, or loses the answer                what others find
=======================================  =========================================================
before the slots are taken               a submission without slots, which expires
before the submission                    slots of a dead process: freed when two listings, some
                                         time apart, do not show the jobs
after it, before the ids are written     the same, but a listing shows the jobs' name with the
                                         submission's token: the ids are written from there
the submission's answer is lost          the submission is marked as doubtful, and then the same
before a slot is freed                   two listings do not show the job, and how it ended is
                                         written: the slot is freed from there
=======================================  =========================================================

No process can see whether a submitter on another host is dead, so its slots stay taken for longer
than any submission may take. A submitter that was suspended for longer than that, and then submits,
finds its slots freed. It takes others, or cancels its jobs. A listing that fails frees nothing.
"""

from __future__ import annotations

import getpass
import logging
import time
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError
from fsqueue.launch.batch import (
    BatchError,
    DoubtfulError,
    RefusedError,
    batch_system,
    list_jobs,
    run,
    submit,
)
from fsqueue.launch.local import LOCAL, hurry, list_local
from fsqueue.launch.pace import Pace
from fsqueue.launch.sightings import JobInfo, identify, kind_of_end, see
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import FleetRecord, Member, PastRecord
from fsqueue.spool.format.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fsqueue.launch.batch import BatchSystem, Command, Listed, Reply
    from fsqueue.spool.files.files import Files

log: logging.Logger = logging.getLogger(__name__)

_TOKEN_LENGTH = 6


class Fleet:
    """Handle on one fleet.

    Args:
        name: the fleet's name.
        run: runs a command of the batch system.
        pace: how patient it is.

    Attributes:
        files: its state in the spool.
        pace: how patient it is.
    """

    def __init__(
        self,
        store: Files,
        name: str,
        *,
        run: Callable[[Command], Reply] = run,
        pace: Pace | None = None,
    ) -> None:
        self._store, self._run = store, run
        self.pace: Pace = pace or Pace()
        self.files: FleetFiles = FleetFiles(store, name)

    @property
    def name(self) -> str:
        """The fleet's name."""
        return self.files.name

    @property
    def record(self) -> FleetRecord:
        """The fleet's definition.

        Raises:
            SpoolError: there is no such fleet.
        """
        record = self.files.record()
        if record is None:
            raise SpoolError(f"there is no fleet {self.name} in {self._store.layout.root}")
        return record

    def _batch(self) -> BatchSystem:
        return batch_system(self.record.system)

    # -- submitting ---------------------------------------------------------------------

    def submit(self, count: int, script_of: Callable[[str, int], str]) -> list[Member]:
        """Submit up to `count` jobs, as many as there are free slots; an array if several.

        Args:
            count: how many.
            script_of: makes the script from the submission's token and the number of jobs.

        Returns:
            The jobs; empty if all slots are taken.

        Raises:
            RefusedError: the batch system refuses them; their slots are free again.
            DoubtfulError: they may exist; their slots stay taken until listings show it.
        """
        record, batch = self.record, self._batch()
        token, began = new_token(_TOKEN_LENGTH), self._store.fs.monotonic()
        self.files.begin(token, count)
        try:
            most = min(count, batch.longest_array)
            members = self.files.slots.take(token, most, record.max)
            # The fleet may have been stopped since this submission was decided.
            if not members or self.files.marked("stopped") is not None:
                self._give_up(token)
                return []
            script = script_of(token, len(members))
            self._check_time(began)
            ids = submit(batch, script, len(members), self._run)
        except DoubtfulError as error:
            self.files.doubt(token)
            self.files.note("no answer to a submission", str(error))
            raise
        except RefusedError as error:
            self._give_up(token)
            self.files.refuse(token, str(error))
            self.files.note("a submission was refused", str(error))
            raise
        except BaseException:  # nothing was submitted
            self._give_up(token)
            raise
        self._confirm(token, members, ids)
        return members

    def _confirm(self, token: str, members: Sequence[Member], ids: Mapping[int, str]) -> None:
        """Record jobs that exist. If this fails, listings show their ids."""
        try:
            # In this order: until the ids are written, other processes check whether the submission
            # has jobs.
            self._keep_or_cancel(members, ids)
            self.files.submitted(token, ids)
        except BaseException:  # for example, the definition cannot be read at the moment
            self.files.doubt(token)
            raise

    def _check_time(self, began: float) -> None:
        """Refuse to continue so late that other processes may consider this one dead."""
        if self._store.fs.monotonic() - began > self.pace.patience / 4:
            raise RefusedError("this process was suspended, or the shared directory is very slow")

    def _give_up(self, token: str) -> None:
        for member in self.files.slots.taken().values():
            if member.token == token:
                self.files.free(member, None)

    def _keep_or_cancel(self, members: Sequence[Member], ids: Mapping[int, str]) -> None:
        """Take slots again for jobs whose slots were freed meanwhile, or cancel the jobs."""
        held = set(self.files.slots.taken().values())
        most = self.record.max
        lost = [
            each for each in members if each not in held and not self.files.slots.adopt(each, most)
        ]
        if lost:
            self._cancel([ids[each.number] for each in lost if each.number in ids], waiting=False)
            self.files.note(f"cancelled {len(lost)} jobs: their slots were taken meanwhile")

    # -- keeping in step ----------------------------------------------------------------

    def hold(self) -> dict[Member, bool]:
        """Jobs that have slots, and whether a listing made from now on must show them.

        It need not show jobs whose submission is in progress.
        """
        held = dict.fromkeys(self.files.slots.taken().values(), False)
        settled = {token: self._is_settled(token) for token in {each.token for each in held}}
        return {member: settled[member.token] for member in held}

    def reconcile(self, held: Mapping[Member, bool], listing: Sequence[Listed]) -> list[JobInfo]:
        """Make the spool agree with a listing of the batch system's jobs.

        Args:
            held: what `hold` returned before the listing was requested.
            listing: complete; a listing that failed must not get here.
        """
        now_held = self.files.slots.taken().values()
        tokens = {member.token for member in (*held, *now_held)}
        tokens |= {job.token for job in listing if job.token not in tokens and self._knows(job)}
        ids = {token: self.files.ids(token) for token in tokens}
        found = identify([job for job in listing if job.token in tokens], ids)
        born = self.files.born()
        self._adopt_orphans(found, set(now_held))
        seen = []
        for member in dict.fromkeys((*held, *self.files.slots.taken().values())):
            job = found.get(member)
            present = job is not None and job.state != "ended"
            if not present and held.get(member) and self._was_absent(member):
                self._bury(member, job, ids[member.token], born)
                continue
            if present:
                self.files.note_present(member)
                if not ids[member.token] and held.get(member):
                    self._learn_ids(member.token, found)
            seen.append(see(member, job if present else None, ids, born))
        return seen

    def _knows(self, job: Listed) -> bool:
        """Whether a job belongs to this fleet, and not to one of the same name in another spool."""
        return bool(job.token) and self.files.submission(job.token) is not None

    def refresh(self) -> list[JobInfo]:
        """List the jobs of the batch system, and make the spool agree with it.

        Raises:
            BatchError: the listing failed: nothing has changed.
        """
        held = self.hold()
        return self.reconcile(held, self.list_batch_jobs())

    def make_room(self, count: int) -> None:
        """Free the slots of jobs that have ended, unless this many are already free.

        Waits for a second listing if the first one does not show all jobs.

        Raises:
            BatchError: a listing failed.
        """
        held = self.hold()
        listing = self.list_batch_jobs()
        jobs = self.reconcile(held, listing)
        if self.record.max - len(jobs) >= count:
            return
        live = {job.id for job in listing if job.state != "ended"}
        if any(job.id not in live for job in jobs):
            time.sleep(max(0.0, self.pace.gap))
            self.refresh()

    def sightings(self, listing: Sequence[Listed] = ()) -> list[JobInfo]:
        """The jobs that have slots. Writes nothing.

        Args:
            listing: the batch system's jobs, if they were listed.
        """
        born = self.files.born()
        held = self.files.slots.taken().values()
        ids = {member.token: self.files.ids(member.token) for member in held}
        found = identify([job for job in listing if job.token in ids], ids)
        return [see(member, found.get(member), ids, born) for member in held]

    def list_batch_jobs(self) -> Sequence[Listed]:
        """The batch system's list of this user's jobs, of any fleet.

        Raises:
            BatchError: it cannot be asked here, or has not answered.
        """
        if self.is_local:
            return list_local(self.files)
        return list_jobs(self._batch(), getpass.getuser(), self._run)

    @property
    def is_local(self) -> bool:
        """Whether its jobs are supervisors on this and other hosts, not batch jobs."""
        return self.record.system == LOCAL

    def _adopt_orphans(self, found: Mapping[Member, Listed], held: set[Member]) -> None:
        """Give slots to jobs without one, whose submitter seemed dead, or cancel them."""
        most = self.record.max
        for member, job in found.items():
            if member in held or job.state in {"ending", "ended"}:
                continue
            if self.files.slots.adopt(member, most):
                self.files.note(f"adopted job {job.id}", "it had no slot")
            else:
                self.files.note_cancelled(member)
                self._cancel([job.id], waiting=False)
                self.files.note(f"cancelled job {job.id}", "it had no slot, and none is free")

    def _learn_ids(self, token: str, found: Mapping[Member, Listed]) -> None:
        self.files.submitted(
            token, {each.number: job.id for each, job in found.items() if each.token == token}
        )

    def _is_settled(self, token: str) -> bool:
        """Whether a submission has ended."""
        if self.files.ids(token) or self.files.is_doubted(token):
            return True
        record = self.files.submission(token)
        if record is None or record.is_gone:
            return True
        return self.files.now() - record.began > self.pace.patience

    def _was_absent(self, member: Member) -> bool:
        """Record that a listing does not show a job; whether an earlier one did not either."""
        noted = self.files.note_absent(member)
        return noted is not None and self.files.now() - noted >= self.pace.gap

    def _bury(
        self,
        member: Member,
        job: Listed | None,
        ids: Mapping[int, str],
        born: Mapping[Member, float],
    ) -> None:
        if not ids and job is None and member not in born:
            self.files.free(member, None)  # it was never submitted
            return
        now = self.files.now()
        last = self.files.end(member)
        how = "CANCELLED" if self.files.is_cancelled(member) else job.reason if job else ""
        lived = now - born[member] if member in born else None
        kind, detail = kind_of_end(last, how, lived)
        past = PastRecord(kind=kind, at=now, id=ids.get(member.number, ""), detail=detail)
        self.files.free(member, past)
        self.files.note(f"job {past.id or member} has ended: {kind}", detail)

    # -- ending -------------------------------------------------------------------------

    def cancel(self, jobs: Iterable[JobInfo], *, waiting_only: bool) -> None:
        """Cancel jobs; their slots are freed once listings no longer show them.

        Raises:
            BatchError: the batch system did not do it.
        """
        known = [job for job in jobs if job.id]
        for job in known:
            self.files.note_cancelled(job.member)
        self._cancel([job.id for job in known], waiting=waiting_only)

    def _cancel(self, ids: Sequence[str], *, waiting: bool) -> None:
        if not ids or self.is_local:  # a supervisor sees the mark
            return
        command = self._batch().cancellation(ids, waiting_only=waiting)
        reply = self._run(command)
        if reply.code:
            # Some jobs may have ended meanwhile; the next listing shows the others.
            log.warning("%s ended with exit code %d: %s", command, reply.code, reply.err.strip())

    def end_jobs(self, ids: Sequence[str]) -> None:
        """Cancel jobs by their ids, whether they are waiting or running."""
        self._cancel(ids, waiting=False)

    def stop(self, jobs: Iterable[JobInfo], *, now: bool = False, why: str = "stopped") -> None:
        """Submit no more jobs, and cancel the waiting ones; with `now`, the running ones too.

        Workers of running jobs see the mark in the spool, and leave when they have finished their
        calls. The mark is set first, because it works even where the batch commands are missing.
        """
        self.files.mark("stopped", why)
        self.files.note("stopped", why)
        jobs = list(jobs)
        all_of_them = now or self.is_local
        try:
            self.cancel(
                jobs if all_of_them else [job for job in jobs if job.state == "waiting"],
                waiting_only=not all_of_them,
            )
            if now and self.is_local:
                hurry(self.files)
        except BatchError as error:
            log.warning("%s: its jobs were not cancelled: %s", self.name, error)

    def pause(self, why: str) -> None:
        """Submit no jobs until `resume`; existing jobs go on."""
        self.files.mark("paused", why)
        self.files.note("paused", why)

    def resume(self) -> None:
        """Submit jobs again, and forget failures. The first submission is one job, as a trial."""
        self.files.stamp("resumed")
        self.files.unmark("paused")
        self.files.unmark("stopped")
        self.files.note("resumed")

    def scale(self, most: int) -> None:
        """Change the largest number of jobs. Existing jobs go on."""
        from msgspec import structs

        record = self.record
        self.files.define(structs.replace(record, max=most, min=min(record.min, most)))
        self.files.note(f"at most {most} jobs")
