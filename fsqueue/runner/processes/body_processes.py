"""Ends the processes that a body has started, when the body or its call ends.

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
import threading
from typing import TYPE_CHECKING

from fsqueue.runner.processes import descendants
from fsqueue.runner.processes.library_processes import fork_server_of_bodies, kept_for_reuse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

log: logging.Logger = logging.getLogger(__name__)

# waitid(2): only children of the calling thread.
_OF_THIS_THREAD = 0x20000000
_WAIT_OPTIONS = os.WEXITED | os.WNOHANG | os.WNOWAIT


class BodyProcesses:
    """A block in which a body runs; processes that the body has started end with the block.

    Without child processes this costs two system calls.

    Args:
        whole: all processes below this one belong to the body.

    Attributes:
        thread: the identifier of the body's thread; None before and after the block.
        before: children that this thread had before.
    """

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self.before: frozenset[int] = frozenset()
        self._pid = os.getpid()
        self.thread: int | None = None
        self._mutex = threading.Lock()

    def __enter__(self) -> None:
        if not self._whole and _has_children(_OF_THIS_THREAD):
            self.before = frozenset(_children_of_this_thread())
        self.thread = threading.get_ident()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if os.getpid() != self._pid:
            return
        with self._mutex:
            self.thread = None
        try:
            if self._whole:
                end_processes_of_bodies(keep=True)
            elif _has_children(_OF_THIS_THREAD):
                self._end_of_this_thread()
        except OSError as failure:  # the result of the body must not be lost
            log.warning("processes that a body has started go on: %s", failure)

    def end_now(self, inner: Iterable[BodyProcesses]) -> bool:
        """End the processes that the body has started so far. May be called from any thread.

        The call has ended, but its body goes on. Processes that it starts later, perhaps to clean
        up, end with it.

        Args:
            inner: blocks of the calls that the body waits for. Processes started by those that run
                in the body's thread are left alone.

        Returns:
            Whether there was anything to end.
        """
        with self._mutex:  # the thread must not start its next call now
            if self.thread is None or self._whole:
                return False
            children = _children_of(_native_id(self.thread))
            for each in inner:
                if each.thread == self.thread:
                    children &= each.before
            try:
                return bool(self._end(self._started(children)))
            except OSError as error:
                log.warning("processes that a body has started go on: %s", error)
                return False

    def _started(self, children: set[int]) -> set[int]:
        """The children that the body has started and that no library keeps."""
        started = children - self.before
        return started - kept_for_reuse(started) - {fork_server_of_bodies()}

    def _end(self, started: set[int]) -> set[int]:
        def find(known: list[descendants.Relative]) -> list[int]:
            return [each.pid for each in known if each.pid in started and each.parent == self._pid]

        return descendants.end(find)

    def _end_of_this_thread(self) -> None:
        started = self._started(set(_children_of_this_thread()))
        self._end(started)
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


def _native_id(thread: int) -> int | None:
    """The operating system's id of a thread."""
    return next((each.native_id for each in threading.enumerate() if each.ident == thread), None)


def _children_of(thread: int | None) -> set[int]:
    """Children of a thread of this process; empty on systems that cannot list them."""
    try:
        with open(f"/proc/self/task/{thread}/children", "rb") as file:
            return set(map(int, file.read().split()))
    except (FileNotFoundError, ProcessLookupError):
        return set()


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
