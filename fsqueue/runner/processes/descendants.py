"""Finds and ends processes together with everything that they have started.

A program that a body starts may start others, leave its session (``setsid``) and lose its parent.
On Linux it still cannot escape: a slot process is a "child subreaper", so an orphan below it
becomes its child instead of a child of ``init``, and the whole tree stays visible in ``/proc``.
To end a tree, this module first stops its processes until a scan finds no new one, and then kills
them. Otherwise a process that forks faster than it is killed would escape.

Two kinds of processes cannot be ended: those that run as another user (``sudo``, setuid programs),
and those that other daemons start on request (``at``, ``systemd-run``, ``docker run``). On systems
other than Linux orphans are out of reach too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
# In these states of /proc/<pid>/stat a process runs no more instructions.
_DEAD = frozenset(b"ZXx")
# A killed process is gone within milliseconds, unless it waits for a disk.
PATIENCE = 1.0
_POLL = 0.002
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})


class Relative(NamedTuple):
    """A process as the system's table shows it."""

    pid: int
    parent: int
    session: int
    start: str


def adopt_orphans() -> None:
    """Make orphans below this process its children, on Linux."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def signal_when_parent_dies(number: int) -> None:
    """Let the kernel signal this process when the thread that has forked it ends, on Linux.

    This works even if a body holds the GIL in a call into C.
    """
    _prctl(_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def table() -> list[Relative]:
    """All running processes of this machine that this process may see.

    Raises:
        OSError: this process has reached its limit of open files, so it cannot read the table.
    """
    if sys.platform != "linux":
        return list(_table_by_psutil())
    found = (_read(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [each for each in found if each is not None]


def _read(pid: int) -> Relative | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError as error:
        if error.errno in _NO_DESCRIPTOR:
            raise
        return None
    # If the first thread of a process has ended, the others may still run.
    if fields[0][0] in _DEAD and int(fields[17]) <= 1:
        return None
    return Relative(pid, int(fields[1]), int(fields[3]), fields[19].decode())


def _table_by_psutil() -> Iterator[Relative]:
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield Relative(
                    process.pid,
                    process.ppid(),
                    os.getsid(process.pid),
                    str(process.create_time()),
                )


def children(pid: int) -> list[int]:
    """Running children of a process."""
    return [each.pid for each in table() if each.parent == pid]


def end(
    roots: Callable[[list[Relative]], Iterable[int]], *, spared: Iterable[int] = ()
) -> set[int]:
    """Kill processes and everything below them, and wait for their end.

    Resource trackers are left alone: they remove the shared memory of the killed processes, and end
    by themselves once the other processes have ended.

    Args:
        roots: selects the processes from the process table; called until it finds no new one.
        spared: processes to leave alone, with all processes below them.

    Returns:
        The ids of those that were killed.

    Raises:
        OSError: this process has reached its limit of open files.
    """
    stopped, spared = _stop(roots, frozenset(spared))
    for each in stopped.values():
        each.send(signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    for each in stopped.values():
        each.wait(deadline)
        each.close()
    return set(stopped)


def stop(roots: Callable[[list[Relative]], Iterable[int]]) -> set[int]:
    """Stop processes and everything below them, as `end` does first. Returns their ids.

    Raises:
        OSError: this process has reached its limit of open files.
    """
    stopped, _ = _stop(roots, frozenset())
    for each in stopped.values():
        each.close()
    return set(stopped)


def _stop(
    roots: Callable[[list[Relative]], Iterable[int]], spared: frozenset[int]
) -> tuple[dict[int, _Handle], frozenset[int]]:
    stopped: dict[int, _Handle] = {}
    while True:
        known = table()
        new = [each for each in _below(known, roots(known), spared) if each.pid not in stopped]
        trackers = {each.pid for each in new if is_resource_tracker(each.pid)}
        spared |= trackers
        new = [each for each in new if each.pid not in trackers]
        if not new:
            return stopped, spared
        for each in new:
            handle = _Handle.of(each)
            if handle is not None:
                handle.send(signal.SIGSTOP)
                stopped[each.pid] = handle


def _below(
    known: list[Relative], roots: Iterable[int], spared: frozenset[int]
) -> Iterator[Relative]:
    by_pid = {each.pid: each for each in known}
    by_parent: dict[int, list[int]] = {}
    for each in known:
        by_parent.setdefault(each.parent, []).append(each.pid)
    todo, seen = list(roots), {os.getpid(), *spared}
    while todo:
        pid = todo.pop()
        if pid not in seen and pid in by_pid:
            seen.add(pid)
            yield by_pid[pid]
            todo += by_parent.get(pid, ())


class _Handle:
    """A process handle: a signal can never hit another process that reuses the pid."""

    def __init__(self, relative: Relative, fd: int | None) -> None:
        self._relative, self._fd = relative, fd

    @classmethod
    def of(cls, relative: Relative) -> _Handle | None:
        """The handle of a process; None if it has ended, even if its pid is in use again."""
        fd = None
        if sys.platform == "linux":
            try:
                fd = os.pidfd_open(relative.pid)
            except ProcessLookupError:
                return None
            except OSError:  # a kernel before 5.3, or no free descriptor
                fd = None
        handle = cls(relative, fd)
        try:
            same = handle._is_same()
        except OSError:  # its descriptor was the last one
            handle.close()
            same = handle._is_same()
        if same:
            return handle
        handle.close()
        return None

    def _is_same(self) -> bool:
        now = _read(self._relative.pid) if sys.platform == "linux" else self._relative
        return now is not None and now.start == self._relative.start

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it still exists and belongs to this user."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._fd is not None:
                signal.pidfd_send_signal(self._fd, number)
            elif self._is_same():
                os.kill(self._relative.pid, number)

    def wait(self, deadline: float) -> None:
        """Wait until it has ended."""
        if self._fd is not None:
            left = max(0.0, deadline - time.monotonic())
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            poll.poll(left * 1000)
            return
        while self._is_same() and time.monotonic() < deadline:
            time.sleep(_POLL)

    def close(self) -> None:
        """Close its descriptor."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def is_resource_tracker(pid: int) -> bool:
    """Whether a process is a resource tracker of multiprocessing or of loky."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    return any(
        word.startswith(b"from ") and b"resource_tracker import main" in word for word in words
    )
