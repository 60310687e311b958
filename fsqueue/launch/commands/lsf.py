"""LSF: bsub, bjobs, bkill."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fsqueue.launch.commands.answers import (
    Command,
    Listed,
    UnreadableError,
    is_ours,
    numbered,
    whole_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fsqueue.launch.commands.answers import State

KILL_DELAY: Final = 10.0
LONGEST_ARRAY: Final = 1000

_SUBMITTED = re.compile(r"Job <(\d{1,12})>", re.ASCII)
_FIELDS = "jobid jobindex stat estimated_start_time pend_reason job_name delimiter='|'"
_WAITING = frozenset({"PEND", "PSUSP", "WAIT"})
_ENDED = frozenset({"DONE", "EXIT"})


def submission(script: str) -> Command:
    """The script is read from standard input and kept by LSF."""
    return Command(("bsub",), script)


def submitted(output: str, count: int) -> Mapping[int, str]:
    """The answer is ``Job <1234> is submitted to queue <standard>.``."""
    if (match := _SUBMITTED.search(output)) is None:
        raise UnreadableError(f"no job id in {output!r}")
    return numbered(match[1], count, "{}[{}]")


def verdict(script: str) -> Command | None:
    """LSF checks nothing without submitting."""
    del script
    return None


def listing(user: str) -> Command:
    """The name stands last, as it may hold the separator."""
    return Command(("bjobs", "-u", user, "-noheader", "-o", _FIELDS))


def listed(output: str) -> Sequence[Listed]:
    """Without jobs it is empty: "No unfinished job found" goes to standard error."""
    return [job for line in whole_lines(output) for job in _of_line(line)]


def _of_line(line: str) -> Iterator[Listed]:
    fields = line.split("|", 5)
    # The name of an array's element is fsq-cpu-k7f3q2[3].
    name = fields[-1].strip().partition("[")[0]
    if not is_ours(name):
        return
    if len(fields) < 6 or not fields[0].isdecimal():  # noqa: PLR2004 - those of `listing`
        raise UnreadableError(f"bjobs: cannot read {line!r}")
    job_id, index, state, start, reason, _ = (field.strip() for field in fields)
    if state in _ENDED:
        return
    full = f"{job_id}[{index}]" if index.isdecimal() and int(index) else job_id
    yield Listed(full, name, _state(state), _told(reason), _told(start))


def _told(text: str) -> str:
    return "" if text == "-" else text


def _state(text: str) -> State:
    return "waiting" if text in _WAITING else "running"


def cancellation(ids: Sequence[str], *, waiting_only: bool) -> Command:
    """``1234[7]`` is an element of an array."""
    only = ("-stat", "pend") if waiting_only else ()
    return Command(("bkill", *only, *ids))
