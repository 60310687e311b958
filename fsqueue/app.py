"""The application: registry of tasks, decorators, and the place where the parts meet."""

from __future__ import annotations

import importlib
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from fsqueue.calls.options import TaskOptions, check_offers
from fsqueue.config import Options, load_config
from fsqueue.direct import AggregateFunc, DirectTask, FanOut, ParallelFunc, direct
from fsqueue.environment.workdir import absolute
from fsqueue.errors import ConfigError, TaskNotFoundError
from fsqueue.invocation import Invocation, bar_of, naming_item
from fsqueue.results.pending_result import PendingResult
from fsqueue.spool.caller.session import Session
from fsqueue.spool.format.names import client_of, is_safe_name, split_member
from fsqueue.task import Task
from fsqueue.triggers.making import checked

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping

    from fsqueue.config import Config, RunnerKind
    from fsqueue.firing import Firing
    from fsqueue.runner.loop.runner import Runner
    from fsqueue.spool.format.resources import Resources
    from fsqueue.spool.store.store import Store
    from fsqueue.triggers import Trigger

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")


class FSQueue:
    """A set of tasks that share a spool and a queue.

    Nothing is created or opened before the first call or the first run of a worker.

    Args:
        app_id: names the queue: letters, digits, ``-`` and ``_``. Applications of different
            ids can share a spool and do not run each other's tasks.
        root: the shared directory; by default a private folder under the system's temporary
            one, named by user and `app_id`.
        options: settings; see docs/configuration.md.

    Raises:
        ConfigError: a setting is unknown or bad, from whatever source.
    """

    def __init__(
        self,
        app_id: str = "fsqueue",
        *,
        root: str | os.PathLike[str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        if not is_safe_name(app_id):
            raise ConfigError(
                f"argument: app_id = {app_id!r}, expected up to 64 letters, digits, '-' and '_'"
            )
        self.app_id = app_id
        self.conf: Config = load_config({"root": root, **options})
        check_offers(self.conf.task_offers)
        self._session = Session(app_id, self.conf, self.locate)
        self._tasks: dict[str, Task[..., Any]] = {}
        self._firing: Firing | None = None
        self._runner: Runner | None = None

    def __repr__(self) -> str:
        return f"<FSQueue {self.app_id!r} at {self._session.root}>"

    # -- decorators ---------------------------------------------------------------------

    @overload
    def task(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def task(self, func: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self, /, *, triggers: Trigger | Iterable[Trigger] = (), **options: Unpack[TaskOptions]
    ) -> _TaskDecorator: ...
    def task(
        self,
        func: Callable[P, Any] | None = None,
        /,
        *,
        triggers: Trigger | Iterable[Trigger] = (),
        **options: Unpack[TaskOptions],
    ) -> Task[P, Any] | _TaskDecorator:
        """Make a function a task: calling it returns an `Invocation` at once.

        Args:
            func: the function.
            triggers: what makes it run by itself, each for itself; see `fsqueue.triggers`.
            options: task options.

        Raises:
            RuntimeError: the function belongs to the main script.
            TypeError: no worker could import it, an option is unknown, something is no trigger, or
                the arguments of one do not fit.
            ValueError: the name belongs to another function, or an option's value is bad.
        """
        decorator = _TaskDecorator(self, checked(triggers), options)
        return decorator if func is None else decorator(func)

    @overload
    def direct_task(self, func: Callable[P, R], /) -> DirectTask[P, R]: ...
    @overload
    def direct_task(
        self,
        /,
        *,
        parallel_func: ParallelFunc | None = None,
        aggregate_func: AggregateFunc | None = None,
        progress: bool = False,
        **options: Unpack[TaskOptions],
    ) -> _DirectDecorator: ...
    def direct_task(
        self,
        func: Callable[P, Any] | None = None,
        /,
        *,
        parallel_func: ParallelFunc | None = None,
        aggregate_func: AggregateFunc | None = None,
        progress: bool = False,
        **options: Any,
    ) -> Any:
        """Let the body of a function run on a worker; its call sites stay as they are.

        Args:
            func: the function.
            parallel_func: gets the caller's arguments by name, defaults included; returns the
                arguments of the calls to make instead, or a pair of common arguments and those.
            aggregate_func: makes one value of the list of results, which is in input order.
            progress: show a progress bar on the caller's terminal while a fan-out runs.
            options: task options.

        Raises:
            ValueError: `parallel_func` without `aggregate_func`, `progress` without both, and
                as for `task`.
            RuntimeError: as for `task`.
            TypeError: as for `task`.
        """
        if "triggers" in options:
            raise TypeError("direct_task takes no triggers: nobody waits there. Use @app.task.")
        if parallel_func is not None and aggregate_func is None:
            raise ValueError("Aggregation function required for parallel execution")
        if aggregate_func is not None and parallel_func is None:
            raise ValueError("aggregate_func needs a parallel_func, which makes what it gets")
        if progress and parallel_func is None:
            raise ValueError("progress=True needs a parallel_func: one call has nothing to count")
        fan_out = (
            FanOut(parallel_func, aggregate_func, progress)
            if parallel_func is not None and aggregate_func is not None
            else None
        )

        def decorate(function: Callable[P, Any]) -> DirectTask[P, Any]:
            return direct(self._register(Task(function, self._session, **options)), fan_out)

        return decorate if func is None else decorate(func)

    def _register(self, task: Task[P, Any]) -> Task[P, Any]:
        task.announce(self._ended_inline)
        known = self._tasks.setdefault(task.name, task)
        if known.func is not task.func:
            # A module that is imported again defines the same functions anew.
            old, new = known.func.__code__, task.func.__code__
            if (old.co_filename, old.co_firstlineno) != (new.co_filename, new.co_firstlineno):
                raise ValueError(
                    f"two different functions are called {task.name}: line {old.co_firstlineno} "
                    f"of {old.co_filename} and line {new.co_firstlineno} of {new.co_filename}"
                )
            self._tasks[task.name] = task
        if task.triggers or self._firing is not None:
            self.triggers.add(task)
        return task

    def _ended_inline(self, *end: Any) -> None:
        if self._firing is not None:  # else no task has a trigger
            self._firing.ended_inline(*end)

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks that this process knows of, by name."""
        return MappingProxyType(self._tasks)

    # -- calls --------------------------------------------------------------------------

    def invocation(self, invocation_id: str) -> Invocation[Any]:
        """A call that was made by any process of this spool, until its result expires.

        Raises:
            ValueError: not an invocation id.
        """
        carrier, member = split_member(invocation_id)
        client_of(carrier)
        return Invocation(PendingResult(self._session, carrier), member)

    def track(self, invocations: Iterable[Invocation[V]], description: str = "") -> Iterator[V]:
        """The values of calls in the order given, with a progress bar on the terminal meanwhile.

        On standard error, and none if that is no terminal.

        Args:
            invocations: a group, or any invocations.
            description: stands before the bar.

        Raises:
            Exception: what the body of a failed call raised, with a note that says which it was.
        """
        calls = tuple(invocations)
        with bar_of(calls, description):
            for index, invocation in enumerate(calls):
                with naming_item(index, len(calls)):
                    value = invocation.get()
                yield value

    def emit(self, name: str, payload: Any = None) -> str:
        """Say that something has happened: tasks that are triggered by it will run, once each.

        When this has returned, no death of any process loses the event. One that no worker has a
        trigger for stays until ``result_ttl`` is over.

        Args:
            name: up to 64 letters, digits, ``-``, ``_`` and ``.``.
            payload: for the tasks: a dict is their arguments by name, anything else but None their
                only argument, unless the trigger says otherwise.

        Returns:
            The event's id.

        Raises:
            ValueError: the name is bad.
            SerializationError: the payload cannot be serialized.
            SpoolError: the shared directory cannot be used.
            OSError: the shared directory did not take the event.
        """
        return self.triggers.emit(name, payload)

    def close(self) -> None:
        """Leave the spool now and not at the end of the process; the next call joins again."""
        self._session.close()

    # -- workers ------------------------------------------------------------------------

    @property
    def runner(self) -> Runner:
        """The worker of this process: ``run()`` and ``stop_runner_loop()``."""
        if self._runner is None:
            self._runner = self.make_runner()
        return self._runner

    def make_runner(
        self,
        *,
        kind: RunnerKind | None = None,
        concurrency: int | None = None,
        queues: Mapping[str, float] | None = None,
        weighted: bool = False,
        resources: Resources | str | None = None,
    ) -> Runner:
        """A worker that differs from the application's settings.

        Args:
            kind: "thread" or "process".
            concurrency: calls at a time.
            queues: names of the queues to serve, with their weights; by default "default".
            weighted: draw the next queue by weight; if not, an earlier one goes first.
            resources: what it has for calls whose task needs some, such as
                ``{"gpu": 1, "mem": "64G"}``.

        Raises:
            ConfigError: a value is bad; the message names it.
        """
        from fsqueue.runner.loop.runner import Runner

        return Runner(
            self,
            kind=kind,
            concurrency=concurrency,
            queues=queues,
            weighted=weighted,
            resources=resources,
        )

    @property
    def store(self) -> Store:
        """This process's handle on the spool, made if it is not there yet."""
        return self._session.store

    @property
    def root(self) -> str:
        """Absolute path of the shared directory, whether it is in use yet or not.

        Raises:
            ConfigError: the path is relative, and the working directory was removed.
        """
        return absolute(self._session.root)

    def expect_spool(self, spool_id: str) -> None:
        """Use no other spool than this one, and make none where it is missing."""
        self._session.expect(spool_id)

    @property
    def events(self) -> bool:
        """Whether file events wake this process."""
        return self._session.events

    @property
    def triggers(self) -> Firing:
        """What makes tasks run by themselves, for workers and commands."""
        if self._firing is None:
            from fsqueue.firing import Firing

            self._firing = Firing(self.app_id, self._session)
        return self._firing

    def resolve(self, task: str) -> Callable[..., Any]:
        """The function of a task, importing its module if need be.

        Raises:
            TaskNotFoundError: no such task here.
        """
        if task not in self._tasks:
            module = task.rpartition(".")[0]
            try:
                importlib.import_module(module)
            except Exception as error:
                raise TaskNotFoundError(
                    f"this worker cannot import {module} for the task {task}: {error}. Start it "
                    "where the module can be imported, or add its folder to PYTHONPATH."
                ) from error
        if task not in self._tasks:
            raise TaskNotFoundError(
                f"{module} has no task {task} of the application {self.app_id!r} on this "
                "worker. Is its code older than the caller's?"
            )
        return self._tasks[task].body

    def unpickles(self, task: str) -> bool:
        """Whether calls of a task may be pickles: not if its serializer here is "json"."""
        known = self._tasks.get(task)
        return known is None or known.serializer != "json"

    def locate(self) -> str:
        """``module:attribute`` under which another process can import this application.

        Raises:
            ConfigError: it is not an attribute of an importable module.
        """
        candidates = [*(task.func.__module__ for task in self._tasks.values()), *sys.modules]
        for name in dict.fromkeys(candidates):
            if name in {"__main__", "__mp_main__"}:
                continue
            for attribute, value in list(vars(sys.modules.get(name, sys)).items()):
                if value is self:
                    return f"{name}:{attribute}"
        raise ConfigError(
            f"the slots of a process runner import the application {self.app_id!r}, so it must be "
            "a variable of a module: put app = FSQueue(...) at the top level of one (not of the "
            "main script)."
        )


class _TaskDecorator:
    """``@app.task(...)``: typed as a class, as only that tells sync and async functions apart."""

    def __init__(self, app: FSQueue, triggers: tuple[Trigger, ...], options: TaskOptions) -> None:
        self._app, self._triggers, self._options = app, triggers, options

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, func: Callable[P, Any], /) -> Task[P, Any]:
        app = self._app
        task: Task[P, Any] = Task(func, app._session, self._triggers, **self._options)  # noqa: SLF001
        return app._register(task)  # noqa: SLF001


class _DirectDecorator(Protocol):
    """``@app.direct_task(...)``."""

    def __call__(self, func: Callable[P, R], /) -> DirectTask[P, R]: ...
