"""Scripts for Flux.

They are submitted by ``flux submit``: the shell of ``flux batch`` would die of the warning signal.
``flux submit`` reads no directives; `fsqueue.launch.commands.flux` makes arguments of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fsqueue.common.values import format_duration
from fsqueue.launch.scripts.body import plain_body

if TYPE_CHECKING:
    from fsqueue.launch.scripts.body import Request

PREFIX: Final = "#flux:"


def directives(request: Request) -> list[str]:
    """The directives, without ``#flux:``."""
    profile = request.profile
    before = format_duration(profile.signal_before)
    lines = [
        f"--job-name={request.name}",
        f"--cc=1-{request.count}" if request.count > 1 else "",
        f"--nodes={profile.nodes}",
        f"--ntasks={profile.nodes}",
        f"--cores-per-task={profile.cores}",
        f"--gpus-per-task={profile.gpus}" if profile.gpus else "",
        f"--time-limit={profile.walltime:g}s",
        f"--signal=USR2@{before}" if profile.signal_before else "",
        f"--queue={profile.batch_queue}" if profile.batch_queue else "",
        f"--bank={profile.account}" if profile.account else "",
        f"--output={request.logs}/{{{{id}}}}.log",
    ]
    return [line for line in lines if line]


def body(request: Request) -> list[str]:
    """The commands; with several nodes Flux runs them on each."""
    return plain_body(request)
