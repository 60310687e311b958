"""Keeps a number of worker processes of this machine running."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fsqueue.environment import programs
from fsqueue.runner.processes.job import RESTART, SUPERVISOR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MOST_WORKERS: Final = 1_000
"""The largest number of workers that one process starts."""

log: logging.Logger = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 1.0, 60.0
# Seconds after which a worker is known to work: if it dies later, the next one starts soon.
_SETTLED = 60.0
# Seconds between checks where the kernel cannot announce the end of a process.
_POLL = 0.5


@dataclass
class _Place:
    """The place of one worker."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    pidfd: int | None = None
    began: float = 0.0
    due: float | None = 0.0
    """When the next worker starts; None while one is running, or if none is to start."""
    failures: int = 0


@dataclass
class Supervisor:
    """Starts workers, and replaces those that fail.

    A worker that leaves with exit code 0, because it was drained or had nothing left to do, is not
    replaced.

    Args:
        command: argument list of a worker.
        count: number of workers.
        environ: environment variables of the workers, in addition to those of this process.
        output: file descriptor for their output; None: that of this process.
        folder: working directory of the workers; None: that of this process.
    """

    command: Sequence[str]
    count: int
    environ: Mapping[str, str] = field(default_factory=dict)
    output: int | None = None
    folder: str | None = None

    def __post_init__(self) -> None:
        self._places = [_Place(number) for number in range(1, self.count + 1)]
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._stopping = False

    def run(self, should_stop: Callable[[], bool] = lambda: False, every: float = 60.0) -> int:
        """Supervise until all workers have left, or were stopped.

        Args:
            should_stop: called from time to time; returns whether to drain the workers.
            every: seconds between two of these calls.

        Returns:
            0, or the exit code of a worker that failed at the end.
        """
        code, asked = 0, time.monotonic()
        try:
            while (timeout := self._step()) is not None:
                self._wait(min(timeout, every))
                for place in self._places:
                    code = self._note_end(place) or code
                if not self._stopping and time.monotonic() - asked >= every:
                    asked = time.monotonic()
                    if should_stop():
                        self.stop()
            return code if self._stopping else 0
        finally:
            self._kill_all()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to all workers, and replace none of them. From any thread or handler."""
        self._stopping = True
        self.forward(number)
        with contextlib.suppress(OSError):  # the pipe is full, which wakes it anyway, or closed
            os.write(self._wake, b".")

    def forward(self, number: int) -> None:
        """Send a signal to all workers, which may go on. From any thread or handler."""
        for place in self._places:
            if place.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    place.process.send_signal(number)

    def close(self) -> None:
        """Release the descriptors, after `run` has returned."""
        os.close(self._woken)
        os.close(self._wake)

    @property
    def pids(self) -> list[int]:
        """The workers that run."""
        return [place.process.pid for place in self._places if place.process is not None]

    # -- steps --------------------------------------------------------------------------

    def _step(self) -> float | None:
        """Start the workers that are due; returns seconds to wait, or None if none is left."""
        now = time.monotonic()
        for place in self._places:
            if self._stopping and place.process is None:
                place.due = None
            elif place.process is None and place.due is not None and place.due <= now:
                self._start(place)
        waiting = [place.due for place in self._places if place.due is not None]
        if not waiting and not self.pids:
            return None
        if any(place.process is not None and place.pidfd is None for place in self._places):
            return _POLL
        return max(0.0, min(waiting) - now) if waiting else 3600.0

    def _start(self, place: _Place) -> None:
        place.began, place.due = time.monotonic(), None
        environ = {**os.environ, **self.environ, SUPERVISOR: str(os.getpid())}
        try:
            # In its own session, so that Ctrl-C reaches only this process, which passes it on once.
            place.process = programs.start(
                self.command,
                env=environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.output,
                start_new_session=True,
            )
        except OSError as error:
            log.error("cannot start worker %d: %s", place.number, error)  # noqa: TRY400
            self._back_off(place)
            return
        with contextlib.suppress(OSError, AttributeError):  # an old kernel, or not Linux
            place.pidfd = os.pidfd_open(place.process.pid)
        if self._stopping:  # a signal arrived in between
            place.process.terminate()

    def _wait(self, timeout: float) -> None:
        ends = [place.pidfd for place in self._places if place.pidfd is not None]
        ready, _, _ = select.select([self._woken, *ends], [], [], timeout)
        if self._woken in ready:
            os.read(self._woken, 4096)

    def _note_end(self, place: _Place) -> int:
        """Plan the next worker if one has ended. Returns its exit code, or 0."""
        if place.process is None or (code := place.process.poll()) is None:
            return 0
        if place.pidfd is not None:
            os.close(place.pidfd)
        place.process = place.pidfd = None
        if self._stopping:
            return code
        if code == RESTART:
            place.due, place.failures = time.monotonic(), 0
        elif code != 0:
            self._back_off(place)
            what = f"signal {-code}" if code < 0 else f"exit code {code}"
            delay = (place.due or 0.0) - time.monotonic()
            text = "worker %d has ended with %s; the next one starts in %.0f s"
            log.warning(text, place.number, what, delay)
        return 0

    def _back_off(self, place: _Place) -> None:
        if time.monotonic() - place.began > _SETTLED:
            place.failures = 0
        delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2**place.failures)
        place.failures += 1
        place.due = time.monotonic() + delay

    def _kill_all(self) -> None:
        """End the remaining workers after an error, with SIGQUIT, on which they return calls."""
        for place in self._places:
            if place.process is not None:
                place.process.send_signal(signal.SIGQUIT)
                place.process.wait()


def worker_command(application: str, options: Sequence[str] = ()) -> list[str]:
    """The argument list of a worker of this interpreter."""
    return [sys.executable, "-m", "fsqueue", "worker", application, *options]
