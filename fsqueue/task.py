"""Tasks: functions that can be called through the queue."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    ParamSpec,
    TypeAlias,
    TypeVar,
    Unpack,
    overload,
)

from fsqueue.calls.arguments import Arguments, Item, as_arguments, misnamed, task_name
from fsqueue.calls.groups import GroupPublisher
from fsqueue.calls.options import TaskOptions, changed, settings_of
from fsqueue.calls.publishing import Publisher
from fsqueue.calls.results_as_arguments import with_results
from fsqueue.common.coroutines import is_async
from fsqueue.environment.module_code import code_of
from fsqueue.inline_invocation import InlineInvocation
from fsqueue.invocation import Invocation, InvocationGroup
from fsqueue.results.made_calls import published
from fsqueue.runner.attempt.context import Body

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping

    from fsqueue.calls.options import CallSettings
    from fsqueue.calls.packing import Packed
    from fsqueue.config import Config, Serializer
    from fsqueue.results.pending_result import PendingResult
    from fsqueue.runner.attempt.inline import InlineCall, InlineReport
    from fsqueue.spool.caller.client import IdempotencyKey
    from fsqueue.spool.caller.session import Session
    from fsqueue.triggers import Trigger

P = ParamSpec("P")
R = TypeVar("R")

# A function with ``**kwargs`` can be called in countless ways.
_FORMS = 100

OnEnd: TypeAlias = "Callable[[str, str, Any, BaseException | None], object]"
"""Called after an inline call: with the task, the call's id, its value, and its exception."""


class Task(Generic[P, R]):
    """A function that workers run, by its name ``module.function``. Calling it returns at once.

    Attributes:
        name: the name by which workers find it.
        func: the function itself.
        body: the function that a worker calls.
        settings: the options in force.
        conf: the settings of the application.
        triggers: run it without a caller.
    """

    def __init__(
        self,
        func: Callable[P, Any],
        session: Session,
        triggers: tuple[Trigger, ...] = (),
        **options: Unpack[TaskOptions],
    ) -> None:
        self.name: str = task_name(func)
        self.func = func
        self.body: Callable[P, Any] = func
        self.signature: inspect.Signature = inspect.signature(func)
        parameters = self.signature.parameters.values()
        self._keywords = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), "")
        self._only_positional = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
        self._shadowed = self._only_positional if self._keywords else []
        self._fitting: set[tuple[int, tuple[str, ...]]] = set()
        self.conf: Config = session.conf
        self.settings: CallSettings = settings_of(self.name, options, session.conf.task_offers)
        self._check_keys(self.settings)
        self._code = code_of(func.__module__)
        self._publisher = Publisher(self.name, session, self.settings, self.bound, code=self._code)
        self.triggers = triggers
        self._on_end: OnEnd = lambda *_: None
        functools.update_wrapper(self, func)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Invocation[R]:
        """Publish a call. The invocation's ``result`` is its value.

        Raises:
            TypeError: the arguments do not fit the function.
            SerializationError: an argument cannot be serialized.
            SpoolError: the shared directory cannot be used.
            OSError: the call could not be written to the shared directory.
        """
        return self.submit(args, kwargs)

    def options(self, **options: Unpack[TaskOptions]) -> Task[P, R]:
        """The same task with other options.

        Raises:
            TypeError: an option is unknown.
            ValueError: an option has a bad value.
        """
        other = copy.copy(self)
        other.settings = changed(self.settings, options)
        self._check_keys(other.settings)
        other._publisher = self._publisher.with_settings(other.settings)  # noqa: SLF001 - a copy
        return other

    def _check_keys(self, settings: CallSettings) -> None:
        if settings.key_arguments:
            from fsqueue.calls.keys import check_key_arguments

            check_key_arguments(self.signature, settings.key_arguments)
        for option in ("registration_concurrency", "running_concurrency"):
            if getattr(settings, option) == "keys" and not settings.key_arguments:
                raise ValueError(f'{option} = "keys" needs key_arguments, which are not set')

    def args(self, /, *args: P.args, **kwargs: P.kwargs) -> Arguments:
        """The arguments of one call, for `parallelize`.

        Raises:
            TypeError: the arguments do not fit the function.
        """
        return self.bind(args, kwargs)

    @property
    def serializer(self) -> Serializer:
        """How arguments and results of calls are serialized."""
        return self._publisher.codec

    @functools.cached_property
    def for_workers(self) -> Body:
        """The function, and how a worker calls it."""
        stale = self.conf.stale_code
        return Body(
            self.body,
            self.serializer != "json",
            is_async(self.body),
            None if stale == "ignore" else self._code,
            stale == "refuse",
        )

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        """Check arguments against the function's signature.

        Raises:
            TypeError: they do not fit.
        """
        form = (len(args), tuple(kwargs))  # whether they fit does not depend on their values
        if form not in self._fitting:
            self.bound(args, kwargs)
            if len(self._fitting) < _FORMS:
                self._fitting.add(form)
        return Arguments(args, dict(kwargs))

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """Arguments by the names of the function's parameters.

        Raises:
            TypeError: they do not fit.
        """
        # Python 3.11's bind refuses a ``**kwargs`` key that a positional-only parameter has too.
        shadowed = {key: kwargs[key] for key in self._shadowed if key in kwargs}
        others = {key: value for key, value in kwargs.items() if key not in shadowed}
        try:
            bound = self.signature.bind(*args, **others)
        except TypeError as error:
            raise TypeError(
                f"{self.func.__name__}(): {misnamed(self.signature, kwargs) or error}"
            ) from None
        if shadowed:
            bound.arguments.setdefault(self._keywords, {}).update(shadowed)
        return bound

    def submit(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, keep: bool = True
    ) -> Invocation[R]:
        """Publish one call.

        Args:
            args: positional arguments.
            kwargs: keyword arguments.
            keep: the outcome stays readable for every process until it expires.
        """
        if self.conf.dev_mode_force_sync_tasks:
            return self._inline(self.bind(args, kwargs))
        return published(self.prepared(args, kwargs, keep=keep))

    def submit_packed(self, packed: Packed, *, keep: bool) -> PendingResult:
        """Publish a call that has no concurrency limit. Wakes no worker: call `ring` soon."""
        publish = self._publisher.publish
        return published(lambda made: publish([packed], keep=keep, ring=False, made=made))

    def ring(self) -> None:
        """Wake idle workers of this machine."""
        self._publisher.ring()

    def prepared(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, keep: bool
    ) -> Callable[[list[PendingResult]], Invocation[R]]:
        """Serialize the arguments of a call now, and return a function that publishes it.

        It adds the pending result to a list first.
        """
        call = self.bind(args, kwargs)
        packed = self._publisher.encode(*call)

        def publish(made: list[PendingResult]) -> Invocation[R]:
            if self._publisher.reuses_calls:
                return self._group_publisher(made).publish([call], [packed], {}, keep=keep)[0]
            lanes = self._publisher.lanes(call)
            return Invocation(self._publisher.publish([packed], keep=keep, lanes=lanes, made=made))

        return publish

    def _group_publisher(self, made: list[PendingResult]) -> GroupPublisher:
        return GroupPublisher(self.name, self._publisher, made)

    def fire(self, key: IdempotencyKey, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Publish one call for a trigger, unless its key was used before. True if it is new.

        Raises:
            OSError: the shared directory failed. Call it again to complete the rest.
        """
        call = self.bind(args, kwargs)
        packed = self._publisher.encode(*call)
        return self._publisher.fire(key, packed, self._publisher.lanes(call))

    @contextlib.contextmanager
    def inline(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        invocation_id: str = "",
        report: InlineReport | None = None,
    ) -> Iterator[InlineCall]:
        """A block that contains the body of a call which runs in this thread.

        The block runs the body with the arguments of the call that it gets, and stores the value
        there. With the serializer "json", body and caller get what they would get from a worker.
        Other serializers change nothing, so a copy is not worth its cost. Triggers fire when the
        block ends.

        Args:
            args: positional arguments.
            kwargs: keyword arguments.
            invocation_id: the call's id, for the body; empty if it has no handle.
            report: receives the body's output and progress; None: they are not needed.
        """
        from fsqueue.runner.attempt.inline import (
            InlineCall,
            InlineCurrent,
            InlineReport,
            running_inline,
        )

        child = f"invocation {invocation_id} of {self.name}" if invocation_id else self.name
        call = InlineCall(*with_results(child, args, kwargs))
        kept, name = report or InlineReport(), invocation_id or "inline"
        here = InlineCurrent(name, self.name, self.settings.queue, kept)
        capture = self.settings.capture_output and report is not None
        as_sent = self._publisher.as_sent
        try:
            with running_inline(here, kept, capture=capture):
                made, call.kwargs = as_sent((call.args, call.kwargs))
                call.args = tuple(made)
                yield call
                call.value = as_sent(call.value, "result")
        except BaseException as error:
            self._on_end(self.name, name, None, error)
            raise
        self._on_end(self.name, name, call.value, None)

    def parallelize(
        self, items: Iterable[Item], common_args: Mapping[str, Any] | None = None
    ) -> InvocationGroup[R]:
        """Publish one call per item.

        Args:
            items: for each call, a tuple of positional arguments, a dict of arguments by name,
                or ``task.args(...)``.
            common_args: arguments by name that all calls share. They are serialized once. An
                item's own argument of the same name takes precedence.

        Raises:
            TypeError: an item has another type or does not fit the function. No call of the group
                was published.
            SerializationError: an argument cannot be serialized. The message names the item and
                the argument. No call of the group was published.
            OSError: the shared directory failed. The calls published before that are withdrawn.
                Calls that a worker has already started run to their end, and their results are
                dropped.
        """
        return self.submit_all(items, common_args or {})

    def submit_all(
        self, items: Iterable[Item], common: Mapping[str, Any], *, keep: bool = True
    ) -> InvocationGroup[R]:
        """Publish the calls of a group, after checking all of them."""
        return published(self.all_prepared(items, common, keep=keep))

    def all_prepared(
        self, items: Iterable[Item], common: Mapping[str, Any], *, keep: bool
    ) -> Callable[[list[PendingResult]], InvocationGroup[R]]:
        """Like `prepared`, for the calls of a group."""
        calls = self.calls_of(items, common)
        if self.conf.dev_mode_force_sync_tasks:
            return lambda _: InvocationGroup([self._inline(each.sharing(common)) for each in calls])
        settings = self.settings
        apart = settings.parallel_batch_size == 1 or settings.by_arguments or settings.reuses_calls
        packed = [
            self._publisher.encode(*call, common=common, apart=apart, item=f"item {index}: ")
            for index, call in enumerate(calls)
        ]
        return lambda made: InvocationGroup(
            self._group_publisher(made).publish(calls, packed, common, keep=keep)
        )

    def _inline(self, call: Arguments) -> Invocation[R]:
        from fsqueue.runner.attempt.bodies import run_body

        def run(invocation_id: str, report: InlineReport) -> R:
            with self.inline(*call, invocation_id, report) as made:
                made.value = run_body(self.func, made.args, made.kwargs)
            return made.value  # type: ignore[no-any-return]

        return InlineInvocation(run)

    def announce(self, on_end: OnEnd) -> None:
        """Set the function that is called after each inline call."""
        self._on_end = on_end

    def calls_of(self, items: Iterable[Item], common: Mapping[str, Any]) -> list[Arguments]:
        """Check the calls of a group; returns them without the common arguments."""
        return [self._call_of(item, common, index) for index, item in enumerate(items)]

    def _call_of(self, item: Item, common: Mapping[str, Any], index: int) -> Arguments:
        try:
            call = self._by_position(as_arguments(item))
            self.bind(*call.sharing(common))
        except TypeError as error:
            raise TypeError(f"item {index}: {error}") from None
        return call

    def _by_position(self, call: Arguments) -> Arguments:
        """Move positional-only parameters that are given by name to their positions."""
        only = self._only_positional[len(call.args) :]
        named = [name for name in only if name in call.kwargs]
        if not named:
            return call
        kwargs = dict(call.kwargs)
        return Arguments((*call.args, *(kwargs.pop(name) for name in named)), kwargs)


class TaskDecorator:
    """``@app.task(...)``. A class, because only its overloads separate sync and async functions.

    Args:
        register: adds the task to its application.
        session: the application's handle on the spool.
        triggers: triggers of the task.
        options: task options.
    """

    def __init__(
        self,
        register: Callable[[Task[..., Any]], object],
        session: Session,
        triggers: tuple[Trigger, ...],
        options: TaskOptions,
    ) -> None:
        self._register, self._session = register, session
        self._triggers, self._options = triggers, options

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, func: Callable[P, Any], /) -> Task[P, Any]:
        """Make a function a task."""
        task: Task[P, Any] = Task(func, self._session, self._triggers, **self._options)
        self._register(task)
        return task
