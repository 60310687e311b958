"""State of fleets: the batch jobs that run workers, visible to every host of the spool.

``fleet/<name>/`` holds, besides the jobs' logs:

====================  ============================================================================
``fleet.json``        the fleet's definition; sealed
``paused, stopped``   no more jobs are submitted; sealed, with the reason
``slots/<k>/<job>``   job ``<token>.<i>`` exists or is being submitted; at most one in each slot
``submissions/<token>``  submitter and number of jobs; sealed, written before the slots are taken
``jobs/<token>``      the batch system's ids of a submission; sealed, written once
``marks/``            ``<job>.absent``: one listing did not show the job; ``<job>.cancelled``: the
                      fleet cancels it; ``<token>.asked``: the answer to a submission was lost
``births/<job>``      a worker of the job has started
``ends/<job>.<worker>``  the last report of a worker of the job; sealed
``past/<job>``        how a job or a submission ended; sealed, written once
``trail/<host>.jsonl``  decisions and their reasons, for people
====================  ============================================================================

No line of a job's script is read from the spool, so write access to the spool does not let anyone
decide what the submitting user runs.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.disk.identity import host_name, this_process
from fsqueue.spool.fleets.records import (
    EndRecord,
    FleetRecord,
    JobsRecord,
    Member,
    Note,
    PastRecord,
    Reason,
    SubmissionRecord,
    check_name,
    notes_of,
)
from fsqueue.spool.fleets.slots import Slots
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import is_safe_name
from fsqueue.spool.format.records import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsqueue.spool.files.files import Files

log: logging.Logger = logging.getLogger(__name__)

R = TypeVar("R", bound=msgspec.Struct)

_KIND: Final = "fleet"


def fleet_names(store: Files) -> list[str]:
    """Names of the fleets of this spool, sorted."""
    layout = store.layout
    names = filter(is_safe_name, store.fs.names(layout.fleets_folder, fresh=True))
    return sorted(name for name in names if store.fs.is_folder(layout.fleet(name)))


class FleetFiles:
    """The files of one fleet. Every method that writes can be repeated safely.

    Args:
        name: the fleet's name.

    Attributes:
        name: the fleet's name.
        folder: path of its folder.
        logs: path of the folder with the logs of its jobs.
        slots: the slots that its jobs take.
    """

    def __init__(self, store: Files, name: str) -> None:
        self._store, self._fs = store, store.fs
        self.name: str = check_name(name)
        self.folder: str = store.layout.fleet(name)
        self.logs: str = f"{self.folder}/logs"
        self.slots: Slots = Slots(store.fs, f"{self.folder}/slots", store.make_folders)

    def now(self) -> float:
        """Seconds since the epoch by the file server's clock."""
        if self._store.clock.age == math.inf:
            self._store.sync_clock()
        return self._store.clock.now()

    # -- definition ---------------------------------------------------------------------

    def define(self, record: FleetRecord) -> None:
        """Write the fleet's definition, replacing any previous one; the last writer wins."""
        self._store.make_folders(self.logs)
        self._replace("fleet.json", record)

    def record(self) -> FleetRecord | None:
        """The fleet's definition; None if there is no such fleet, or its file is damaged."""
        return self._read("fleet.json", FleetRecord)

    def mark(self, what: Literal["paused", "stopped"], reason: str) -> None:
        """Mark the fleet as paused or stopped, so that no more jobs are submitted.

        Each kind of mark has its own file, so a fleet that pauses itself cannot undo a stop.
        """
        self._replace(what, Reason(reason, self.now()))

    def unmark(self, what: Literal["paused", "stopped"]) -> None:
        """Remove a mark."""
        self._fs.discard(f"{self.folder}/{what}")

    def marked(self, what: Literal["paused", "stopped"]) -> str | None:
        """The reason given with a mark; None if there is no such mark. A damaged mark counts."""
        if not self._fs.exists(f"{self.folder}/{what}", fresh=True):
            return None
        found = self._read(what, Reason, keep=True)
        return "for an unknown reason" if found is None else found.reason

    def stamp(self, name: Literal["resumed", "unneeded"]) -> None:
        """Record the present time as that of an event."""
        self._touch(name)

    def unstamp(self, name: Literal["resumed", "unneeded"]) -> None:
        """Remove the recorded time of an event."""
        self._fs.discard(f"{self.folder}/{name}")

    def stamped(self, name: Literal["resumed", "unneeded"]) -> float | None:
        """When the event happened, by the file server's clock; None if it did not."""
        return self._time_of(f"{self.folder}/{name}")

    # -- submissions --------------------------------------------------------------------

    def begin(self, token: str, count: int) -> None:
        """Record the submitter, before any slot is taken.

        If the process dies after it, the file expires.
        """
        process = this_process()
        record = SubmissionRecord(
            count=count,
            host=host_name(),
            boot=process.boot,
            pid=process.pid,
            start=process.start,
            began=self.now(),
        )
        self._add(f"submissions/{token}", record)

    def free(self, member: Member, past: PastRecord | None) -> None:
        """Record how a job ended, or that it was never submitted, and then free its slot.

        If the process dies in between, the job is still absent at the next check, which does this
        again. The first record stands.
        """
        if past is not None:
            self._add(f"past/{member}", past)
        self.slots.free(member)
        for mark in ("absent", "cancelled"):
            self._fs.discard(f"{self.folder}/marks/{member}.{mark}")

    def submission(self, token: str) -> SubmissionRecord | None:
        """The record of a submission."""
        return self._read(f"submissions/{token}", SubmissionRecord)

    def submitted(self, token: str, ids: Mapping[int, str]) -> None:
        """Write the ids that the batch system has assigned."""
        self._add(f"jobs/{token}", JobsRecord(ids=dict(ids)))

    def ids(self, token: str) -> Mapping[int, str]:
        """The batch system's ids by the jobs' numbers; empty if they are not known."""
        found = self._read(f"jobs/{token}", JobsRecord)
        return {} if found is None else found.ids

    def doubt(self, token: str) -> None:
        """Record that the answer to a submission was lost; listings show whether its jobs exist."""
        self._touch(f"marks/{token}.asked")

    def is_doubted(self, token: str) -> bool:
        """Whether the answer to a submission was lost."""
        return self._fs.exists(f"{self.folder}/marks/{token}.asked", fresh=True)

    def has_submitted(self, younger_than: float) -> bool:
        """Whether a submission began at most this many seconds ago."""
        begun = self._fs.names(f"{self.folder}/submissions", fresh=True)
        oldest = self.now() - younger_than
        times = (self._time_of(f"{self.folder}/submissions/{token}") for token in begun)
        return any(when is not None and when > oldest for when in times)

    def changes(self) -> tuple[int, ...]:
        """Counts that change when a worker starts or ends, or when a listing lacks a job."""
        folders = ("births", "ends", "marks")
        return tuple(len(self._fs.names(f"{self.folder}/{each}")) for each in folders)

    # -- jobs ---------------------------------------------------------------------------

    def note_absent(self, member: Member) -> float | None:
        """Record that a listing did not show a job.

        Returns when this was first recorded, or None if it was not recorded before.
        """
        noted = self._time_of(f"{self.folder}/marks/{member}.absent")
        if noted is None:
            self._touch(f"marks/{member}.absent")
        return noted

    def note_present(self, member: Member) -> None:
        """Record that a listing shows a job."""
        self._fs.discard(f"{self.folder}/marks/{member}.absent")

    def note_cancelled(self, member: Member) -> None:
        """Record that the fleet is about to cancel a job, so that its end is not a failure."""
        self._touch(f"marks/{member}.cancelled")

    def is_cancelled(self, member: Member) -> bool:
        """Whether the fleet has cancelled a job, or is about to."""
        return self._fs.exists(f"{self.folder}/marks/{member}.cancelled", fresh=True)

    def note_birth(self, member: Member) -> None:
        """Record that the job's worker has started; the worker calls this."""
        self._touch(f"births/{member}")

    def born(self) -> dict[Member, float]:
        """Jobs whose workers have started, each with the time of the last start."""
        found = {}
        for name in self._fs.names(f"{self.folder}/births", fresh=True):
            member, when = Member.parse(name), self._time_of(f"{self.folder}/births/{name}")
            if member is not None and when is not None:
                found[member] = when
        return found

    def note_end(self, member: Member, end: EndRecord, worker: str) -> None:
        """Write the last report of a worker of a job; a job with several nodes has several."""
        self._replace(f"ends/{member}.{worker}", end)

    def end(self, member: Member) -> EndRecord | None:
        """The last reports of a job's workers as one; None if there is none.

        If the batch system has requeued the job, only the reports of its latest run with any count.
        """
        names = self._fs.names(f"{self.folder}/ends", fresh=True)
        mine = [name for name in sorted(names) if name.startswith(f"{member}.")]
        found = [self._read(f"ends/{name}", EndRecord) for name in mine]
        return EndRecord.combined([each for each in found if each is not None])

    def refuse(self, token: str, detail: str) -> None:
        """Record that the batch system has refused a submission."""
        past = PastRecord(kind="refused", at=self.now(), detail=detail)
        self._add(f"past/{Member(token, 1)}", past)

    def past(self, most: int = 100) -> list[tuple[Member, PastRecord]]:
        """How the last jobs ended, the latest last."""
        folder = f"{self.folder}/past"
        times = [
            (self._time_of(f"{folder}/{name}") or 0.0, name)
            for name in self._fs.names(folder, fresh=True)
        ]
        found = []
        for _, name in sorted(times)[-most:]:
            member, record = Member.parse(name), self._read(f"past/{name}", PastRecord)
            if member is not None and record is not None:
                found.append((member, record))
        return sorted(found, key=lambda each: each[1].at)

    # -- the trail ----------------------------------------------------------------------

    def note(self, what: str, why: str = "") -> None:
        """Record a decision. Errors are ignored, because nothing depends on the trail."""
        line = msgspec.json.encode(Note(at=self.now(), what=what, why=why)) + b"\n"
        with contextlib.suppress(OSError):
            self._store.append(f"{self.folder}/trail/{host_name()}.jsonl", line)

    def trail(self, most: int = 50) -> list[Note]:
        """The last decisions, the latest last."""
        notes: list[Note] = []
        for name in self._fs.names(f"{self.folder}/trail"):
            with contextlib.suppress(OSError, EnvelopeError):
                notes += notes_of(self._fs.read(f"{self.folder}/trail/{name}"))
        return sorted(notes, key=lambda note: note.at)[-most:]

    # -- the end ------------------------------------------------------------------------

    def forget(self) -> bool:
        """Remove all files of a fleet without jobs; False while it has jobs.

        If the process dies in the middle, another call does the rest: `fleet.json` goes last.
        """
        if self.slots.taken():
            return False
        self.slots.remove()
        for folder in (*_EXPIRING, "trail"):
            for name in self._fs.names(f"{self.folder}/{folder}", fresh=True):
                self._fs.discard(f"{self.folder}/{folder}/{name}")
            self._fs.rmdir(f"{self.folder}/{folder}")
        for name in ("paused", "stopped", "resumed", "unneeded", "fleet.json"):
            self._fs.discard(f"{self.folder}/{name}")
        return self._fs.rmdir(self.folder)

    def expire(self, ttl: float) -> int:
        """Remove logs and files about jobs that ended `ttl` seconds ago; returns how many."""
        record = self.record()
        # No running job is older than its wall time, so older files belong to ended jobs.
        oldest = self.now() - ttl - (record.walltime if record else 0.0)
        held = {member.token for member in self.slots.taken().values()}
        removed = 0
        for folder in _EXPIRING:
            for name in self._store.listed(f"{self.folder}/{folder}"):
                path = f"{self.folder}/{folder}/{name}"
                when = self._time_of(path)
                if name.partition(".")[0] not in held and when is not None and when < oldest:
                    step = functools.partial(self._store.remove, path)
                    removed += self._store.unless_refused(path, step)
        return removed + self.slots.expire(oldest)

    # -- files --------------------------------------------------------------------------

    def _add(self, name: str, record: msgspec.Struct) -> bool:
        return self._store.add_file(f"{self.folder}/{name}", self._seal(name, record))

    def _replace(self, name: str, record: msgspec.Struct) -> None:
        self._store.replace_file(f"{self.folder}/{name}", self._seal(name, record))

    def _seal(self, name: str, record: msgspec.Struct) -> list[Any]:
        """The chunks of a file that is valid only at this path."""
        data = self._head(name) + msgspec.json.encode(record)
        return envelope.seal(_KIND, [data], self._store.key, ())[1]

    def _head(self, name: str) -> bytes:
        return f"{self._store.info.id} {self.name}/{name}\n".encode()

    def _unseal(self, name: str) -> bytes:
        path = f"{self.folder}/{name}"
        # Without permission to read it, a file does not count as damaged: this user's ticket for
        # the file server may have expired.
        content = self._store.read_file(path, fresh=True)
        found = envelope.unseal(content, path, self._store.key)
        data, head = bytes(found.payload.data), self._head(name)
        if found.kind != _KIND or not data.startswith(head):
            raise EnvelopeError(f"{path} was written for another path")
        return data.removeprefix(head)

    def _touch(self, name: str) -> None:
        self._store.touch(f"{self.folder}/{name}")

    def _time_of(self, path: str) -> float | None:
        try:
            return self._fs.modified(path)
        except (FileNotFoundError, EnvelopeError):
            return None

    def _read(self, name: str, kind: type[R], *, keep: bool = False) -> R | None:
        """A sealed record; None if it is missing or damaged.

        A damaged file goes into quarantine, unless `keep`, for a file whose name alone matters.
        """
        path = f"{self.folder}/{name}"
        try:
            return msgspec.json.decode(self._unseal(name), type=kind)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            self._store.pass_over(path, error)
            return None
        except SpoolVersionError as error:
            self._store.leave_alone(error)
            return None
        except (EnvelopeError, *UNDECODABLE) as error:
            if keep:
                return None
            log.error("into quarantine: %s: %s", path, error)  # noqa: TRY400 - no traceback needed
            self._store.set_aside(path, str(error))
            return None


_EXPIRING: Final = ("submissions", "jobs", "marks", "births", "ends", "past", "logs")


def expire_fleets(store: Files, ttl: float) -> int:
    """Expire the files of all fleets; returns how many were removed."""
    removed = 0
    for name in fleet_names(store):
        try:
            removed += FleetFiles(store, name).expire(ttl)
        except PermissionError as error:  # a closed folder; the other fleets go on
            store.pass_over(store.layout.fleet(name), error)
    return removed
