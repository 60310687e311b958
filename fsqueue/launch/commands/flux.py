"""Flux: flux submit, flux jobs, flux cancel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fsqueue.launch.commands.answers import (
    Command,
    Listed,
    UnreadableError,
    directives_of,
    is_ours,
    whole_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fsqueue.launch.commands.answers import State

KILL_DELAY: Final = 5.0
LONGEST_ARRAY: Final = 1000

# The letter of f58 ids is an f where the locale has no other.
_ID = re.compile("[\N{LATIN SMALL LETTER F WITH HOOK}f][1-9A-HJ-NP-Za-km-z]{1,20}")
_WAITING = frozenset({"DEPEND", "PRIORITY", "SCHED"})
_FORMAT = "{id.f58}|{state}|{t_estimate}|{name}"


def submission(script: str) -> Command:
    """``flux submit`` reads no directives, so they become arguments, and the script is one too."""
    options = directives_of(script, "#flux:")
    return Command(("flux", "submit", *options, "/bin/bash", "-c", script))


def submitted(output: str, count: int) -> Mapping[int, str]:
    """One id a line, as many as there are jobs: those of ``--cc`` have ids of their own."""
    found = [line.strip() for line in output.splitlines() if _ID.fullmatch(line.strip())]
    if len(found) != count:
        raise UnreadableError(f"{len(found)} job ids instead of {count} in {output!r}")
    return dict(enumerate(found, 1))


def verdict(script: str) -> Command | None:
    """Prints the job's specification."""
    options = directives_of(script, "#flux:")
    return Command(("flux", "submit", "--dry-run", *options, "/bin/bash", "-c", script))


def listing(user: str) -> Command:
    """Jobs that are pending or running."""
    return Command(
        ("flux", "jobs", "-n", f"--user={user}", "--filter=pending,running", f"--format={_FORMAT}")
    )


def listed(output: str) -> Sequence[Listed]:
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


def cancellation(ids: Sequence[str], *, waiting_only: bool) -> Command:
    """Flux cannot cancel only waiting jobs."""
    del waiting_only
    return Command(("flux", "cancel", *ids))
