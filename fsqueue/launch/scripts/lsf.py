"""Scripts for LSF."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from fsqueue.launch.scripts.body import plain_body, quoted_body

if TYPE_CHECKING:
    from fsqueue.launch.scripts.body import Request

PREFIX: Final = "#BSUB"


def directives(request: Request) -> list[str]:
    """The directives, without ``#BSUB``; time limits are in minutes."""
    profile = request.profile
    array = request.count > 1
    hosts = "span[hosts=1]" if profile.nodes == 1 else f"span[ptile={profile.cores}]"
    usage = f" rusage[mem={request.memory}]" if profile.memory else ""
    name = f"{request.name}[1-{request.count}]" if array else request.name
    lines = [
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
    return [line for line in lines if line]


def body(request: Request) -> list[str]:
    """The commands."""
    if request.profile.nodes == 1:
        return plain_body(request)
    hosts = '''"$(sort -u "$LSB_DJOB_HOSTFILE" | tr '\\n' ' ')"'''
    return [f"exec blaunch -z {hosts} /bin/bash -c {quoted_body(request)} </dev/null"]
