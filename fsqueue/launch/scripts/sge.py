"""Scripts for Grid Engine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from fsqueue.common.values import format_clock
from fsqueue.launch.scripts.body import plain_body

if TYPE_CHECKING:
    from fsqueue.launch.scripts.body import Request

PREFIX: Final = "#$"


def directives(request: Request) -> list[str]:
    """The directives, without ``#$``."""
    profile = request.profile
    soft = profile.walltime - profile.signal_before
    array = request.count > 1
    lines = [
        "-S /bin/bash",
        f"-N {request.name}",
        f"-t 1-{request.count}" if array else "",
        f"-pe smp {profile.cores}" if profile.cores > 1 else "",
        # Limits are for each slot.
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
    return [line for line in lines if line]


def body(request: Request) -> list[str]:
    """The commands."""
    return plain_body(request)
