"""Prepares a process that is nothing but a worker: that of ``fsqueue worker``.

A guardian process outlives it by a moment, and ends what bodies in thread slots have left: nobody
else can when the worker is killed. It knows programs by a variable of their environment, and
processes that were only forked by a pipe that they have inherited. It cannot see programs that were
started with another environment.
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
# A body's programs may start others for this long after their worker has ended.
_LONGEST = 5.0


def dedicate_process() -> None:
    """Give the calling process, which has no threads yet, to a worker."""
    empty_stdin()
    # A program that reads or sets the terminal would stop a job in the background, and so the
    # worker. Programs inherit this.
    for number in (signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    os.environ[_VARIABLE] = mark_of(os.getpid())
    if os.path.isdir("/proc/self/fd"):
        _start_guardian()


def _start_guardian() -> None:
    """Fork twice: a body that waits for all its children must not wait for the guardian."""
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
    # Whoever reads the worker's output waits for the end of all who could write there.
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
    with contextlib.suppress(OSError):  # a kernel before 5.3, or it has ended by now
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
        return False  # another user's, or it has just ended


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
