"""OAR: oarsub, oarstat, oardel."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fsqueue.launch.commands.answers import (
    Command,
    Listed,
    UnreadableError,
    directives_of,
    is_ours,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fsqueue.launch.commands.answers import State

KILL_DELAY: Final = 10.0
LONGEST_ARRAY: Final = 1000

_SUBMITTED = re.compile(r"^OAR_JOB_ID=(\d{1,12})\s*$", re.MULTILINE | re.ASCII)
_WAITING = frozenset({"Waiting", "Hold", "toLaunch", "toAckReservation"})
_ENDED = frozenset({"Terminated", "Error"})


def submission(script: str) -> Command:
    """The directives become arguments: with -S, OAR would run the script from its path, later."""
    options = [word for each in directives_of(script, "#OAR") for word in each.split(" ", 1)]
    return Command(("oarsub", *options, shlex.join(("/bin/bash", "-c", script))))


def submitted(output: str, count: int) -> Mapping[int, str]:
    """``OAR_JOB_ID=1234``, once for each job of an array."""
    found = _SUBMITTED.findall(output)
    if len(found) != count:
        raise UnreadableError(f"{len(found)} job ids instead of {count} in {output!r}")
    return dict(enumerate(found, 1))


def verdict(script: str) -> Command | None:
    """OAR checks nothing without submitting."""
    del script
    return None


def listing(user: str) -> Command:
    """As JSON, since tables cut names off."""
    return Command(("oarstat", "-u", user, "-J"))


def listed(output: str) -> Sequence[Listed]:
    """An object with one member a job; nothing at all if there is none."""
    if not output.strip():
        return []
    try:
        jobs = msgspec.json.decode(output[max(0, output.find("{")) :], type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UnreadableError(f"oarstat: the output is truncated or no JSON: {error}") from error
    return [job for job_id, values in jobs.items() for job in _of_job(job_id, values)]


def _of_job(job_id: str, values: Any) -> Iterator[Listed]:
    if not isinstance(values, dict):
        raise UnreadableError(f"oarstat: job {job_id} is {values!r}")
    name, state = str(values.get("name") or ""), str(values.get("state") or "")
    if not is_ours(name) or state in _ENDED:
        return
    if not state:
        raise UnreadableError(f"oarstat: job {job_id} has no state")
    yield Listed(job_id, name, _state(state), str(values.get("message") or ""))


def _state(text: str) -> State:
    if text in _WAITING:
        return "waiting"
    return "ending" if text == "Finishing" else "running"


def cancellation(ids: Sequence[str], *, waiting_only: bool) -> Command:
    """OAR cannot cancel only waiting jobs."""
    del waiting_only
    return Command(("oardel", *ids))
