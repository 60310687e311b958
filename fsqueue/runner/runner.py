"""Runs an application's calls: what `app.runner` is."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from fsqueue.config import checked_argument
from fsqueue.errors import ConfigError
from fsqueue.runner.budget import Budget
from fsqueue.runner.shift import Shift
from fsqueue.spool.backlog import Backlogs
from fsqueue.spool.names import DEFAULT_QUEUE, is_safe_name, queue_folder
from fsqueue.spool.resources import amounts, profile_of
from fsqueue.values import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fsqueue.config import RunnerKind
    from fsqueue.runner.host import Host
    from fsqueue.spool.resources import Resources

log = logging.getLogger(__name__)

_LARGEST_WEIGHT = 1e9

# A stop that comes so shortly before the run was meant for it: threads start in their own time.
_EARLY_STOP = 0.5


class Runner:
    """Runs an application's pending calls. Got from ``app.runner``.

    Args:
        host: the application.
        kind: "thread" or "process"; None takes the application's setting.
        concurrency: number of slots; None takes the application's setting.
        queues: names of the queues to serve, each with its weight; see `Backlogs`.
        weighted: take the queues by their weights, not one after another.
        resources: what calls may need, each with its amount.

    Raises:
        ConfigError: a value is bad; the message names it.
    """

    def __init__(
        self,
        host: Host,
        *,
        kind: RunnerKind | None = None,
        concurrency: int | None = None,
        queues: Mapping[str, float] | None = None,
        weighted: bool = False,
        resources: Resources | str | Iterable[str] | None = None,
    ) -> None:
        self._host = host
        try:
            self._resources = amounts(resources or ())
            self._profile = profile_of(self._resources)
        except ValueError as error:
            raise ConfigError(f"the resources of a worker: {error}") from error
        self._kind = host.conf.runner if kind is None else checked_argument("runner", kind)
        self._concurrency = (
            host.conf.slots(self._kind)
            if concurrency is None
            else checked_argument("concurrency", concurrency)
        )
        self._queues = _checked_weights(queues or {DEFAULT_QUEUE: 1.0})
        self._weighted = weighted
        self._mutex = threading.Lock()
        self._shift: Shift | None = None
        self._stopped_early = float("-inf")

    def run(self) -> None:
        """Claim and run calls in this thread, until `stop_runner_loop` or a signal.

        In the main thread SIGTERM and SIGINT drain, as do SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU
        unless the program handles or ignores them: running bodies finish, their results are
        delivered, and this returns. What has not finished after ``stop_grace`` seconds is given
        back, at no cost of an attempt, and the process ends with exit code 0. A second signal
        does that at once, with exit code 128 + its number.

        Raises:
            RuntimeError: this runner is running already.
            SpoolError: the shared directory cannot be used.
            ConfigError: "process", and the application is not an attribute of a module.
        """
        with self._mutex:
            if self._shift is not None:
                raise RuntimeError("this runner is running already: use app.make_runner()")
            budget = Budget(self._resources)
            self._shift = shift = Shift(
                self._host, self._kind, self._concurrency, self._make_backlogs(budget), budget
            )
            if time.monotonic() - self._stopped_early < _EARLY_STOP:
                shift.stop()
            self._stopped_early = float("-inf")
        try:
            shift.run()
        finally:
            with self._mutex:
                self._shift = None

    def _make_backlogs(self, budget: Budget) -> Backlogs:
        app_id = self._host.app_id
        weights = {queue_folder(app_id, name): each for name, each in self._queues.items()}
        room = budget if budget.total else None
        return Backlogs(self._host.store, weights, weighted=self._weighted, room=room)

    def stop_runner_loop(self) -> None:
        """Make `run` return, after the running bodies have finished. From any thread."""
        with self._mutex:
            if self._shift is None:
                self._stopped_early = time.monotonic()
            else:
                self._shift.stop()


def _checked_weights(queues: Mapping[str, float]) -> dict[str, float]:
    found = {}
    for name, weight in queues.items():
        number = plain(weight)
        valid = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_safe_name(name) or not valid or not 0 < number <= _LARGEST_WEIGHT:
            raise ConfigError(
                f"queues: {name!r} = {weight!r}, expected a name of letters, digits, '-' and '_', "
                f"and a weight > 0 and <= {_LARGEST_WEIGHT:g}"
            )
        found[name] = float(number)
    return found
