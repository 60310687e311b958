"""Scripts for Slurm."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from fsqueue.common.values import format_clock
from fsqueue.launch.scripts.body import plain_body, preparation, worker

if TYPE_CHECKING:
    from fsqueue.launch.scripts.body import Request

PREFIX: Final = "#SBATCH"
# One worker that is killed does not end those on the other nodes.
_ON_EACH_NODE: Final = "srun --kill-on-bad-exit=0 --wait=0 --input=none"


def directives(request: Request) -> list[str]:
    """The directives, without ``#SBATCH``."""
    profile = request.profile
    several = profile.nodes > 1
    # B: the signal goes to the batch shell only, which the worker has replaced. With several nodes
    # that is srun, which passes it on.
    lines = [
        f"--job-name={request.name}",
        f"--comment=fsqueue:{request.fleet}:{request.token}",
        f"--array=1-{request.count}" if request.count > 1 else "",
        f"--nodes={profile.nodes}",
        "--ntasks-per-node=1" if several else "--ntasks=1",
        f"--cpus-per-task={profile.cores}",
        f"--mem={request.memory}M" if profile.memory else "",
        f"--gres=gpu:{profile.gpus}" if profile.gpus else "",
        f"--time={format_clock(profile.walltime)}",
        f"--partition={profile.batch_queue}" if profile.batch_queue else "",
        f"--account={profile.account}" if profile.account else "",
        f"--signal=B:USR2@{math.ceil(profile.signal_before)}" if profile.signal_before else "",
        "--requeue" if profile.requeue else "--no-requeue",
        "--open-mode=append",
        f"--output={request.logs}/{'%A_%a' if request.count > 1 else '%j'}.log",
    ]
    return [line for line in lines if line]


def body(request: Request) -> list[str]:
    """The commands."""
    if request.profile.nodes == 1:
        return plain_body(request)
    # Without it, steps of a job of several nodes get one core (srun does not read the batch job's).
    cores = f"export SRUN_CPUS_PER_TASK={request.profile.cores}"
    return [*preparation(request), cores, worker(request, _ON_EACH_NODE)]
