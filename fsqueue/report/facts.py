"""The content of a report. ``fsqueue report --json`` prints it as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

# msgspec reads the annotations of the fields at runtime.
from fsqueue.spool.admin.failures import FailureGroup
from fsqueue.spool.admin.runs import Run
from fsqueue.spool.history.statistics import TaskStats

if TYPE_CHECKING:
    from collections.abc import Sequence


JOBS_OF: Final = "the batch jobs of the fleet "
"""How a line about a fleet begins in `Report.left_out`; its name and a reason follow."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The period of a report. Times are by the file server's clock."""

    begin: float
    end: float
    run: str = ""
    """The client, if the report is about one run."""
    note: str = ""
    """Why the period differs from the requested one."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.begin


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """A column of the charts."""

    at: float
    """When it began."""
    succeeded: int = 0
    failed: int = 0
    due: int | None = None
    """The most calls that were due; None if no process counted them."""
    waiting: int = 0
    """Calls that waited for other calls or for a concurrency limit, or were delayed."""
    slots: int | None = None
    busy: float = 0.0
    """Slots that were busy, on average."""


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's part."""

    worker: str
    state: str
    """alive, left or died; empty if that is not known."""
    slots: int
    calls: int
    failed: int
    seconds: float
    """Time in which its slots ran bodies."""
    busy: float | None
    """The same as a share, if that is known."""
    shares: list[float]
    """The same for each period."""
    failures: list[int]
    """Calls that failed in each period."""


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """A task's part."""

    stats: TaskStats
    seconds: float
    """Time in which its bodies ran."""
    run: dict[int, int]
    """How many calls ran how long, by bucket; see `fsqueue.spool.history.sketch`."""


class FailureRow(msgspec.Struct, frozen=True, kw_only=True):
    """A group of failures, with one of its calls in full."""

    group: FailureGroup
    sample: str = ""
    """The call whose traceback and output are shown."""
    traceback: str = ""
    output: str = ""


class SlowCall(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that took long."""

    id: str
    task: str
    state: str
    worker: str
    attempt: int
    wait: float
    run: float
    ended: float
    label: str = ""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A batch job."""

    fleet: str
    job: str
    state: str
    detail: str
    calls: int | None = None
    ended: float | None = None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of the first sentence."""

    calls: int
    failed: int
    retried: int
    lost: int
    cancelled: int
    seconds: float
    """Time in which bodies ran, of all slots together."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole report. `Limits` bounds its lists, and `left_out` says what is missing."""

    made: float
    root: str
    window: Window
    period: float
    """Seconds of each period of the charts."""
    journal_alone: bool
    """Whether it was made from a copy of the journal, without the rest of the spool."""
    redacted: bool = False
    totals: Totals
    attention: list[str]
    periods: list[Period]
    runs: list[Run]
    workers: list[WorkerRow]
    tasks: list[TaskRow]
    failures: list[FailureRow]
    slowest: list[SlowCall]
    jobs: list[Job]
    versions: dict[str, str]
    settings: dict[str, Any]
    left_out: list[str]


class Limits(msgspec.Struct, frozen=True):
    """The most rows and characters that a report has of each kind."""

    runs: int = 100
    workers: int = 200
    tasks: int = 100
    failures: int = 30
    slowest: int = 200
    jobs: int = 200
    text: int = 6_000
    """Characters of a traceback, and of an output."""

    def scaled(self, share: float) -> Limits:
        """Smaller limits."""
        values = msgspec.structs.asdict(self)
        return Limits(**{name: max(1, int(value * share)) for name, value in values.items()})


def cut(rows: Sequence[Any], most: int, what: str, left_out: list[str]) -> list[Any]:
    """The first `most` rows; adds a line about the others, if there are any, to `left_out`."""
    if len(rows) > most:
        left_out.append(f"{len(rows) - most:,} of {len(rows):,} {what}")
    return list(rows[:most])
