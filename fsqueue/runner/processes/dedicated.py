"""Prepares a process that does nothing but run a worker, like ``fsqueue worker``.

A guardian process outlives the worker by a moment, and ends the processes that bodies in thread
slots have left: no other process can do that when the worker is killed. It recognizes programs by
an environment variable, and forked processes by an inherited pipe. It cannot find programs that
were started with another environment.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from fsqueue.environment.streams import empty_stdin
from fsqueue.runner.processes import descendants
from fsqueue.spool.disk.identity import is_gone, mark_of, this_process

if TYPE_CHECKING:
    from fsqueue.runner.processes.descendants import Relative
    from fsqueue.spool.disk.identity import Process

_VARIABLE = "FSQUEUE_WORKER_PROCESS"
_POLL = 0.25
# For this many seconds after the worker's end, programs of its bodies may start others.
_LONGEST = 5.0


def dedicate_process() -> None:
    """Prepare the calling process, which has no threads yet, for a worker."""
    empty_stdin()
    # A program that reads or configures the terminal would stop a background job, including the
    # worker. Programs inherit this setting.
    for number in (signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    os.environ[_VARIABLE] = mark_of(os.getpid())
    if os.path.isdir("/proc/self/fd"):
        _start_guardian()


def _start_guardian() -> None:
    """Start the guardian. A double fork: a body that waits for all its children must not see it."""
    _, inherited = os.pipe()
    worker, pipe = this_process(), os.fstat(inherited).st_ino
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.setsid()
        if os.fork() == 0:
            _guard(worker, pipe)
    finally:
        os._exit(0)


def _guard(worker: Process, pipe: int) -> None:
    # A reader of the worker's output waits until all processes that could write there have ended.
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    _wait_for_end(worker)
    mark = f"{_VARIABLE}={worker.pid}-{worker.start}".encode()

    def find(known: list[Relative]) -> list[int]:
        return [each.pid for each in known if _is_marked(each.pid, mark, f"pipe:[{pipe}]")]

    deadline = time.monotonic() + _LONGEST
    while descendants.end(find) and time.monotonic() < deadline:
        pass


def _wait_for_end(worker: Process) -> None:
    with contextlib.suppress(OSError):  # a kernel before 5.3, or the worker has ended
        select.select([os.pidfd_open(worker.pid)], [], [])
    while not is_gone(worker):
        time.sleep(_POLL)


def _is_marked(pid: int, mark: bytes, pipe: str) -> bool:
    folder = f"/proc/{pid}"
    try:
        with open(f"{folder}/environ", "rb") as file:
            if mark in file.read().split(b"\0"):
                return True
        return any(_target(f"{folder}/fd/{fd}") == pipe for fd in os.listdir(f"{folder}/fd"))
    except OSError:
        return False  # it belongs to another user, or has just ended


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
