"""Identifies processes, so that others can tell for certain whether one is gone."""

from __future__ import annotations

import functools
import os
import re
import socket
import sys
from typing import Annotated, Final, NamedTuple

import msgspec

# In these states of /proc/<pid>/stat a process executes no further instructions.
_DEAD = frozenset("ZXx")
_LARGEST_PID: Final = (1 << 31) - 1
_HIDDEN: Final = ""
"""The start time of a process that exists but hides its details."""


class Process(NamedTuple):
    """Identifies a process even if its pid is reused."""

    boot: str
    """Identifies a boot of a machine and a PID namespace, in which `pid` is unique."""
    pid: Annotated[int, msgspec.Meta(gt=0, le=_LARGEST_PID)]
    start: str
    """Its start time as reported by the system; distinguishes reused pids."""


def host_name() -> str:
    """This machine's name, in characters that are safe in file names."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0])[:24] or "host"


@functools.cache
def boot_id() -> str:
    """Identifies this machine's current boot and the PID namespace in which a pid is valid."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        import psutil

        return f"{socket.gethostname()}.{psutil.boot_time():.0f}"


@functools.cache
def _shows_this_namespace(pid: int) -> bool:
    """Whether /proc shows this process's PID namespace.

    It does not after ``unshare --pid`` without ``--mount-proc``: /proc then still shows the outer
    namespace, where a pid of this namespace is a different process.

    Args:
        pid: this process's pid; a parameter, since a forked child may be in another namespace.
    """
    try:
        return os.readlink("/proc/self") == str(pid)
    except OSError:
        return False


def start_of(pid: int) -> str | None:
    """The start time of a process on this machine, as the system reports it; None if it is gone.

    It is empty if the process exists but hides its details.

    On Linux, it is in clock ticks since boot (proc(5), field 22). psutil's `create_time` adds the
    boot time, which changes when the clock is set.
    """
    if sys.platform != "linux":
        return _start_by_psutil(pid)
    own = os.getpid()
    if pid != own and not _shows_this_namespace(own):
        return _HIDDEN if _exists(pid) else None
    try:
        with open(f"/proc/{'self' if pid == own else pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        # With the mount option hidepid, /proc does not show other users' processes.
        return _HIDDEN if _exists(pid) else None
    return None if fields[0].decode() in _DEAD else fields[19].decode()


def _exists(pid: int) -> bool:
    """Whether the kernel knows a process, including a zombie."""
    if not 0 < pid <= _LARGEST_PID:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # this user may not signal it
    return True


def processor_time(pid: int) -> int | None:
    """CPU time used by a process on this machine, in clock ticks; None if that cannot be seen.

    It does not grow while the process is suspended by a signal, a debugger or a freezer.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12])  # proc(5), fields 14 and 15


def _start_by_psutil(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        gone = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return None if gone else str(process.create_time())


def this_process() -> Process:
    """The calling process."""
    return Process(boot_id(), os.getpid(), start_of(os.getpid()) or "")


def worker_name(token: str) -> str:
    """A name for a worker in the calling process."""
    return f"{host_name()}-{os.getpid()}-{token}"


def has_live_process(worker: str) -> bool:
    """Whether the process of a worker on this machine exists, given the worker's name."""
    host, _, pid = worker.rpartition("-")[0].rpartition("-")
    return host == host_name() and pid.isdecimal() and start_of(int(pid)) is not None


def mark_of(pid: int) -> str:
    """A process as part of a file name; see `is_marked_gone`."""
    return f"{pid}-{re.sub('[^0-9]', '-', start_of(pid) or '')}"


def is_marked_gone(mark: str) -> bool:
    """Whether a process on this machine, as described by `mark_of`, has ended.

    A process in another PID namespace is invisible from here and counts as ended.
    """
    pid = int(mark.partition("-")[0])
    return start_of(pid) != _HIDDEN and mark_of(pid) != mark


def is_gone(process: Process) -> bool:
    """Whether a process has definitely ended; False if it is alive or invisible from here."""
    return process.boot == boot_id() and start_of(process.pid) not in {process.start, _HIDDEN}
