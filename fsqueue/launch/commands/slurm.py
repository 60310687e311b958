"""Slurm: sbatch, squeue, scancel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fsqueue.launch.commands.answers import (
    Command,
    Listed,
    UnreadableError,
    expand,
    is_ours,
    numbered,
    whole_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fsqueue.launch.commands.answers import State

KILL_DELAY: Final = 30.0
LONGEST_ARRAY: Final = 1000  # MaxArraySize is 1001 unless set, and counts element 0

_PARSABLE = re.compile(r"(\d{1,12})(?:;\S+)?", re.ASCII)
_ID = re.compile(r"\d{1,12}(?:_(?:\d{1,7}|\[[^\]|]*\]?))?", re.ASCII)
_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
_ENDING = frozenset({"COMPLETING", "STAGE_OUT", "SIGNALING"})
_ENDED = frozenset(
    {
        *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL"),
        *("OUT_OF_MEMORY", "DEADLINE", "PREEMPTED", "REVOKED"),
    }
)


def submission(script: str) -> Command:
    """The script is read from standard input and kept by Slurm."""
    return Command(("sbatch", "--parsable"), script)


def submitted(output: str, count: int) -> Mapping[int, str]:
    """``1234`` or ``1234;cluster``, after whatever the site's plugins print."""
    for line in reversed(output.splitlines()):
        if (match := _PARSABLE.fullmatch(line.strip())) is not None:
            return numbered(match[1], count, "{}_{}")
    raise UnreadableError(f"no job id in {output!r}")


def verdict(script: str) -> Command | None:
    """The answer also contains the expected start of the job."""
    return Command(("sbatch", "--test-only"), script)


def listing(user: str) -> Command:
    """Also jobs that ended minutes ago. The name stands last, as it may hold the separator."""
    return Command(("squeue", "-h", "-r", "-t", "all", "-u", user, "-o", "%i|%T|%S|%r|%j"))


def listed(output: str) -> Sequence[Listed]:
    """Lines of other forms are messages, unless they name a job of fsqueue."""
    return [job for line in whole_lines(output) for job in _of_line(line)]


def _of_line(line: str) -> Iterator[Listed]:
    fields = line.split("|", 4)
    name = fields[-1].strip()
    if not is_ours(name):
        return
    if len(fields) < 5 or not _ID.fullmatch(fields[0]):  # noqa: PLR2004 - those of `listing`
        raise UnreadableError(f"squeue: cannot read {line!r}")
    job_id, state, start, reason, _ = fields
    if state in _ENDED:
        reason = state
    start = "" if start in {"N/A", "NONE", ""} else start
    for each in _elements(job_id):
        yield Listed(each, name, _state(state), reason if reason != "None" else "", start)


def _elements(job_id: str) -> Iterator[str]:
    """Elements that wait are listed together, ``1234_[3-10%4]``, where -r is not known."""
    array, bracket, numbers = job_id.partition("_[")
    if not bracket:
        yield job_id
        return
    if not numbers.endswith("]") or "..." in numbers:
        raise UnreadableError(f"squeue: {job_id!r} was cut off")
    for number in expand(numbers[:-1]):
        yield f"{array}_{number}"


def _state(text: str) -> State:
    if text in _WAITING:
        return "waiting"
    if text in _ENDED:
        return "ended"
    return "ending" if text in _ENDING else "running"


def cancellation(ids: Sequence[str], *, waiting_only: bool) -> Command:
    """``1234_7``: the raw id of an array's element is ignored, with exit code 0."""
    only = ("--state=PENDING",) if waiting_only else ()
    return Command(("scancel", *only, *ids))


def site() -> Command:
    """Shows the site's settings."""
    return Command(("scontrol", "show", "config"))


def kill_delay(output: str) -> float | None:
    """Seconds from the site's settings; None if they contain none."""
    match = re.search(r"^KillWait\s*=\s*(\d+) sec", output, re.MULTILINE)
    return float(match[1]) if match else None


def longest_array(output: str) -> int | None:
    """Jobs of one array, from the site's settings; None if they contain no limit."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", output, re.MULTILINE)
    return max(1, int(match[1]) - 1) if match else None
