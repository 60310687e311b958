"""Grid Engine: qsub, qstat, qdel."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from fsqueue.common.values import format_clock
from fsqueue.launch.batch.answers import (
    Command,
    Listed,
    UnreadableError,
    expand,
    is_ours,
    last_id,
    numbered,
)
from fsqueue.launch.batch.system import BatchSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from xml.etree.ElementTree import Element

    from fsqueue.launch.batch.answers import State
    from fsqueue.launch.batch.request import Request

_TERSE = re.compile(r"(\d{1,12})(?:\.\d+-\d+:\d+)?", re.ASCII)


class GridEngine(BatchSystem):
    """Grid Engine."""

    prefix = "#$"
    kill_delay: float = 60.0
    longest_array = 75_000
    submit: tuple[str, ...] = ("qsub", "-terse")
    # Checks whether the job could run if the cluster were empty.
    check: tuple[str, ...] = ("qsub", "-w", "v")
    # With -notify, running jobs get SIGUSR2 before they are killed.
    cancel: tuple[str, ...] = ("qdel",)

    def directives(self, request: Request) -> list[str]:
        """The directives, without ``#$``."""
        profile = request.profile
        soft = profile.walltime - profile.signal_before
        array = request.count > 1
        return [
            "-S /bin/bash",
            f"-N {request.name}",
            f"-t 1-{request.count}" if array else "",
            f"-pe smp {profile.cores}" if profile.cores > 1 else "",
            # The limit applies to each slot.
            f"-l h_vmem={math.ceil(request.memory / profile.cores)}M" if profile.memory else "",
            f"-l gpu={profile.gpus}" if profile.gpus else "",
            # The warning is SIGUSR1, sent at the soft limit.
            f"-l s_rt={format_clock(soft)}" if profile.signal_before else "",
            f"-l h_rt={format_clock(profile.walltime)}",
            f"-q {profile.batch_queue}" if profile.batch_queue else "",
            f"-P {profile.account}" if profile.account else "",
            "-notify",
            "-r y" if profile.requeue else "-r n",
            "-j y",
            f"-o {request.logs}/$JOB_ID{'.$TASK_ID' if array else ''}.log",
        ]

    def submitted(self, output: str, count: int) -> Mapping[int, str]:
        """``1234``, or ``1234.1-4:1`` for an array, after any warnings."""
        return numbered(last_id(output, _TERSE)[1], count, "{}.{}")

    def listing(self, user: str) -> Command:
        """List jobs as XML, since tables cut names off after ten characters."""
        return Command(("qstat", "-u", user, "-g", "d", "-xml"))

    def listed(self, output: str) -> Sequence[Listed]:
        """The elements ``job_list``, of running and of pending jobs."""
        from xml.etree import ElementTree as ET

        start = output.find("<?xml")
        try:
            # The local batch system prints this, so it is trusted input.
            root = ET.fromstring(output[start:] if start >= 0 else output)  # noqa: S314
        except ET.ParseError as error:
            raise UnreadableError(f"qstat: the output is truncated or not XML: {error}") from error
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
    # qw, hqw, Eqw and Rq are waiting; r, t, Rr and the suspended s, S and T have started.
    return "waiting" if "q" in code or "w" in code else "running"
