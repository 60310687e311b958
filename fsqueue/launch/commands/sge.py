"""Grid Engine: qsub, qstat, qdel."""

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
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from xml.etree.ElementTree import Element

    from fsqueue.launch.commands.answers import State

KILL_DELAY: Final = 60.0
LONGEST_ARRAY: Final = 75_000

_TERSE = re.compile(r"(\d{1,12})(?:\.\d+-\d+:\d+)?", re.ASCII)


def submission(script: str) -> Command:
    """The script is read from standard input and kept by Grid Engine."""
    return Command(("qsub", "-terse"), script)


def submitted(output: str, count: int) -> Mapping[int, str]:
    """``1234``, or ``1234.1-4:1`` for an array; warnings stand before it."""
    for line in reversed(output.splitlines()):
        if (match := _TERSE.fullmatch(line.strip())) is not None:
            return numbered(match[1], count, "{}.{}")
    raise UnreadableError(f"no job id in {output!r}")


def verdict(script: str) -> Command | None:
    """The answer is whether a job could run on this cluster if it were empty."""
    return Command(("qsub", "-w", "v"), script)


def listing(user: str) -> Command:
    """As XML, since tables cut names off after ten characters."""
    return Command(("qstat", "-u", user, "-g", "d", "-xml"))


def listed(output: str) -> Sequence[Listed]:
    """The elements ``job_list``, of running and of pending jobs."""
    from xml.etree import ElementTree as ET

    start = output.find("<?xml")
    try:
        # The local batch system prints this: it is not a document from outside.
        root = ET.fromstring(output[start:] if start >= 0 else output)  # noqa: S314
    except ET.ParseError as error:
        raise UnreadableError(f"qstat: the output is truncated or no XML: {error}") from error
    return [job for each in root.iter("job_list") for job in _of_element(each)]


def _of_element(element: Element) -> Iterator[Listed]:
    name, number = element.findtext("JB_name", ""), element.findtext("JB_job_number", "")
    if not is_ours(name):
        return
    code = element.findtext("state", "")
    if not number.isdecimal() or not code:
        raise UnreadableError(f"qstat: a job {name} without number or state")
    tasks = element.findtext("tasks", "").strip()
    reason = "its last start failed (qstat -j says why)" if "E" in code else ""
    for job_id in [f"{number}.{task}" for task in expand(tasks)] if tasks else [number]:
        yield Listed(job_id, name, _state(code), reason)


def _state(code: str) -> State:
    if "d" in code:
        return "ending"
    # qw, hqw, Eqw and Rq wait; r, t, Rr and the suspended s, S, T have started.
    return "waiting" if "q" in code or "w" in code else "running"


def cancellation(ids: Sequence[str], *, waiting_only: bool) -> Command:
    """With -notify, running jobs get SIGUSR2 before they are killed."""
    del waiting_only
    return Command(("qdel", *ids))
