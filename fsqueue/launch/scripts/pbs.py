"""Scripts for PBS Pro and OpenPBS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fsqueue.common.values import format_clock
from fsqueue.launch.scripts.body import NAME_PREFIX, plain_body, quoted_body

if TYPE_CHECKING:
    from fsqueue.launch.scripts.body import Request

PREFIX: Final = "#PBS"
# Older versions refuse names of more than 15 characters.
_LONGEST_NAME: Final = 15


def directives(request: Request) -> list[str]:
    """The directives, without ``#PBS``."""
    profile = request.profile
    chunk = [f"ncpus={profile.cores}"]
    chunk += [f"mem={request.memory}mb"] if profile.memory else []
    chunk += [f"ngpus={profile.gpus}"] if profile.gpus else []
    # One entry a node in the list that pbsdsh goes through, and no two chunks on one node.
    chunk += ["mpiprocs=1"] if profile.nodes > 1 else []
    lines = [
        f"-N {_name(request)}",
        f"-J 1-{request.count}" if request.count > 1 else "",
        f"-l select={profile.nodes}:{':'.join(chunk)}",
        "-l place=scatter" if profile.nodes > 1 else "",
        f"-l walltime={format_clock(profile.walltime)}",
        f"-q {profile.batch_queue}" if profile.batch_queue else "",
        f"-A {profile.account}" if profile.account else "",
        "-j oe",
        f"-o {request.logs}/",
        "-r y" if profile.requeue else "-r n",
    ]
    return [line for line in lines if line]


def _name(request: Request) -> str:
    """It ends with the token, by which jobs are found again."""
    room = _LONGEST_NAME - len(f"{NAME_PREFIX}--{request.token}")
    return f"{NAME_PREFIX}-{request.fleet[: max(1, room)]}-{request.token}"


def body(request: Request) -> list[str]:
    """The commands."""
    if request.profile.nodes == 1:
        return plain_body(request)
    return [f"exec pbsdsh -- /bin/bash -c {quoted_body(request)} </dev/null"]
