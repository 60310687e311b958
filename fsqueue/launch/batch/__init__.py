"""The batch systems: one module for each, with its scripts, commands and the parsers of its output.

Only `run` starts such a command.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from fsqueue.errors import ConfigError
from fsqueue.launch.batch.answers import (
    BatchError,
    Command,
    DoubtfulError,
    Listed,
    RefusedError,
    Reply,
    UnreadableError,
)
from fsqueue.launch.batch.flux import Flux
from fsqueue.launch.batch.lsf import Lsf
from fsqueue.launch.batch.oar import Oar
from fsqueue.launch.batch.pbs import Pbs
from fsqueue.launch.batch.request import Request
from fsqueue.launch.batch.sge import GridEngine
from fsqueue.launch.batch.slurm import Slurm
from fsqueue.launch.batch.system import BatchSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "BatchError",
    "BatchSystem",
    "Command",
    "DoubtfulError",
    "Listed",
    "RefusedError",
    "Reply",
    "Request",
    "UnreadableError",
    "batch_system",
    "list_jobs",
    "outer_job_removed",
    "run",
    "script_of",
    "submit",
]


SYSTEMS: Final[Mapping[str, BatchSystem]] = {
    "slurm": Slurm(),
    "pbs": Pbs(),
    "sge": GridEngine(),
    "lsf": Lsf(),
    "flux": Flux(),
    "oar": Oar(),
}

# A command that takes longer is killed; it may or may not have had its effect.
PATIENCE: Final = 120.0

# Variables of an enclosing job, which would act as options of the inner submission (seen with
# SLURM_MEM_PER_NODE and SLURM_NTASKS). Those by which commands find their batch system are kept,
# and so are users' own defaults.
_OUTER: Final = re.compile(
    r"(SLURM|SLURMD|SRUN|SBATCH|SALLOC|PBS|LSB|LS|SGE|FLUX|OAR)_.*"
    r"|PE_HOSTFILE|NSLOTS|NHOSTS|NQUEUES|JOB_ID|JOB_NAME|TASK_ID|RESTARTED|NCPUS"
    r"|FSQUEUE_JOB_.*|FSQUEUE_FLEET.*"
)
_KEPT: Final = frozenset(
    {
        *("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS"),
        *("SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_QOS", "SBATCH_RESERVATION"),
        *("PBS_CONF_FILE", "PBS_EXEC", "PBS_HOME", "PBS_SERVER", "PBS_DEFAULT"),
        *("SGE_ROOT", "SGE_CELL", "SGE_CLUSTER_NAME", "SGE_QMASTER_PORT", "SGE_EXECD_PORT"),
        *("FLUX_URI", "FLUX_CONF_DIR", "OARCONFFILE"),
    }
)


def outer_job_removed(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without the variables of the job in which this process runs."""
    return {
        name: value
        for name, value in environ.items()
        if name in _KEPT or not _OUTER.fullmatch(name)
    }


def batch_system(name: str) -> BatchSystem:
    """The batch system of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SYSTEMS:
        raise ConfigError(f"{name!r} is not a batch system; known are: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def script_of(request: Request) -> str:
    """The script of a submission; see `BatchSystem.script`."""
    return batch_system(request.profile.system).script(request)


def run(command: Command, *, patience: float = PATIENCE) -> Reply:
    """Run a command of the batch system, without the variables of an enclosing job.

    Raises:
        RefusedError: it is not on PATH, or may not be run.
        DoubtfulError: it did not end in time, and was killed.
    """
    import subprocess

    from fsqueue.environment import programs

    environ = {**outer_job_removed(os.environ), "LC_ALL": "C"}
    try:
        done = programs.run(command.argv, text=command.text.encode(), timeout=patience, env=environ)
    except subprocess.TimeoutExpired as error:
        raise DoubtfulError(f"{command} has not answered for {patience:g} s") from error
    except OSError as error:
        raise RefusedError(f"cannot run {command.argv[0]}: {error.strerror}") from error
    out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return Reply(done.returncode, out, err)


def submit(
    system: BatchSystem, script: str, count: int, run: Callable[[Command], Reply] = run
) -> Mapping[int, str]:
    """Submit a script and return the jobs' ids by their numbers.

    Raises:
        RefusedError: no job was submitted.
        DoubtfulError: jobs may have been submitted, and their ids are not known.
    """
    command = system.submission(script)
    reply = run(command)
    if reply.code:
        raise _failed(command, reply)
    try:
        return system.submitted(reply.out, count)
    except UnreadableError as error:
        raise DoubtfulError(f"{command}: {error}") from error


# Messages of clients that sent their request and got no answer: the job may exist.
_NO_ANSWER: Final = re.compile(
    r"timed? ?out|time-out|unable to contact|zero bytes|connection|communicat|not responding"
    r"|broken pipe|end of file",
    re.IGNORECASE,
)


def _failed(command: Command, reply: Reply) -> BatchError:
    message = (reply.err.strip() or reply.out.strip() or "no message")[-2000:]
    kind = DoubtfulError if _NO_ANSWER.search(message) or reply.code < 0 else RefusedError
    return kind(f"{command} ended with exit code {reply.code}: {message}")


def list_jobs(
    system: BatchSystem, user: str, run: Callable[[Command], Reply] = run
) -> Sequence[Listed]:
    """A user's jobs that were named by fsqueue and have not ended.

    Raises:
        BatchError: the listing failed, so nothing is known about any job.
    """
    command = system.listing(user)
    reply = run(command)
    if reply.code:
        raise _failed(command, reply)
    return system.listed(reply.out)
