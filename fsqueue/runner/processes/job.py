"""The batch job in which this process runs: its system, id and end.

All information comes from a mapping of environment variables, from files that the caller's `Host`
opens, and from commands of the batch system that it runs. So the rules can be tested for systems
that are not installed.
"""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Final, NamedTuple

from fsqueue.common.values import parse_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

UNTIL: Final = "FSQUEUE_JOB_UNTIL"
"""End of the job in seconds since the epoch, by the clock of the node that set it."""
NODE: Final = "FSQUEUE_JOB_NODE"
"""Name of the node that set `UNTIL`."""
FLEET: Final = "FSQUEUE_FLEET"
TOKEN: Final = "FSQUEUE_FLEET_TOKEN"  # noqa: S105 - it identifies a submission, no secret
SUPERVISOR: Final = "FSQUEUE_SUPERVISOR"
"""Holds the process id of the worker's supervisor. The worker leaves when that process ends."""
RESTART: Final = 75
"""Exit code of a supervised worker that leaves in order to be replaced."""

# Seconds that a batch system's command may take: a busy controller answers late.
PATIENCE: Final = 20.0


class Host(NamedTuple):
    """Access to the machine for the rules; `this_host` returns the real one."""

    ask: Callable[[Sequence[str]], str]
    """Run a command and return its standard output; empty if it fails."""
    read: Callable[[str], str]
    """The content of a small text file; empty if there is none."""
    wall: Callable[[], float]
    """Seconds since the epoch by this node's clock."""
    monotonic: Callable[[], float]
    node: str
    """This node's name."""
    cores: int
    """Processors that this process may use."""


def this_host() -> Host:
    """The machine on which this runs."""
    import time

    return Host(_ask, _read, time.time, time.monotonic, os.uname().nodename, _affinity())


def _ask(argv: Sequence[str]) -> str:
    import subprocess

    from fsqueue.environment import programs

    environ = {**os.environ, "LC_ALL": "C"}
    try:
        done = programs.run(argv, timeout=PATIENCE, env=environ)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# -- which job ----------------------------------------------------------------------------------


class Job(NamedTuple):
    """The batch job in which this process runs."""

    system: str
    """slurm, pbs, sge, lsf, flux or oar."""
    id: str
    """As the system's cancel command takes it."""
    array_task: str = ""
    restart: int = 0
    """How often the job was requeued before: it keeps its id."""
    fleet: str = ""
    token: str = ""
    """Names the submission; empty for a job that fsqueue has not submitted."""

    @property
    def number(self) -> int:
        """Number of the job in its submission, from 1."""
        return int(self.array_task) if self.array_task.isdecimal() else 1


# The variable with a job's id, and the one with its number in an array.
_VARIABLES: Final = {
    "slurm": ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID"),
    "flux": ("FLUX_JOB_ID", "FLUX_JOB_CC"),
    "lsf": ("LSB_JOBID", "LSB_JOBINDEX"),
    "oar": ("OAR_JOB_ID", "OAR_ARRAY_INDEX"),
    "sge": ("JOB_ID", "SGE_TASK_ID"),
    "pbs": ("PBS_JOBID", "PBS_ARRAY_INDEX"),
}
_NOT_AN_ARRAY: Final = frozenset({"", "0", "undefined"})


def job_of(environ: Mapping[str, str]) -> Job | None:
    """The job that the environment belongs to; None outside of one."""
    system = next((name for name in _VARIABLES if _is_in(name, environ)), None)
    if system is None:
        return None
    id_name, task_name = _VARIABLES[system]
    job_id = environ[id_name]
    task = environ.get(task_name, "")
    if system == "pbs":
        task = task or environ.get("PBS_ARRAYID", "")  # Torque
    if task in _NOT_AN_ARRAY and system != "slurm":
        task = ""
    return Job(
        system,
        _cancel_id(system, job_id, task, environ),
        task,
        _restarts(environ),
        environ.get(FLEET, ""),
        environ.get(TOKEN, ""),
    )


def kill_notice(environ: Mapping[str, str]) -> int | None:
    """The warning signal for an imminent kill, as opposed to the end of the job's time.

    Grid Engine sends SIGUSR2 before it kills a job that was deleted, if the job asked for it with
    ``-notify``; before the end of its time, SIGUSR1.
    """
    job = job_of(environ)
    return signal.SIGUSR2 if job is not None and job.system == "sge" else None


def _is_in(system: str, environ: Mapping[str, str]) -> bool:
    if not environ.get(_VARIABLES[system][0]):
        return False
    # JOB_ID is a common name: Grid Engine's jobs have SGE_TASK_ID too, "undefined" or a number.
    return system != "sge" or bool(environ.get("SGE_TASK_ID"))


def _cancel_id(system: str, job_id: str, task: str, environ: Mapping[str, str]) -> str:
    if not task:
        return job_id
    if system == "slurm":
        # `scancel` ignores the raw id of an array's element, and the last element's is the array's.
        return f"{environ.get('SLURM_ARRAY_JOB_ID', job_id)}_{task}"
    if system == "sge":
        return f"{job_id}.{task}"
    if system == "lsf":
        return f"{job_id}[{task}]"
    return job_id  # PBS names the element itself; those of Flux and OAR have ids of their own


def _restarts(environ: Mapping[str, str]) -> int:
    for name in ("SLURM_RESTART_COUNT", "PBS_RUN_COUNT", "RESTARTED"):
        text = environ.get(name, "")
        if text.isdecimal():
            # PBS counts runs, from 1; Slurm and Grid Engine count restarts.
            return max(0, int(text) - 1) if name == "PBS_RUN_COUNT" else int(text)
    return 1 if environ.get("LSB_RESTART") == "Y" else 0


# -- the end ------------------------------------------------------------------------------------


class End(NamedTuple):
    """When a job ends."""

    at: float
    """On this process's monotonic clock."""
    source: str
    """Where the time comes from, for the log."""


def find_end(environ: Mapping[str, str], host: Host) -> End | None:
    """The job's end, by the first source that knows it; None if none does.

    Commands are run at most once, and only if the environment does not contain the end.
    """
    return _from_environment(environ, host) or _from_batch_system(environ, host)


def _from_environment(environ: Mapping[str, str], host: Host) -> End | None:
    for name in (UNTIL, "SLURM_JOB_END_TIME"):
        until = _number(environ.get(name, ""))
        if until is None or (name == UNTIL and not _is_mine(environ, host)):
            continue
        return End(host.monotonic() + until - host.wall(), name)
    return None


def _is_mine(environ: Mapping[str, str], host: Host) -> bool:
    """Whether `UNTIL` was set on this node: the clocks of two nodes need not agree."""
    node = environ.get(NODE, "")
    # Slurm's own name of the node tells its virtual nodes on one host apart.
    return not node or node in {host.node, environ.get("SLURMD_NODENAME")}


def _from_batch_system(environ: Mapping[str, str], host: Host) -> End | None:
    job = job_of(environ)
    if job is None:
        return None
    before = host.monotonic()
    left, source = _time_left(job, environ, host)
    return None if left is None else End(before + left, source)


def _time_left(job: Job, environ: Mapping[str, str], host: Host) -> tuple[float | None, str]:
    if job.system == "oar":
        return _number(environ.get("OAR_JOB_WALLTIME_SECONDS", "")), "OAR_JOB_WALLTIME_SECONDS"
    question, read = _QUESTIONS.get(job.system, ((), lambda _: None))
    if not question:
        return None, ""
    argv = [job.id if word == "ID" else word for word in question]
    return read(host.ask(argv)), " ".join(argv[:2])


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,15}(\.\d{1,9})?", text.strip(), re.ASCII) else None


def _last_line(text: str) -> str:
    lines = text.split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _read_squeue(text: str) -> float | None:
    return parse_clock(_last_line(text))  # or UNLIMITED, NOT_SET, INVALID


def _read_flux(text: str) -> float | None:
    return _number(_last_line(text))  # or "infinity"


def _read_bjobs(text: str) -> float | None:
    """``HOURS:MINUTES L``; with ``E`` it is LSF's estimate, and "-" without a limit."""
    match = re.fullmatch(r"(\d{1,6}):(\d{2})\s+L", _last_line(text), re.ASCII)
    return None if match is None else float(int(match[1]) * 3600 + int(match[2]) * 60)


def _read_qstat(text: str) -> float | None:
    limit = re.search(r"^\s*Resource_List\.walltime = (\S+)$", text, re.MULTILINE)
    used = re.search(r"^\s*resources_used\.walltime = (\S+)$", text, re.MULTILINE)
    whole = None if limit is None else parse_clock(limit[1])
    gone = 0.0 if used is None else parse_clock(used[1]) or 0.0
    return None if whole is None else max(0.0, whole - gone)


_Reader = tuple[tuple[str, ...], "Callable[[str], float | None]"]
_QUESTIONS: Final[Mapping[str, _Reader]] = {
    "slurm": (("squeue", "-h", "-j", "ID", "-o", "%L"), _read_squeue),
    "flux": (("flux", "job", "timeleft"), _read_flux),
    "lsf": (("bjobs", "-noheader", "-o", "time_left", "ID"), _read_bjobs),
    "pbs": (("qstat", "-f", "ID"), _read_qstat),
}
