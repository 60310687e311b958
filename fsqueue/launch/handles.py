"""Fleets and local workers, for programs: ``app.launch``, ``app.fleet`` and ``app.workers``."""

from __future__ import annotations

import os
import sys
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from fsqueue.common.values import plain
from fsqueue.errors import ConfigError
from fsqueue.launch.autoscaling.autoscaler import Autoscaler, Managed
from fsqueue.launch.batch import BatchError, run
from fsqueue.launch.fleet import Fleet
from fsqueue.launch.launcher import JobTemplate, Launcher, application_of
from fsqueue.launch.profiles import find_sources, load_profile
from fsqueue.launch.supervisor import MOST_WORKERS, Supervisor, worker_command
from fsqueue.launch.waiting import wait_until_started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from fsqueue.launch.batch import Command, Reply
    from fsqueue.launch.pace import Pace
    from fsqueue.launch.sightings import JobInfo
    from fsqueue.runner.host import Host

OnExit = Literal["drain", "keep", "now"]
NOTHING: Mapping[str, str] = MappingProxyType({})


class FleetHandle:
    """A fleet of the application's spool: see ``app.fleet``.

    Raises:
        SpoolError: from each method: the spool has no such fleet.
        BatchError: from methods that ask the batch system, when it does not answer.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def __repr__(self) -> str:
        return f"<fleet {self.name}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._fleet.name

    @property
    def jobs(self) -> list[JobInfo]:
        """Its jobs, each with ``id``, ``state``, ``reason`` and ``start``."""
        return self._fleet.refresh()

    @property
    def state(self) -> Literal["open", "paused", "stopped"]:
        """Whether jobs are submitted."""
        if self._fleet.files.marked("stopped") is not None:
            return "stopped"
        return "open" if self._fleet.files.marked("paused") is None else "paused"

    def scale(self, most: int) -> None:
        """Change the largest number of jobs. Existing jobs go on."""
        self._fleet.scale(most)

    def pause(self) -> None:
        """Submit no more jobs until `resume`. Existing jobs go on."""
        self._fleet.pause("by a program")

    def resume(self) -> None:
        """Submit jobs again after a pause or a stop."""
        self._fleet.resume()

    def stop(self, *, now: bool = False) -> None:
        """Cancel the waiting jobs; the workers of running jobs finish their calls and leave.

        Args:
            now: cancel the running jobs too; their workers return their calls at once.
        """
        try:
            jobs = self._fleet.refresh()
        except BatchError:
            jobs = self._fleet.sightings()  # workers see the mark
        self._fleet.stop(jobs, now=now, why="by a program")

    def wait(self, workers: int = 1, timeout: float | None = None) -> bool:
        """Wait until the workers of this many jobs have started.

        Args:
            workers: number of jobs.
            timeout: longest time to wait, in seconds; None: no limit.

        Returns:
            Whether they have; False after the timeout.
        """
        return wait_until_started(self._fleet, workers, timeout)


class _Closing:
    """A context manager that is closed at the end of its block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers or the thread of this object."""
        raise NotImplementedError


class Launched(FleetHandle, _Closing):
    """A fleet that a thread of this process keeps at the size that is needed: see ``app.launch``.

    A context manager; `close` does the same as leaving its block.
    """

    def __init__(self, scaler: Autoscaler, fleet: Fleet, on_exit: OnExit) -> None:
        super().__init__(fleet)
        self._on_exit = on_exit
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=scaler.run, args=[self._stop], name=f"fsqueue-{fleet.name}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop scaling, and treat the jobs as ``on_exit`` says."""
        self._stop.set()
        self._thread.join()
        if self._on_exit != "keep":
            self.stop(now=self._on_exit == "now")


class LocalWorkers(_Closing):
    """Workers on this machine: see ``app.workers``. A context manager."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._thread = threading.Thread(target=supervisor.run, name="fsqueue-workers", daemon=True)
        self._open = True
        self._thread.start()

    def __repr__(self) -> str:
        return f"<{len(self._supervisor.pids)} local workers>"

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run."""
        return self._supervisor.pids

    def close(self) -> None:
        """Let the workers finish their calls, and wait until they have left."""
        if self._open:
            self._open = False
            self._supervisor.stop()
            self._thread.join()
            self._supervisor.close()


def fleet(host: Host, name: str) -> FleetHandle:
    """See ``app.fleet``."""
    return FleetHandle(Fleet(host.store.files, name))


def launch(
    host: Host,
    name: str,
    *,
    on_exit: OnExit,
    overrides: dict[str, Any],
    run: Callable[[Command], Reply] = run,
    pace: Pace | None = None,
) -> Launched:
    """See ``app.launch``."""
    given = {key: value for key, value in overrides.items() if value is not None}
    profile = load_profile(name, find_sources(), overrides=given)
    template = JobTemplate(application_of(host), name, profile, run=run)
    template.check()
    launcher = Launcher(host.store, template, pace=pace)
    launcher.define()
    if launcher.fleet.files.marked("stopped") is not None:
        launcher.fleet.resume()
    scaler = Autoscaler(
        host.store,
        host.app_id,
        [Managed(name, template.script_of)],
        heartbeat=host.conf.heartbeat,
        run=run,
        pace=pace,
    )
    return Launched(scaler, launcher.fleet, on_exit)


def local_workers(
    host: Host,
    count: int,
    options: Mapping[str, object],
    more: Iterable[str] = (),
    environ: Mapping[str, str] = NOTHING,
) -> LocalWorkers:
    """See ``app.workers``; an option that is None is not given.

    Args:
        host: the application.
        count: number of workers.
        options: flags of a worker with their values.
        more: other words of its command line.
        environ: additional environment variables for the workers.
    """
    number = plain(count)
    if type(number) is not int or not 1 <= number <= MOST_WORKERS:
        raise ConfigError(f"count = {count!r}, expected a whole number from 1 to {MOST_WORKERS}")
    words = [str(word) for pair in options.items() if pair[1] is not None for word in pair]
    variables = {
        **environ,
        "FSQUEUE__ROOT": host.root,
        # Workers can import everything that this process can.
        "PYTHONPATH": os.pathsep.join(os.path.abspath(each) for each in sys.path),
    }
    return LocalWorkers(
        Supervisor(worker_command(host.locate(), [*words, *more]), number, variables)
    )
