"""LSF: bsub, bjobs, bkill."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from fsqueue.launch.batch.answers import (
    Command,
    Listed,
    UnreadableError,
    is_ours,
    numbered,
    whole_lines,
)
from fsqueue.launch.batch.request import quoted_body
from fsqueue.launch.batch.system import BatchSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fsqueue.launch.batch.answers import State
    from fsqueue.launch.batch.request import Request

_SUBMITTED = re.compile(r"Job <(\d{1,12})>", re.ASCII)
_FIELDS = "jobid jobindex stat estimated_start_time pend_reason job_name delimiter='|'"
_WAITING = frozenset({"PEND", "PSUSP", "WAIT"})
_ENDED = frozenset({"DONE", "EXIT"})


class Lsf(BatchSystem):
    """LSF."""

    prefix = "#BSUB"
    kill_delay: float = 10.0
    submit: tuple[str, ...] = ("bsub",)
    cancel: tuple[str, ...] = ("bkill",)  # ``1234[7]`` is an element of an array
    only_waiting: tuple[str, ...] = ("-stat", "pend")

    def directives(self, request: Request) -> list[str]:
        """The directives, without ``#BSUB``; time limits are in minutes."""
        profile = request.profile
        array = request.count > 1
        hosts = "span[hosts=1]" if profile.nodes == 1 else f"span[ptile={profile.cores}]"
        usage = f" rusage[mem={request.memory}]" if profile.memory else ""
        name = f"{request.name}[1-{request.count}]" if array else request.name
        return [
            f'-J "{name}"',
            f"-n {profile.cores * profile.nodes}",
            f'-R "{hosts}{usage}"',
            f'-gpu "num={profile.gpus}"' if profile.gpus else "",
            f"-W {math.ceil(profile.walltime / 60)}",
            f"-q {profile.batch_queue}" if profile.batch_queue else "",
            f"-P {profile.account}" if profile.account else "",
            "-wa USR2" if profile.signal_before else "",
            f"-wt {math.ceil(profile.signal_before / 60)}" if profile.signal_before else "",
            "-r" if profile.requeue else "-rn",
            f"-oo {request.logs}/{'%J.%I' if array else '%J'}.log",
        ]

    def body_of_nodes(self, request: Request) -> list[str]:
        """The commands."""
        hosts = '''"$(sort -u "$LSB_DJOB_HOSTFILE" | tr '\\n' ' ')"'''
        return [f"exec blaunch -z {hosts} /bin/bash -c {quoted_body(request)} </dev/null"]

    def submitted(self, output: str, count: int) -> Mapping[int, str]:
        """The answer is ``Job <1234> is submitted to queue <standard>.``."""
        if (match := _SUBMITTED.search(output)) is None:
            raise UnreadableError(f"no job id in {output!r}")
        return numbered(match[1], count, "{}[{}]")

    def listing(self, user: str) -> Command:
        """List the name last, since it may contain the separator."""
        return Command(("bjobs", "-u", user, "-noheader", "-o", _FIELDS))

    def listed(self, output: str) -> Sequence[Listed]:
        """Empty without jobs: "No unfinished job found" goes to standard error."""
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
