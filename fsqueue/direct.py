"""Direct tasks: functions whose callers stay unchanged while the body runs on a worker."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    Unpack,
    cast,
)

from fsqueue.calls.arguments import Arguments, Item
from fsqueue.common.coroutines import is_async, plain_value
from fsqueue.errors import SpoolError
from fsqueue.invocation import deadline_of, naming_item
from fsqueue.results.made_calls import Droppable, Receiving, Submission

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from fsqueue.calls.options import TaskOptions
    from fsqueue.task import Task

log: logging.Logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D", bound=Droppable)
R_co = TypeVar("R_co", covariant=True)

ParallelFunc: TypeAlias = "Callable[[dict[str, Any]], Iterable[Any]]"
AggregateFunc: TypeAlias = "Callable[[list[Any]], Any]"


class FanOut(NamedTuple):
    """Splits one call into several and combines their results."""

    parallel_func: ParallelFunc
    aggregate_func: AggregateFunc
    progress: bool = False
    """Show a progress bar on the caller's terminal."""


class DirectTask(Protocol[P, R_co]):
    """A function whose body runs on a worker."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function on a worker and return its value."""

    def options(self, **options: Unpack[TaskOptions]) -> DirectTask[P, R_co]:
        """The same function with other options.

        Raises:
            TypeError: an option is unknown.
            ValueError: an option has a bad value.
        """


def direct(task: Task[P, Any], fan_out: FanOut | None) -> DirectTask[P, Any]:
    """The wrapper that replaces the task's function at its call sites."""
    call = _Direct(task, fan_out)

    if is_async(task.func):

        @functools.wraps(task.func)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
            return await call.awaited(args, kwargs)

    else:
        task.body = functools.partial(plain_value, task.func)

        @functools.wraps(task.func)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
            return call.blocking(args, kwargs)

    direct_task = cast("DirectTask[P, Any]", wrapper)
    direct_task.options = lambda **options: direct(task.options(**options), fan_out)  # type: ignore[method-assign]
    return direct_task


class _Direct:
    def __init__(self, task: Task[Any, Any], fan_out: FanOut | None) -> None:
        self._task, self._fan_out = task, fan_out

    def blocking(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self._fan_out is not None:
            return self._blocking_fan_out(self._fan_out, self._task.bind(args, kwargs))
        if self._task.conf.dev_mode_force_sync_tasks:
            with self._task.inline(args, kwargs) as inline:
                inline.value = self._task.body(*inline.args, **inline.kwargs)
            return inline.value
        patience = self._task.settings.result_timeout
        deadline = None if patience is None else deadline_of(patience)
        publish = self._task.prepared(args, kwargs, keep=False)
        with Receiving() as receiving:
            pending_result = publish(receiving.made).pending_result
            content = receiving.content(pending_result, deadline)
        return pending_result.open(content, None)

    @property
    def _patience(self) -> float | None:
        return self._task.settings.result_timeout

    def _blocking_fan_out(self, fan_out: FanOut, call: Arguments) -> Any:
        common, items = split(fan_out.parallel_func(self._named(call)))
        publish = self._task.all_prepared(items, common, keep=False)
        with Receiving() as receiving:
            group, deadline = publish(receiving.made), deadline_of(self._patience)
            with group.bar() if fan_out.progress else contextlib.nullcontext():
                results = group.received(receiving, deadline)
        return fan_out.aggregate_func(results)

    async def awaited(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self._fan_out is not None:
            return await self._awaited_fan_out(self._fan_out, self._task.bind(args, kwargs))
        if self._task.conf.dev_mode_force_sync_tasks:
            return await self._inline(args, kwargs)
        submit = functools.partial(self._task.submit, args, kwargs, keep=False)
        async with _made(submit, self._patience) as invocation:
            return await invocation.async_result()

    async def _awaited_fan_out(self, fan_out: FanOut, call: Arguments) -> Any:
        common, items = split(fan_out.parallel_func(self._named(call)))
        if self._task.conf.dev_mode_force_sync_tasks:
            results = await self._inline_results(self._task.calls_of(items, common), common)
            return fan_out.aggregate_func(results)
        submit = functools.partial(self._task.submit_all, items, common, keep=False)
        async with _made(submit, self._patience) as group:
            with group.bar() if fan_out.progress else contextlib.nullcontext():
                results = [result async for result in group.async_results()]
        return fan_out.aggregate_func(results)

    async def _inline_results(
        self, calls: Sequence[Arguments], common: Mapping[str, Any]
    ) -> list[Any]:
        results = []
        for index, call in enumerate(calls):
            with naming_item(index, len(calls)):
                results.append(await self._inline(*call.sharing(common)))
        return results

    async def _inline(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call the function here and await its value; a wrapper may return the value at once."""
        with self._task.inline(args, kwargs) as inline:
            value = self._task.func(*inline.args, **inline.kwargs)
            inline.value = await value if inspect.isawaitable(value) else value
        return inline.value

    def _named(self, call: Arguments) -> dict[str, Any]:
        """The caller's arguments by name, defaults included."""
        bound = self._task.bound(call.args, call.kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)


@contextlib.asynccontextmanager
async def _made(submit: Callable[[], D], patience: float | None) -> AsyncIterator[D]:
    """A block with calls that a thread publishes, because a file server may be slow.

    The block abandons the calls when it ends, and may take at most `patience` seconds. When it is
    cancelled or interrupted, it cancels its calls, as Ctrl-C does in a blocking call.
    """
    import asyncio

    from fsqueue.common.offloading import in_thread_or_here

    submission = Submission(submit)
    submitted = asyncio.ensure_future(in_thread_or_here(submission.make))
    submitted.add_done_callback(lambda future: future.cancelled() or future.exception())
    try:
        made = await asyncio.shield(submitted)
        async with asyncio.timeout(patience):
            yield made
    except BaseException as error:
        if isinstance(error, Exception):
            submission.give_up()
        else:
            _drop_in_thread(submission)
        raise
    submission.give_up()


def _drop_in_thread(submission: Submission[Any]) -> None:
    """Cancel the published calls in a thread, because this takes requests to the file server."""
    from fsqueue.common.offloading import offload

    def drop() -> None:
        try:
            submission.give_up(stop=True)
        except (OSError, SpoolError) as error:
            log.warning(
                "a call could not be cancelled after its caller gave up, and may still run: %s",
                error,
            )

    offload(drop)


def split(returned: Any) -> tuple[Mapping[str, Any], Iterable[Item]]:
    """The return value of a parallel_func, split into common arguments and items.

    A pair ``(common_args, items)`` is a tuple of a dict and an iterable that cannot be the
    arguments of one call. Two tuples, two dicts, or a dict and a tuple of values are two calls.

    Raises:
        TypeError: the return value is not iterable.
    """
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], dict):  # noqa: PLR2004 - a pair
        common, items = returned
        one_call = isinstance(items, dict | Arguments) or (
            isinstance(items, tuple) and not all(isinstance(item, dict) for item in items)
        )
        if not one_call:
            return common, items
    if isinstance(returned, str | bytes | dict) or not hasattr(returned, "__iter__"):
        raise TypeError(
            "parallel_func must return an iterable of tuples, dicts or args(...), or a pair of "
            f"a dict and such an iterable, not {type(returned).__name__}"
        )
    return {}, returned


def fan_out_of(
    parallel_func: ParallelFunc | None, aggregate_func: AggregateFunc | None, *, progress: bool
) -> FanOut | None:
    """The fan-out of a direct task; None for a plain one.

    Raises:
        ValueError: one of the functions is missing.
    """
    if parallel_func is not None and aggregate_func is not None:
        return FanOut(parallel_func, aggregate_func, progress)
    if parallel_func is not None:
        raise ValueError("Aggregation function required for parallel execution")
    if aggregate_func is not None:
        raise ValueError("aggregate_func needs a parallel_func, whose results it combines")
    if progress:
        raise ValueError("progress=True needs a parallel_func: it counts the calls of a fan-out")
    return None


class DirectDecorator(Protocol):
    """``@app.direct_task(...)``."""

    def __call__(self, func: Callable[P, R], /) -> DirectTask[P, R]:
        """Make a function a direct task."""
