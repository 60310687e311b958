"""Ends the processes that a body has started, when the body ends.

In a slot process, all processes below it belong to the body. In a thread slot, and for a body that
runs in the thread of a waiting body, only the children of the body's thread belong to it: Linux can
list the children of one thread (``__WNOTHREAD``). Processes that the program has started in other
threads are left alone. So are orphans whose parent, started by the body, has ended.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from fsqueue.runner.processes import descendants
from fsqueue.runner.processes.library_processes import fork_server_of_bodies, kept_for_reuse

if TYPE_CHECKING:
    from types import TracebackType

log = logging.getLogger(__name__)

# waitid(2): only children of the calling thread.
_OF_THIS_THREAD = 0x20000000
_WAIT_OPTIONS = os.WEXITED | os.WNOHANG | os.WNOWAIT


class BodyProcesses:
    """A block in which a body runs; processes that the body has started end with the block.

    Without child processes this costs two system calls.

    Args:
        whole: all processes below this one belong to the body.
    """

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._before: frozenset[int] = frozenset()
        self._pid = os.getpid()

    def __enter__(self) -> None:
        if not self._whole and _has_children(_OF_THIS_THREAD):
            self._before = frozenset(_children_of_this_thread())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if os.getpid() != self._pid:
            return
        try:
            if self._whole:
                end_processes_of_bodies(keep=True)
            elif _has_children(_OF_THIS_THREAD):
                self._end_of_this_thread()
        except OSError as failure:  # the result of the body must not be lost
            log.warning("processes that a body has started go on: %s", failure)

    def _end_of_this_thread(self) -> None:
        keep = self._before | kept_for_reuse()
        server = fork_server_of_bodies()
        started = [pid for pid in _children_of_this_thread() if pid not in keep and pid != server]
        descendants.end(lambda _: started, spared=keep)
        _let_objects_know()
        for pid in started:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def end_processes_of_bodies(*, keep: bool) -> None:
    """End all processes below this one, which only runs bodies.

    Args:
        keep: spare processes that libraries keep for the next body.
    """
    if not _has_children(0):
        return
    here = os.getpid()
    spared = kept_for_reuse() if keep else set()
    server = fork_server_of_bodies() if keep else None

    def find(known: list[descendants.Relative]) -> list[int]:
        return [each.pid for each in known if each.parent in {here, server} and each.pid != server]

    descendants.end(find, spared=spared)
    _let_objects_know()
    while (ended := _ended_child()) is not None and ended not in spared:
        os.waitpid(ended, os.WNOHANG)


def _has_children(whose: int) -> bool:
    """Whether this process, or thread, has a child, including a zombie."""
    if sys.platform != "linux":
        return bool(descendants.children(os.getpid()))
    try:
        os.waitid(os.P_ALL, 0, _WAIT_OPTIONS | whose)
    except ChildProcessError:
        return False
    return True


def _children_of_this_thread() -> list[int]:
    return [pid for pid in descendants.children(os.getpid()) if _is_of_this_thread(pid)]


def _is_of_this_thread(pid: int) -> bool:
    if sys.platform != "linux":
        return False  # other systems cannot tell
    try:
        os.waitid(os.P_PID, pid, _WAIT_OPTIONS | _OF_THIS_THREAD)
    except ChildProcessError:
        return False
    return True


def _ended_child() -> int | None:
    """A child that has ended and was not waited for: a killed one, or an orphan."""
    if sys.platform != "linux":
        return None
    try:
        found = os.waitid(os.P_ALL, 0, _WAIT_OPTIONS)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def _let_objects_know() -> None:
    """Let the Python objects of the killed processes notice their end."""
    multiprocessing.active_children()  # this waits for the ended ones
    subprocess._cleanup()  # type: ignore[attr-defined] # noqa: SLF001 - each new Popen calls it too
