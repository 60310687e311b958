"""The resources of a batch job on this node: cores, memory and GPUs.

The batch system's variables come first, then the limits of the cgroup, then the processors that
this process may use. A job may use only a part of the machine.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from fsqueue.runner.processes.job import job_of
from fsqueue.spool.format.resources import amounts, given_amounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsqueue.runner.processes.job import Host
    from fsqueue.spool.format.resources import Amounts, Resources

_MEBIBYTE: Final = 1 << 20
_CGROUP: Final = "/sys/fs/cgroup"
# cgroup v1 expresses "no limit" by a number near 2**63.
_UNLIMITED: Final = 1 << 60
_CORE_VARIABLES: Final = {
    "slurm": ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
    "pbs": ("NCPUS", "PBS_NUM_PPN"),
    "sge": ("NSLOTS",),
    "lsf": ("LSB_DJOB_NUMPROC",),
}
_GPU_VARIABLES: Final = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
_DEVICE: Final = re.compile(r"[A-Za-z0-9_.:/-]+", re.ASCII)
AUTO: Final = "auto"
_NO_DEVICES: Final = frozenset({"", "-1", "none", "nodevfiles", "void"})


class Devices(NamedTuple):
    """GPUs by name, and the variable that shows them to a program."""

    variable: str
    names: tuple[str, ...]


class Cgroup(NamedTuple):
    """Limits of this process's cgroup; None where there is none."""

    cores: float | None
    memory: int | None
    """In bytes."""


def cores_of(environ: Mapping[str, str], host: Host) -> int:
    """Cores of this node that a worker may keep busy; at least 1."""
    job = job_of(environ)
    if job is not None:
        for name in _CORE_VARIABLES.get(job.system, ()):
            if (count := _count(environ.get(name, ""))) is not None:
                return count
        if job.system == "oar" and (lines := _oar_cores(environ, host)):
            return lines
    limit = cgroup_of(host).cores
    return max(1, min(host.cores, math.floor(limit) if limit else host.cores))


def memory_of(environ: Mapping[str, str], host: Host) -> int | None:
    """Bytes of this node that the job may use; None if nothing limits it."""
    if (whole := _count(environ.get("SLURM_MEM_PER_NODE", ""))) is not None:
        return whole * _MEBIBYTE
    if (per_core := _count(environ.get("SLURM_MEM_PER_CPU", ""))) is not None:
        return per_core * cores_of(environ, host) * _MEBIBYTE
    return cgroup_of(host).memory


def devices_of(environ: Mapping[str, str]) -> Devices | None:
    """GPUs that the batch system has given to this job; None if no variable names any."""
    for variable in _GPU_VARIABLES:
        names = tuple(name.strip() for name in environ.get(variable, "").split(","))
        names = tuple(name for name in names if name.lower() not in _NO_DEVICES)
        if names:
            return Devices(variable, tuple(dict.fromkeys(names)))
    return None


def cgroup_of(host: Host) -> Cgroup:
    """The tightest limits of this process's cgroup and of its ancestors."""
    cores: list[float] = []
    memory: list[int] = []
    for folder, controllers in _own_cgroups(host):
        if not controllers:
            cores += _cpu_max(host.read(f"{folder}/cpu.max"))
            memory += _bytes(host.read(f"{folder}/memory.max"))
        if "cpu" in controllers:
            quota = host.read(f"{folder}/cpu.cfs_quota_us").strip()
            period = host.read(f"{folder}/cpu.cfs_period_us").strip()
            cores += _cpu_max(f"{quota} {period}")
        if "memory" in controllers:
            memory += _bytes(host.read(f"{folder}/memory.limit_in_bytes"))
    return Cgroup(min(cores, default=None), min(memory, default=None))


def _own_cgroups(host: Host) -> list[tuple[str, frozenset[str]]]:
    """Folders with the limits of this process: its cgroup and its ancestors; see cgroups(7)."""
    found = []
    for line in host.read("/proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        controllers = frozenset(filter(None, names.split(",")))
        mount = f"{_CGROUP}/{names}" if controllers else _CGROUP
        parts = [part for part in path.split("/") if part]
        found += [
            ("/".join([mount, *parts[:depth]]), controllers) for depth in range(len(parts) + 1)
        ]
    return found


def _cpu_max(text: str) -> list[float]:
    """Cores of ``QUOTA PERIOD``; a quota of "max" or -1 is none."""
    match = re.fullmatch(r"(\d{1,15}) (\d{1,15})", text.strip(), re.ASCII)
    return [int(match[1]) / int(match[2])] if match is not None and int(match[2]) else []


def _bytes(text: str) -> list[int]:
    text = text.strip()
    return [int(text)] if text.isdecimal() and int(text) < _UNLIMITED else []


def _count(text: str) -> int | None:
    return int(text) if text.isdecimal() and int(text) > 0 else None


def _oar_cores(environ: Mapping[str, str], host: Host) -> int:
    """Cores of this node in OAR's file, which names the node once for each core."""
    lines = host.read(environ.get("OAR_NODEFILE", "")).split()
    short = host.node.partition(".")[0]
    return sum(line.partition(".")[0] == short for line in lines)


# -- what a worker offers -----------------------------------------------------------------------


def choose_devices(text: str, environ: Mapping[str, str]) -> Devices | None:
    """GPUs that a worker lends to calls: "auto", "none", or names like "0,1".

    Raises:
        ValueError: the text is none of these.
    """
    words = [word.strip() for word in text.split(",")]
    if words == ["none"]:
        return None
    if words == [AUTO]:
        return devices_of(environ)
    if not all(map(_DEVICE.fullmatch, words)) or len(set(words)) < len(words):
        raise ValueError(f"gpus = {text!r}, expected auto, none, or different names like 0,1")
    variable = next((name for name in _GPU_VARIABLES if environ.get(name)), _GPU_VARIABLES[0])
    return Devices(variable, tuple(words))


def offered(
    given: Resources | str, devices: Devices | None, environ: Mapping[str, str], host: Host
) -> Amounts:
    """The resources that a worker offers: the given ones, and its GPUs.

    ``mem=auto`` is the memory of the batch job. If nothing limits that, it is left out.

    Raises:
        ValueError: an amount or a name is invalid.
    """
    wanted: dict[str, float | str] = {}
    if isinstance(given, str):
        pairs = [word.partition("=") for word in re.split(r"[,\s]+", given) if word]
        if len({name for name, _, _ in pairs}) < len(pairs):
            amounts(given)  # raises: it names the one that is given twice
        wanted = {name: amount for name, _, amount in pairs}
    else:
        wanted = dict(given)
    if wanted.get("mem") == AUTO:
        memory = memory_of(environ, host)
        wanted["mem"] = 0 if memory is None else f"{memory // _MEBIBYTE}M"
    if devices is not None:
        wanted.setdefault("gpu", len(devices.names))
    return given_amounts(wanted)
