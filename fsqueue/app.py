"""The application object: decorators for tasks, the registry of tasks, and workers."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from fsqueue.calls.options import TaskOptions, check_offers
from fsqueue.config import Options, load_config
from fsqueue.direct import (
    AggregateFunc,
    DirectDecorator,
    DirectTask,
    ParallelFunc,
    direct,
    fan_out_of,
)
from fsqueue.environment.importable import find_task, importable_name
from fsqueue.environment.workdir import absolute
from fsqueue.errors import ConfigError
from fsqueue.invocation import Invocation, bar_of, naming_item
from fsqueue.results.pending_result import PendingResult
from fsqueue.results.shown import AppStatus, call_html
from fsqueue.spool.caller.session import Session
from fsqueue.spool.format.names import client_of, is_safe_name, split_member
from fsqueue.task import Task, TaskDecorator
from fsqueue.triggers.making import checked

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping

    from fsqueue.config import Config, RunnerKind
    from fsqueue.firing import Firing
    from fsqueue.launch.handles import FleetHandle, Launched, LocalWorkers, OnExit
    from fsqueue.runner.attempt.context import Body
    from fsqueue.runner.loop.runner import Runner, RunnerOptions
    from fsqueue.spool.store.store import Store
    from fsqueue.triggers import Trigger

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")


class FSQueue:
    """An application: a set of tasks that share a spool and a queue.

    It creates and opens nothing before the first call or the first run of a worker.

    Args:
        app_id: the name of the queue: letters, digits, ``-`` and ``_``. Applications with
            different ids can share a spool. They do not run each other's tasks.
        root: the shared directory. The default is a private folder in the system's temporary
            directory, named by user and `app_id`.
        options: settings; see docs/configuration.md.

    Raises:
        ConfigError: a setting from any source is unknown or has a bad value.
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
        # Each has one entry at most. Two threads may need it first at the same time, and must get
        # the same object: `setdefault` decides in one step, without a lock.
        self._firing: dict[str, Firing] = {}
        self._runner: dict[str, Runner] = {}

    def __repr__(self) -> str:
        return f"<FSQueue {self.app_id!r} at {self._session.root}, {len(self._tasks)} tasks>"

    def _repr_html_(self) -> str:
        return call_html("FSQueue", f"{self.app_id} at {self._session.root}", {})

    @overload
    def task(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def task(self, func: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self, /, *, triggers: Trigger | Iterable[Trigger] = (), **options: Unpack[TaskOptions]
    ) -> TaskDecorator: ...
    def task(
        self,
        func: Callable[P, Any] | None = None,
        /,
        *,
        triggers: Trigger | Iterable[Trigger] = (),
        **options: Unpack[TaskOptions],
    ) -> Task[P, Any] | TaskDecorator:
        """Turn a function into a task: a call of it returns an `Invocation` at once.

        Args:
            func: the function.
            triggers: run the task without a caller; see `fsqueue.triggers`. Each of them fires
                independently.
            options: task options.

        Raises:
            RuntimeError: the function belongs to the main script.
            TypeError: a worker could not import the function, an option is unknown, a trigger is
                not a trigger, or its arguments do not fit the function.
            ValueError: another function has this name, or an option has a bad value.
        """
        decorator = TaskDecorator(self._register, self._session, checked(triggers), options)
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
    ) -> DirectDecorator: ...
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
        """Run the body of a function on a worker. Its callers stay unchanged.

        Args:
            func: the function.
            parallel_func: splits a call into several. It gets the caller's arguments by name,
                defaults included, and returns the arguments of each call, or a pair of common
                arguments and those.
            aggregate_func: combines the list of results, in input order, into one value.
            progress: show a progress bar on the caller's terminal while a fan-out runs.
            options: task options.

        Raises:
            ValueError: `parallel_func` without `aggregate_func`, `progress` without both, and
                as for `task`.
            RuntimeError: as for `task`.
            TypeError: as for `task`.
        """
        if "triggers" in options:
            raise TypeError(
                "direct_task takes no triggers: a trigger has no caller to wait. Use @app.task."
            )
        fan_out = fan_out_of(parallel_func, aggregate_func, progress=progress)

        def decorate(function: Callable[P, Any]) -> DirectTask[P, Any]:
            return direct(self._register(Task(function, self._session, **options)), fan_out)

        return decorate if func is None else decorate(func)

    def _register(self, task: Task[P, Any]) -> Task[P, Any]:
        task.announce(self._ended_inline)
        known = self._tasks.setdefault(task.name, task)
        if known.func is not task.func:
            # A module that is imported again defines the same functions again.
            old, new = known.func.__code__, task.func.__code__
            if (old.co_filename, old.co_firstlineno) != (new.co_filename, new.co_firstlineno):
                raise ValueError(
                    f"two different functions have the name {task.name}: line {old.co_firstlineno} "
                    f"of {old.co_filename} and line {new.co_firstlineno} of {new.co_filename}"
                )
            self._tasks[task.name] = task
        if task.triggers or self._firing:
            self.triggers.add(task)
        return task

    def _ended_inline(self, *end: Any) -> None:
        if self._firing:  # otherwise no task has a trigger
            self.triggers.ended_inline(*end)

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks that this process has defined or imported, by name."""
        return MappingProxyType(self._tasks)

    # -- calls --------------------------------------------------------------------------

    def invocation(self, invocation_id: str) -> Invocation[Any]:
        """A call by its id, whichever process made it. It exists until its result expires.

        Raises:
            ValueError: the string is not an invocation id.
        """
        carrier, member = split_member(invocation_id)
        client_of(carrier)
        return Invocation(PendingResult(self._session, carrier), member)

    def track(self, invocations: Iterable[Invocation[V]], description: str = "") -> Iterator[V]:
        """Yield the values of calls in the given order; a terminal shows a progress bar.

        Args:
            invocations: a group, or any invocations.
            description: text in front of the bar.

        Raises:
            Exception: the exception of a failed call's body, with a note that names the call.
        """
        calls = tuple(invocations)
        with bar_of(calls, description):
            for index, invocation in enumerate(calls):
                with naming_item(index, len(calls)):
                    value = invocation.get()
                yield value

    def emit(self, name: str, payload: Any = None) -> str:
        """Emit an event. It survives crashes: each task with a trigger for it runs once.

        An event without a trigger stays in the spool until ``result_ttl`` has passed.

        Args:
            name: up to 64 letters, digits, ``-``, ``_`` and ``.``.
            payload: the tasks' arguments unless the trigger sets them: a dict by name, None gives
                none, anything else becomes the only argument.

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
        """Leave the spool now, not at the end of the process. The next call joins it again."""
        self._session.close()

    def move(self, root: os.PathLike[str] | None) -> None:
        """Use another shared directory in this process, as tests do; None: the configured one."""
        self._session.move(None if root is None else Path(root))

    def status(self) -> AppStatus:
        """The waiting and running calls of all applications in the spool. Jupyter shows tables."""
        return AppStatus.of(self.store, self.conf.heartbeat)

    # -- workers ------------------------------------------------------------------------

    @property
    def runner(self) -> Runner:
        """This process's worker: ``run()`` and ``stop_runner_loop()``."""
        return self._runner.get("own") or self._runner.setdefault("own", self.make_runner())

    def make_runner(self, **options: Unpack[RunnerOptions]) -> Runner:
        """A worker with its own settings.

        Args:
            **options: all have defaults. ``kind``: "thread" or "process". ``concurrency``: number
                of calls to run at once; "cores": what the batch system gave. ``queues``: names of
                the queues to serve, with their weights. ``weighted``: choose the next queue at
                random by weight, not in the given order. ``resources``: what it offers to calls,
                such as ``{"gpu": 1, "mem": "64G"}``. ``gpus``: "auto", or names like "0,1".
                ``executor``: also run the calls of `fsqueue.Executor`.
                ``time_limit``, ``stop_margin``, ``idle_timeout``, ``max_tasks``, ``until_empty``:
                as the flags of ``fsqueue worker``; at its ``time_limit`` it ends this process if
                bodies still run then. Without one, it does not leave before its batch job ends.

        Raises:
            ConfigError: a value is bad; the message names it.
        """
        from fsqueue.runner.loop.runner import Runner

        return Runner(self, **options)

    def workers(
        self,
        count: int = 1,
        *,
        runner: RunnerKind | None = None,
        concurrency: int | None = None,
        queues: Iterable[str] = (),
        executor: bool = False,
    ) -> LocalWorkers:
        """Start workers on this machine; a context manager that drains them at its end.

        They run until then, even if this process drops the object, but never outlive the process.

        Args:
            count: number of worker processes. One that dies is replaced.
            runner: "thread" or "process"; None: from the configuration.
            concurrency: slots of each worker; None: from the configuration.
            queues: names of the queues to serve; by default "default".
            executor: also run the calls of `fsqueue.Executor`, which may be any code.

        Raises:
            ConfigError: a value is bad, or another process cannot import this application.
        """
        from fsqueue.launch.handles import local_workers

        names = (queues,) if isinstance(queues, str) else tuple(queues)
        weights = dict.fromkeys(names, 1.0)
        self.make_runner(  # checks them
            kind=runner, concurrency=concurrency, queues=weights, executor=executor
        )
        words = ["--executor"] if executor else []
        words += [word for queue in names for word in ("--queue", queue)]
        options = {"--runner": runner, "--concurrency": concurrency}
        return local_workers(self, count, options, words)

    def launch(self, profile: str, *, on_exit: OnExit = "drain", **overrides: Any) -> Launched:
        """Keep as many batch jobs of workers as the due calls need; a context manager.

        Args:
            profile: name of a table ``[launch.NAME]`` of the configuration file.
            on_exit: what happens to the jobs at the end of the block: "drain" cancels those that
                wait and lets workers finish their calls, "keep" leaves all as they are, "now" also
                cancels those that run.
            overrides: values that replace those of the profile, such as ``max=20``.

        Raises:
            ConfigError: the profile is wrong, or no job could work.
        """
        from fsqueue.launch.handles import launch

        return launch(self, profile, on_exit=on_exit, overrides=overrides)

    def fleet(self, name: str) -> FleetHandle:
        """The batch jobs that were launched with a profile, by any process on any host."""
        from fsqueue.launch.handles import fleet

        return fleet(self, name)

    @property
    def store(self) -> Store:
        """This process's handle on the spool. Creates the spool if it does not exist."""
        return self._session.store

    @property
    def root(self) -> str:
        """Absolute path of the shared directory, whether it is in use yet or not.

        Raises:
            ConfigError: the path is relative, and the working directory was removed.
        """
        return absolute(self._session.root)

    def expect_spool(self, spool_id: str) -> None:
        """Use only the spool with this id, and do not create a spool if it is missing."""
        self._session.expect(spool_id)

    @property
    def events(self) -> bool:
        """Whether file system events wake this process."""
        return self._session.events

    @property
    def triggers(self) -> Firing:
        """The triggers of the tasks, for workers and commands."""
        if "own" not in self._firing:
            from fsqueue.firing import Firing

            self._firing.setdefault("own", Firing(self.app_id, self._session))
        return self._firing["own"]

    def resolve(self, task: str) -> Body:
        """The body of a task. Imports its module if necessary.

        Raises:
            TaskNotFoundError: this process cannot find or import the task.
        """
        known = self._tasks.get(task) or find_task(task, self._tasks, self.app_id)
        return known.for_workers

    def locate(self) -> str:
        """The name ``module:attribute`` by which another process imports this application.

        Raises:
            ConfigError: the application is not a variable of an importable module.
        """
        found = importable_name(self, [task.func.__module__ for task in self._tasks.values()])
        if found is None:
            raise ConfigError(
                f"another process imports the application {self.app_id!r}, so it must be a "
                "variable of a module: put app = FSQueue(...) at the top level of one (not of the "
                "main script)."
            )
        return found
