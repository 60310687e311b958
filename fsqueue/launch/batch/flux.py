"""Flux: flux submit, flux jobs, flux cancel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fsqueue.common.values import format_duration
from fsqueue.launch.batch.answers import (
    Command,
    Listed,
    UnreadableError,
    directives_of,
    is_ours,
    one_each,
    whole_lines,
)
from fsqueue.launch.batch.system import BatchSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fsqueue.launch.batch.answers import State
    from fsqueue.launch.batch.request import Request

# The letter of f58 ids is an f where the locale has no other.
_ID = re.compile("[\N{LATIN SMALL LETTER F WITH HOOK}f][1-9A-HJ-NP-Za-km-z]{1,20}")
_WAITING = frozenset({"DEPEND", "PRIORITY", "SCHED"})
_FORMAT = "{id.f58}|{state}|{t_estimate}|{name}"


class Flux(BatchSystem):
    """Flux, whose jobs each have an id of their own.

    Jobs are submitted with ``flux submit``, because the warning signal would kill the shell that
    ``flux batch`` starts. ``flux submit`` reads no directives, so `submission` turns them into
    arguments.
    """

    prefix = "#flux:"
    kill_delay: float = 5.0
    cancel: tuple[str, ...] = ("flux", "cancel")

    def directives(self, request: Request) -> list[str]:
        """The directives, without ``#flux:``."""
        profile = request.profile
        before = format_duration(profile.signal_before)
        return [
            f"--job-name={request.name}",
            f"--cc=1-{request.count}" if request.count > 1 else "",
            f"--nodes={profile.nodes}",
            f"--ntasks={profile.nodes}",
            f"--cores-per-task={profile.cores}",
            f"--gpus-per-task={profile.gpus}" if profile.gpus else "",
            f"--time-limit={profile.walltime:g}s",
            f"--signal=USR2@{before}" if profile.signal_before else "",
            f"--queue={profile.batch_queue}" if profile.batch_queue else "",
            f"--bank={profile.account}" if profile.account else "",
            f"--output={request.logs}/{{{{id}}}}.log",
        ]

    def submission(self, script: str, *more: str) -> Command:
        """Submit the script as an argument, after its directives and `more` as arguments."""
        options = directives_of(script, self.prefix)
        return Command(("flux", "submit", *more, *options, "/bin/bash", "-c", script))

    def submitted(self, output: str, count: int) -> Mapping[int, str]:
        """One id a line for each job: with ``--cc``, each copy has its own id."""
        found = [line.strip() for line in output.splitlines() if _ID.fullmatch(line.strip())]
        return one_each(found, count, output)

    def verdict(self, script: str) -> Command | None:
        """Print the job's specification."""
        return self.submission(script, "--dry-run")

    def listing(self, user: str) -> Command:
        """Jobs that are pending or running."""
        which = (f"--user={user}", "--filter=pending,running")
        return Command(("flux", "jobs", "-n", *which, f"--format={_FORMAT}"))

    def listed(self, output: str) -> Sequence[Listed]:
        """Lines of other forms are messages, unless they name a job of fsqueue."""
        return [job for line in whole_lines(output) for job in _of_line(line)]


def _of_line(line: str) -> Iterator[Listed]:
    fields = [field.strip() for field in line.split("|", 3)]
    if not is_ours(fields[-1]):
        return
    if len(fields) < 4 or not _ID.fullmatch(fields[0]):  # noqa: PLR2004 - those of `listing`
        raise UnreadableError(f"flux jobs: cannot read {line!r}")
    job_id, state, start, name = fields
    if state != "INACTIVE":
        yield Listed(job_id, name, _state(state), start="" if start == "-" else start)


def _state(text: str) -> State:
    if text in _WAITING:
        return "waiting"
    return "ending" if text == "CLEANUP" else "running"
