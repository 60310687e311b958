"""Records and names of fleets; `fsqueue.spool.fleets.fleets` lists their places."""

from __future__ import annotations

import contextlib
import math
import re
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

import msgspec

from fsqueue.spool.disk.identity import Process, is_gone
from fsqueue.spool.format.names import is_safe_name, queue_folder
from fsqueue.spool.format.records import UNDECODABLE
from fsqueue.spool.format.resources import NONE, needs_of, takes, with_time

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOKEN = re.compile(r"[a-z2-7]{4,16}", re.ASCII)
_MEMBER = re.compile(rf"({_TOKEN.pattern})\.([1-9]\d{{0,6}})", re.ASCII)
LONGEST_NAME: Final = 32
"""The most characters of a fleet's name, which is part of the names of its jobs."""
MOST_JOBS: Final = 100_000
# Seconds of a job in which no call can run: before its end, and before its worker has started.
_LEAST_MARGIN: Final = 30.0
_START_UP: Final = 60.0


class Member(NamedTuple):
    """One job of a fleet."""

    token: str
    """The name of its submission."""
    number: int
    """Its number in the submission, from 1."""

    @classmethod
    def parse(cls, name: str) -> Member | None:
        """Parse a name; None if it is not one of a job."""
        match = _MEMBER.fullmatch(name)
        return cls(match[1], int(match[2])) if match else None

    def __str__(self) -> str:
        return f"{self.token}.{self.number}"


EndReason = Literal["idle", "walltime", "drained", "signal", "max-tasks", "until-empty", "error"]
PastKind = Literal[
    "idle", "walltime", "drained", "cancelled", "refused", "young", "vanished", "done"
]


class FleetRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``fleet.json``: the definition of a fleet, without any line of its script."""

    name: str
    system: str
    app_id: str
    queues: tuple[str, ...]
    walltime: float
    slots: Annotated[int, msgspec.Meta(ge=1)]
    """The number of calls that one job runs at a time."""
    resources: str = ""
    """The resources of each worker, as a profile; see `fsqueue.spool.format.resources`."""
    min: Annotated[int, msgspec.Meta(ge=0)] = 0
    max: Annotated[int, msgspec.Meta(ge=0, le=MOST_JOBS)] = 1
    backlog: Annotated[int, msgspec.Meta(ge=1)] = 2
    profile_max: int = 0
    """The `max` of the profile. The fleet's own can be changed with `fsqueue fleet scale`."""

    def takes(self, folder: str) -> bool:
        """Whether a job of the fleet can run the calls of a queue's folder."""
        queues = {queue_folder(self.app_id, queue) for queue in self.queues}
        held = needs_of(self.resources) or NONE
        return takes(queues, with_time(held, usable_time(self.walltime)), folder)


class SubmissionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``submissions/<token>``: the submitter and the number of jobs."""

    count: Annotated[int, msgspec.Meta(ge=1, le=MOST_JOBS)]
    host: str
    boot: str
    pid: int
    start: str
    began: float

    @property
    def process(self) -> Process:
        """The submitting process."""
        return Process(self.boot, self.pid, self.start)

    @property
    def is_gone(self) -> bool:
        """Whether the submitting process was on this machine and has ended."""
        return is_gone(self.process)


class JobsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``jobs/<token>``: ids of jobs, as the batch system's cancel command takes them."""

    ids: dict[int, str]
    """The ids by the jobs' numbers."""


class EndRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``ends/<job>.<worker>``: the last report of a worker of a job."""

    reason: EndReason
    calls: int
    """How many calls it has run."""
    seconds: float
    restart: int = 0
    """How often the batch system had requeued the job."""

    @classmethod
    def combined(cls, reports: Sequence[EndRecord]) -> EndRecord | None:
        """The report of a job, from those of its workers; None without any.

        A worker that left for a reason outweighs one that failed, because the job worked.
        """
        latest = max((each.restart for each in reports), default=0)
        last = [each for each in reports if each.restart == latest]
        if not last:
            return None
        return cls(
            reason=max(last, key=lambda each: (each.reason != "error", each.seconds)).reason,
            calls=sum(each.calls for each in last),
            seconds=max(each.seconds for each in last),
            restart=latest,
        )


class PastRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``past/<job>``: how a job ended, or that its submission was refused."""

    kind: PastKind
    at: float
    """By the file server's clock."""
    id: str = ""
    detail: str = ""


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the trail."""

    at: float
    what: str
    why: str = ""


class Reason(msgspec.Struct, frozen=True):
    """``paused`` and ``stopped``: the reason."""

    reason: str
    at: float


def usable_time(walltime: float) -> float:
    """Seconds of a job in which a call can run: its time limit less start-up and margin.

    Args:
        walltime: the job's time limit; 0: none.
    """
    if not walltime:
        return math.inf
    margin = min(_LEAST_MARGIN, walltime / 4)
    return walltime - margin - min(_START_UP, walltime / 10)


def check_name(name: str) -> str:
    """Return `name` if it is valid for a fleet.

    Raises:
        ValueError: it is not.
    """
    if not is_safe_name(name) or len(name) > LONGEST_NAME:
        raise ValueError(
            f"{name!r}: expected a name of at most {LONGEST_NAME} letters, digits, '-' and '_'"
        )
    return name


def notes_of(content: bytes) -> list[Note]:
    """The readable lines of a trail."""
    notes = []
    for line in content.splitlines():
        with contextlib.suppress(*UNDECODABLE):
            notes.append(msgspec.json.decode(line, type=Note))
    return notes
