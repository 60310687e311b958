"""The built-in application: one task, which runs functions that travel by value.

``app`` uses this process's configuration. Workers and their slots import it by that name.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Unpack

from fsqueue.app import FSQueue
from fsqueue.codec import PYTHON
from fsqueue.config import fields
from fsqueue.environment.workdir import absolute
from fsqueue.errors import ConfigError
from fsqueue.executor.body import run
from fsqueue.runner.attempt.context import context_of_waiting_body
from fsqueue.runner.host import EXECUTOR_APP
from fsqueue.spool.format.names import DEFAULT_QUEUE, EXECUTOR_PREFIX, queue_folder

if TYPE_CHECKING:
    import os

    from fsqueue.config import Options
    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.runner.loop.runner import Runner, RunnerOptions
    from fsqueue.spool.worker.liveness import Observer
    from fsqueue.task import Task

FOLDER = queue_folder(EXECUTOR_APP, DEFAULT_QUEUE)
"""Folder name of the queue of this version of Python."""


class ByValue(FSQueue):
    """The built-in application of a spool.

    Args:
        root: the shared directory; None: from the configuration.
        options: settings; see docs/configuration.md.

    Attributes:
        run: the task that calls functions.
        local: whether it has local workers, which may still be starting.

    Raises:
        ConfigError: a setting is wrong, or the serializer is "json".
    """

    def __init__(
        self, root: str | os.PathLike[str] | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(EXECUTOR_APP, root=root, **options)
        if self.conf.serializer == "json":
            raise ConfigError(
                f"{self.conf.source('serializer')}: serializer = 'json', and an executor sends "
                "functions, which JSON cannot hold: a worker that accepts them runs any code. "
                "Use tasks (docs/tasks.md), or serializer = 'cloudpickle'."
            )
        self.run: Task[..., Any] = self.task(label="{name}")(run)
        self._session.advice = self._advice
        self.local = False

    def make_runner(self, **options: Unpack[RunnerOptions]) -> Runner:
        """A worker, with process slots unless the configuration or `kind` says otherwise.

        Functions of any kind may crash their process, hold the GIL or have to be killed.
        """
        if options.get("kind") is None and self.conf.source("runner") == "default":
            options["kind"] = "process"
        return super().make_runner(**options)

    @property
    def slots(self) -> int:
        """How many calls can run at a time, as of a few seconds ago; 0 without a worker."""
        return self._session.slots(FOLDER)

    def context_of_waiting_body(self) -> WorkerContext | None:
        """The worker of the body that the calling code belongs to; None if it is in no body."""
        return context_of_waiting_body(self.store.layout.root, self.app_id)

    def locate(self) -> str:
        """The name by which workers and their slots import it."""
        return f"{__name__}:app"

    def _advice(self, observer: Observer) -> str:
        """The message for a caller that no worker serves."""
        root = self.root
        if self.local:
            return f"still waiting for a result: no local worker in {root} has started yet"
        served = {
            queue.removeprefix(EXECUTOR_PREFIX).partition(".")[0]
            for record in observer.records.values()
            if record is not None and record.name not in observer.dead_here()
            for queue in record.queues
            if queue.startswith(EXECUTOR_PREFIX)
        }
        others = [f"{version[0]}.{version[1:]}" for version in sorted(served)]
        only = f" The workers there have Python {', '.join(others)}." if others else ""
        program = f"{sys.executable} -m fsqueue" if others else "fsqueue"
        return (
            f"still waiting for a result, and no worker with Python {PYTHON} is alive in {root} "
            f"that runs the calls of executors.{only} "
            f"{self._session.if_one_runs()}"
            f"Start one with: {program} worker --root {root}"
        )


_shared: dict[tuple[str, str], tuple[ByValue, int]] = {}
"""Each shared application, with the number of executors that use it."""
_making = threading.RLock()


def _key(app: ByValue) -> tuple[str, str]:
    values = [(name, getattr(app.conf, name)) for name in fields()]
    return absolute(app.root), repr(values)


def share(root: str | os.PathLike[str] | None, options: Options) -> ByValue:
    """The built-in application of a spool; executors with equal settings share one.

    Raises:
        ConfigError: see `ByValue`.
    """
    made = ByValue(root, **options)
    with _making:
        app, users = _shared.get(_key(made), (made, 0))
        _shared[_key(made)] = app, users + 1
        return app


def release(app: ByValue) -> None:
    """Leave the spool when the last executor of an application has ended."""
    with _making:
        _, users = _shared.pop(_key(app), (app, 1))
        if users > 1:
            _shared[_key(app)] = app, users - 1
        else:
            app.close()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name != "app":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with _making:
            if "app" not in globals():
                globals()["app"] = ByValue()
            return globals()["app"]
