"""Watches for the end of a worker's job, and notices when the worker has outlived its job."""

from __future__ import annotations

import math
import os
import threading
from typing import TYPE_CHECKING, Final

from fsqueue.runner.job.lifetime import Departure
from fsqueue.runner.processes.job import SUPERVISOR, job_of
from fsqueue.runner.processes.threads import start_threads
from fsqueue.spool.disk.identity import start_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Seconds between two checks of the parent process.
_LOOK: Final = 0.5


class ParentWatch:
    """Checks whether the process that started this worker is gone.

    A batch system that ends a job may miss a worker, for example if the process that supervises the
    job was killed. The node's cores then belong to another job. When a parent ends, the kernel
    gives its child another parent, so the check needs no file.

    Args:
        environ: tells whether this process is in a batch job, or has a supervisor.
        in_job: whether the worker ends with its job.

    Attributes:
        needed: whether to watch at all.
    """

    def __init__(self, environ: Mapping[str, str], *, in_job: bool) -> None:
        supervisor = environ.get(SUPERVISOR, "")
        self._supervisor = int(supervisor) if supervisor.isdecimal() else 0
        self.needed: bool = bool(self._supervisor) or (in_job and job_of(environ) is not None)
        self._parent = os.getppid()

    def gone(self) -> str:
        """A text that says which process is gone; empty if none is."""
        if os.getppid() != self._parent:
            return f"its parent process {self._parent} is gone"
        if self._supervisor and start_of(self._supervisor) is None:
            return f"its supervisor, process {self._supervisor}, is gone"
        return ""


class JobWatch:
    """A thread that ends the running calls of a worker at the end of its job.

    It is separate from upkeep, which may have to wait for the file server.

    Args:
        last_call: when to end the calls, on the monotonic clock; infinity: never.
        parent: tells whether the worker has outlived its job.
        leave: called once; gives the running calls back and ends the process.
        monotonic: the clock.
    """

    def __init__(
        self,
        last_call: float,
        parent: ParentWatch,
        leave: Callable[[Departure], object],
        monotonic: Callable[[], float],
    ) -> None:
        self._last_call, self._parent, self._leave = last_call, parent, leave
        self._monotonic = monotonic
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, if there is anything to watch.

        Raises:
            FSQueueError: this process cannot start another thread.
        """
        if self._parent.needed or self._last_call < math.inf:
            thread = threading.Thread(target=self._run, name="fsqueue-job", daemon=True)
            start_threads(thread)
            self._thread = thread

    def stop(self) -> None:
        """Stop the thread and wait for its end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._pause()):
            if self._parent.needed and (why := self._parent.gone()):
                self._leave(Departure("signal", why))
                return
            if self._monotonic() >= self._last_call:
                self._leave(Departure("walltime", "the job ends soon"))
                return

    def _pause(self) -> float:
        longest = _LOOK if self._parent.needed else threading.TIMEOUT_MAX
        return min(longest, max(0.0, self._last_call - self._monotonic()))
