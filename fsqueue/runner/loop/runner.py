"""The runner of an application, `app.runner`: runs the application's calls."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from fsqueue.common.values import plain
from fsqueue.config import checked_argument
from fsqueue.errors import ConfigError
from fsqueue.runner.attempt.context import current
from fsqueue.runner.host import EXECUTOR_APP
from fsqueue.runner.job.lifetime import Terms
from fsqueue.runner.loop.orders import EarlyStops, Order
from fsqueue.runner.loop.worker_loop import WorkerLoop
from fsqueue.runner.loop.worker_options import WorkerOptions
from fsqueue.runner.processes.job import this_host
from fsqueue.runner.processes.job_resources import choose_devices, cores_of, offered
from fsqueue.runner.shared.resource_pool import GPU, WHOLE_GPU
from fsqueue.spool.format.names import DEFAULT_QUEUE, is_safe_name, queue_folder
from fsqueue.spool.format.resources import in_words, profile_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.config import RunnerKind
    from fsqueue.runner.host import Host
    from fsqueue.runner.processes.job_resources import Devices
    from fsqueue.spool.fleets.records import EndReason
    from fsqueue.spool.format.resources import Amounts, Resources

log: logging.Logger = logging.getLogger(__name__)

_LARGEST_WEIGHT = 1e9


class RunnerOptions(TypedDict, total=False):
    """Arguments of `FSQueue.make_runner`, where they are described."""

    kind: RunnerKind | None
    concurrency: int | Literal["cores"] | None
    queues: Mapping[str, float] | None
    weighted: bool
    resources: Resources | str | None
    gpus: str
    time_limit: float | str | None
    stop_margin: float | str
    idle_timeout: float | str | None
    max_tasks: int | None
    until_empty: bool
    executor: bool


class _Run:
    """One call of `Runner.run`."""

    def __init__(self) -> None:
        self._stopped = False
        self.loop: WorkerLoop | None = None

    @property
    def stopping(self) -> bool:
        """Whether it has stopped claiming, or will never begin."""
        return self._stopped or (self.loop is not None and self.loop.stopping)

    def stop(self) -> None:
        """Let it return."""
        self._stopped = True
        if self.loop is not None:
            self.loop.stop()


class Runner:
    """Runs an application's pending calls. Available as ``app.runner``.

    Args:
        host: the application.
        options: see `FSQueue.make_runner`.

    Attributes:
        reason: why the last run ended; empty before that.

    Raises:
        ConfigError: a value is bad; the message names it.
    """

    def __init__(self, host: Host, **options: Unpack[RunnerOptions]) -> None:
        self._host = host
        given: dict[str, Any] = dict(options)
        kind, concurrency = given.pop("kind", None), given.pop("concurrency", None)
        self._kind = host.conf.runner if kind is None else checked_argument("runner", kind)
        self._concurrency = _checked_concurrency(host, self._kind, concurrency)
        self._queues = _checked_weights(given.pop("queues", None) or {DEFAULT_QUEUE: 1.0})
        self._weighted = bool(given.pop("weighted", False))
        self._executor = bool(given.pop("executor", False))
        if self._executor and host.conf.serializer == "json":
            raise ConfigError(
                f"{host.conf.source('serializer')}: serializer = 'json', so this worker unpickles "
                "nothing, and the calls of executors are pickled functions: leave out `executor`"
            )
        self._resources, self._devices = _checked_resources(
            given.pop("resources", None), given.pop("gpus", "none")
        )
        self._terms = Terms.checked(**given)
        self._change = threading.Condition()
        # The first one is active; the others wait until it has stopped.
        self._runs: list[_Run] = []
        self._early = EarlyStops()
        self.reason: EndReason | Literal[""] = ""

    @property
    def slots(self) -> int:
        """Number of calls that it runs at a time."""
        return self._concurrency

    @property
    def run(self) -> Order:
        """Claim and run calls in this thread until `stop_runner_loop` or a signal: ``run()``.

        It first waits for an earlier run of this runner that is stopping. If `stop_runner_loop` is
        called after ``Thread(target=runner.run).start()`` and before that thread has begun, the
        run returns at once. An earlier stop does not affect it. See `fsqueue.runner.loop.orders`.

        In the main thread, SIGTERM, SIGINT and SIGHUP drain the worker: running bodies finish,
        their results are delivered, and this returns. Calls that have not finished after
        ``stop_grace`` seconds are given back, which costs no attempt, and the process ends with
        exit code 0. A second SIGTERM or SIGINT gives them back at once, with exit code 128 + its
        number. SIGUSR1, SIGUSR2 and SIGXCPU announce the end of a batch job: no more calls are
        claimed, and running bodies go on until that end. Signals other than SIGTERM and SIGINT have
        these effects only if the program neither handles nor ignores them.

        Raises:
            RuntimeError: this runner is already running and has not been stopped, or the call
                comes from a body of the run that it would wait for.
            SpoolError: the shared directory cannot be used.
            ConfigError: the kind is "process", and the application is not an attribute of a module.
        """
        with self._change:
            return Order(self._run, self._early.count)

    def _run(self, order: Order) -> None:
        with self._registered(order) as loop:
            if loop is not None:
                loop.run()
                self.reason = loop.reason

    @contextlib.contextmanager
    def _registered(self, order: Order) -> Iterator[WorkerLoop | None]:
        """Wait until this run may begin, and make its loop; None if it is stopped before that."""
        run = _Run()
        with self._change:
            if self._early.take(order):
                run.stop()
            elif not all(each.stopping for each in self._runs):
                raise RuntimeError("this runner is running already: use app.make_runner()")
            elif self._runs and current.get() is not None:
                raise RuntimeError("a body cannot wait for the end of the runner that runs it")
            self._runs.append(run)
        try:
            with self._change:
                self._change.wait_for(lambda: run.stopping or self._runs[0] is run)
                if not run.stopping:
                    run.loop = self._make_loop()
            yield run.loop
        finally:
            with self._change:
                self._runs.remove(run)
                self._change.notify_all()

    def _make_loop(self) -> WorkerLoop:
        app_id = self._host.app_id
        weights = {queue_folder(app_id, name): each for name, each in self._queues.items()}
        if self._executor:
            weights.setdefault(queue_folder(EXECUTOR_APP, DEFAULT_QUEUE), 1.0)
        options = WorkerOptions(
            self._kind,
            self._concurrency,
            weights,
            self._weighted,
            self._resources,
            self._devices,
            self._terms,
            self._executor,
        )
        return WorkerLoop(self._host, options)

    def stop_runner_loop(self) -> None:
        """Make `run` return, after the running bodies have finished. From any thread.

        This does not wait for the end. It also stops a run that waits for an earlier one, and a run
        whose thread was started but has not begun. If there is nothing to stop, later runs are not
        affected.
        """
        with self._change:
            active = [run for run in self._runs if not run.stopping]
            for run in active:
                run.stop()
            if not active:
                self._early.add()
            self._change.notify_all()


def _checked_concurrency(host: Host, kind: RunnerKind, given: Any) -> int:
    if given is None:
        return host.conf.slots(kind)
    if given == "cores":
        return cores_of(os.environ, this_host())
    checked: int = checked_argument("concurrency", given)
    return checked


def _checked_resources(given: Any, gpus: str) -> tuple[Amounts, Devices | None]:
    """The amounts that a worker offers, some of them taken from its batch job, and its GPUs."""
    try:
        devices = choose_devices(gpus, os.environ)
        found = offered(given or "", devices, os.environ, this_host())
        profile_of(found)  # raises if the profile is too long
    except ValueError as error:
        raise ConfigError(f"the resources of a worker: {error}") from error
    if devices is not None and found.get(GPU) != WHOLE_GPU * len(devices.names):
        has = in_words(found)
        raise ConfigError(
            f"the resources of a worker: {has}, but --gpus has {len(devices.names)} names: leave "
            "one of them out"
        )
    return found, devices


def _checked_weights(queues: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(queues, Mapping):
        raise ConfigError(f"queues = {queues!r}, expected weights by names, like {{'default': 1}}")
    found = {}
    for name, weight in queues.items():
        number = plain(weight)
        valid = isinstance(number, int | float) and not isinstance(number, bool)
        named = isinstance(name, str) and is_safe_name(name)
        if not named or not valid or not 0 < number <= _LARGEST_WEIGHT:
            raise ConfigError(
                f"queues: {name!r} = {weight!r}, expected a name of letters, digits, '-' and '_', "
                f"and a weight > 0 and <= {_LARGEST_WEIGHT:g}"
            )
        found[name] = float(number)
    return found
