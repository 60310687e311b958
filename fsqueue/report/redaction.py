"""Removes what identifies people, machines and data from a report, so that it can be shared.

Numbers, times, ids, names of tasks and queues, and types and places of failures stay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from fsqueue.report.facts import JOBS_OF

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fsqueue.report.facts import FailureRow, Job, Report, SlowCall, WorkerRow
    from fsqueue.spool.admin.failures import FailureGroup, Sample
    from fsqueue.spool.admin.runs import Run


# Values of settings that are kept: numbers and choices. Others may name folders, hosts or people.
_SAFE: Final = re.compile(r"(none|true|false|[\d.]+|[a-z_]{1,12})?", re.IGNORECASE)
_NAMES: Final = re.compile(r"root|file|app|group|folder|queue|path|command", re.IGNORECASE)


def redacted(report: Report) -> Report:
    """The report without labels, messages, output, hosts, folders and command lines.

    Workers, batch jobs and fleets are numbered: the names and ids of workers and jobs contain host
    names, and fleets are often named after people.
    """
    names = _Names("worker")
    for row in report.workers:
        names.of(row.worker)
    jobs, fleets = _Names("job"), _Names("fleet")
    return replace(
        report,
        root="",
        redacted=True,
        attention=[names.in_text(each) for each in report.attention],
        runs=[_run(each) for each in report.runs],
        workers=[_worker(each, names) for each in report.workers],
        tasks=[replace(each, stats=replace(each.stats, failed_label="")) for each in report.tasks],
        failures=[_failure(each, names) for each in report.failures],
        slowest=[_slow(each, names) for each in report.slowest],
        jobs=[_job(each, jobs, fleets) for each in report.jobs],
        settings=_settings(report.settings),
        left_out=[_left_out(each, fleets) for each in report.left_out],
    )


class _Names:
    """A number for each worker, batch job or fleet."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._numbers: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The name in the report."""
        number = len(self._numbers) + 1
        return self._numbers.setdefault(name, f"{self._kind}-{number}") if name else ""

    def in_text(self, text: str) -> str:
        """A sentence of the report."""
        for worker in sorted(self._numbers, key=len, reverse=True):
            text = text.replace(worker, self._numbers[worker])
        return text

    def counts(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Numbers by worker."""
        return {self.of(worker): count for worker, count in counts.items()}


def _run(run: Run) -> Run:
    if run.record is None:
        return run
    record = replace(run.record, host="", user="", command="", folder="", pid=0)
    return replace(run, record=record)


def _worker(row: WorkerRow, names: _Names) -> WorkerRow:
    return replace(row, worker=names.of(row.worker))


def _job(job: Job, jobs: _Names, fleets: _Names) -> Job:
    return replace(job, job=jobs.of(job.job), fleet=fleets.of(job.fleet), detail="")


def _left_out(line: str, fleets: _Names) -> str:
    if not line.startswith(JOBS_OF):
        return line
    fleet, _, reason = line.removeprefix(JOBS_OF).partition(": ")
    return f"{JOBS_OF}{fleets.of(fleet)}: {reason}"


def _slow(call: SlowCall, names: _Names) -> SlowCall:
    return replace(call, label="", worker=names.of(call.worker))


def _failure(row: FailureRow, names: _Names) -> FailureRow:
    group: FailureGroup = replace(
        row.group,
        message="",
        workers=names.counts(row.group.workers),
        samples=list(_samples(row.group.samples, names)),
    )
    return replace(row, group=group, traceback="", output="", sample="")


def _samples(samples: Iterable[Sample], names: _Names) -> Iterable[Sample]:
    return (replace(each, label="", worker=names.of(each.worker)) for each in samples)


def _settings(settings: Mapping[str, object]) -> dict[str, object]:
    return {
        name: value
        for name, value in settings.items()
        if not _NAMES.search(name) and _SAFE.fullmatch(str(value))
    }
