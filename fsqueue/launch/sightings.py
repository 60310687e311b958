"""The states of a fleet's jobs, and how they have ended: from listings and from the spool."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsqueue.spool.fleets.records import Member

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fsqueue.launch.batch import Listed
    from fsqueue.spool.fleets.records import EndRecord, PastKind

# A job that ends before this many seconds, without finishing a call or reporting why it left, has
# failed.
YOUNG = 60.0


class JobInfo(NamedTuple):
    """The latest known state of a fleet's job."""

    member: Member
    state: str
    """submitting, waiting, starting, running, ending or missing."""
    id: str = ""
    reason: str = ""
    start: str = ""


def identify(
    listing: Sequence[Listed], ids: Mapping[str, Mapping[int, str]]
) -> dict[Member, Listed]:
    """Match the jobs of a listing to members: by id, or by the number at the end of the id.

    In some systems, ids of array jobs contain no number. While such ids are not known, the jobs
    are numbered in their order.
    """
    found: dict[Member, Listed] = {}
    unnumbered = []
    for job in listing:
        known = {job_id: number for number, job_id in ids[job.token].items()}
        number = known.get(job.id, job.number)
        if number is None:
            unnumbered.append(job)
        else:
            found[Member(job.token, number)] = job
    for job in sorted(unnumbered, key=lambda each: (len(each.id), each.id)):
        taken = {member.number for member in found if member.token == job.token}
        number = next(each for each in range(1, len(taken) + 2) if each not in taken)
        found[Member(job.token, number)] = job
    return found


def see(
    member: Member,
    job: Listed | None,
    ids: Mapping[str, Mapping[int, str]],
    born: Mapping[Member, float],
) -> JobInfo:
    """The state of a job that has a slot.

    Args:
        member: the job.
        job: its line in a listing; None without one.
        ids: known ids of each submission, by the jobs' numbers.
        born: jobs whose workers have started.
    """
    known = ids.get(member.token, {})
    job_id = job.id if job else known.get(member.number, "")
    if job is not None and job.state != "running":
        return JobInfo(member, job.state, job_id, job.reason, job.start)
    if member in born:
        return JobInfo(member, "running", job_id)
    if job is not None:
        return JobInfo(member, "starting", job_id)
    return JobInfo(member, "waiting" if known else "submitting", job_id)


# The batch systems' words for ends that are not the job's own failure.
_HARMLESS = frozenset({"PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"})


def kind_of_end(last: EndRecord | None, how: str, lived: float | None) -> tuple[PastKind, str]:
    """How a job has ended, and the details.

    Args:
        last: the last report of its worker.
        how: the batch system's word for the end, if it gave one.
        lived: seconds since a worker of the job started; None if none did.
    """
    if how == "CANCELLED":
        return "cancelled", ""
    if last is not None and last.reason != "error":
        kinds: dict[str, PastKind] = {"idle": "idle", "walltime": "walltime"}
        return kinds.get(last.reason, "drained"), last.reason
    if last is not None and last.calls:
        return "done", "its worker ended with an error"
    return _kind_of_failure(how, last.seconds if last is not None else lived)


def _kind_of_failure(how: str, lived: float | None) -> tuple[PastKind, str]:
    """How a job has failed that finished no call and did not report why it left."""
    if how in _HARMLESS:
        return "vanished", how
    if lived is None:
        return "young", how or "no worker of it has started"
    if lived < YOUNG:
        return "young", how or f"it ended after {lived:.0f} s without finishing a call"
    return "vanished", how or "it ended without a report"
