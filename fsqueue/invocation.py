"""Invocations: handles of published calls and of their outcomes."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from fsqueue.common.values import patience
from fsqueue.references import given, reference

if TYPE_CHECKING:
    import contextlib
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from fsqueue.results.made_calls import Receiving
    from fsqueue.results.pending_result import PendingResult
    from fsqueue.spool.features.body_reports import Progress
    from fsqueue.spool.format.states import State

P = ParamSpec("P")
V = TypeVar("V")
R_co = TypeVar("R_co", covariant=True)


class Invocation(Generic[R_co]):
    """A call of a task and its result. Calling a task returns one, as does ``app.invocation(id)``.

    Attributes:
        id: identifies the call in every process of the spool.
    """

    def __init__(self, pending_result: PendingResult, member: int | None = None) -> None:
        self.id: str = pending_result.id if member is None else f"{pending_result.id}:{member}"
        self._pending_result = pending_result
        self._member = member
        self._future: Future[Any] | None = None

    def __repr__(self) -> str:
        from fsqueue.results.shown import state_in_words

        return f"<{type(self).__name__} {self.id} {state_in_words(lambda: self.status)}>"

    def _repr_html_(self) -> str:
        from fsqueue.results.shown import call_html, state_in_words

        return call_html(type(self).__name__, self.id, {state_in_words(lambda: self.status): 1})

    def __reduce__(self) -> tuple[Any, ...]:
        return (given, (self.get(),)) if self._pending_result.is_cached else reference(self)

    @property
    def pending_result(self) -> PendingResult:
        """The pending result of its file. The calls of a batch share one."""
        return self._pending_result

    def then(
        self,
        task: Callable[Concatenate[R_co, P], Invocation[V]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Invocation[V]:
        """Call a task with the result as its first argument, as soon as the result is there.

        Returns at once, and no process waits for the result: ``a.then(f).then(g)`` is a chain. If
        this call fails or is cancelled, the next one fails with `DependencyError` and does not run.

        Args:
            task: a task of the same spool.
            args: its other positional arguments.
            kwargs: its keyword arguments.

        Raises:
            TypeError: the arguments do not fit the task, or `task` is not a task.
            UnknownInvocationError: this invocation is not in the spool.
            ValueError: the task uses another spool.
        """
        return _called(task, self, args, kwargs)

    @property
    def status(self) -> State:
        """The state of the call.

        Raises:
            UnknownInvocationError: it is not in this spool.
        """
        return self._pending_result.state(self._member)

    def done(self) -> bool:
        """Whether the call has ended, so that `get` does not block.

        Raises:
            UnknownInvocationError: it is not in this spool.
        """
        return self.status.finished

    @property
    def result(self) -> R_co:
        """The return value. Blocks until the call ends, and raises what the body raised."""
        return self.get()

    def get(self, timeout: float | None = None) -> R_co:
        """Wait for the value and return it.

        Args:
            timeout: longest wait in seconds; None or infinity means no limit. It does not interrupt
                a body that runs the awaited call itself.

        Raises:
            TypeError: the timeout is not a number.
            ValueError: the timeout is NaN.
            TimeoutError: the call has not ended yet; it continues.
            Exception: what the body raised, or an `InvocationError` of the queue.
        """
        deadline = deadline_of(timeout)
        value: R_co = self._pending_result.value(self._member, deadline)
        return value

    def future(self) -> Future[R_co]:
        """The standard library's future of the call, for code that takes one.

        Its `cancel` succeeds only if no worker has claimed the call. A body that waits for it, in
        any way, runs the call itself if no other worker does. Do not `abandon` the call then.

        Raises:
            RuntimeError: this process cannot start another thread.
        """
        if self._future is None:
            from fsqueue.results.futures import future_of

            self._future = future_of(self.id, self._pending_result, self._member)
        return self._future

    def received(self, receiving: Receiving, deadline: float | None) -> R_co:
        """The return value, for a block that abandons the call if it fails."""
        content = receiving.content(self._pending_result, deadline)
        value: R_co = self._pending_result.open(content, self._member)
        return value

    async def async_result(self) -> R_co:
        """Await the return value. Cancelling the wait does not cancel the call."""
        value: R_co = await self._pending_result.async_value(self._member)
        return value

    @property
    def output(self) -> str:
        """What the body has printed and logged so far, with the task option `capture_output`.

        The output belongs to the attempt that gave the outcome, or else to the latest attempt. A
        batch has one output for all its calls. It is empty if there is none or if it has expired.
        Any process with write access to the spool can have written it: escape control characters
        before you show it on a terminal.
        """
        return self._pending_result.output()

    @property
    def reported(self) -> Progress | None:
        """The progress that the body reported with `CurrentInvocation.progress`.

        None if it has reported nothing, and after it has ended. For a batch, the latest report.
        """
        return self._pending_result.reported()

    def cancel(self) -> bool:
        """Cancel the call: its callers get `CancelledError`. False if it had already ended.

        A pending call never starts. A worker with process slots kills a running body. With thread
        slots the body continues, and can check ``current_invocation().cancelled``. The calls of
        one batch are cancelled together.

        Raises:
            UnknownInvocationError: it is not in this spool.
        """
        return self._pending_result.cancel()

    def abandon(self, *, stop: bool = False) -> None:
        """Abandon the call: it does not run, or its result is dropped.

        Args:
            stop: stop the body if it is running.
        """
        self._pending_result.abandon(stop=stop)


def deadline_of(timeout: float | None) -> float | None:
    """The deadline of a wait that begins now, on the monotonic clock; None: no limit.

    Raises:
        TypeError: the timeout is not a number.
        ValueError: the timeout is NaN.
    """
    left = patience("timeout", timeout)
    return None if left is None else time.monotonic() + left


class InvocationGroup(Generic[R_co]):
    """The calls of one `Task.parallelize`, in input order."""

    def __init__(self, invocations: Sequence[Invocation[R_co]]) -> None:
        self._invocations = tuple(invocations)

    def __len__(self) -> int:
        return len(self._invocations)

    def __iter__(self) -> Iterator[Invocation[R_co]]:
        return iter(self._invocations)

    def __getitem__(self, index: int) -> Invocation[R_co]:
        return self._invocations[index]

    def __repr__(self) -> str:
        states = ", ".join(f"{count} {state}" for state, count in self._states().items())
        return f"<{type(self).__name__} of {len(self)}{states and ': '}{states}>"

    def _repr_html_(self) -> str:
        from fsqueue.results.shown import call_html

        return call_html(type(self).__name__, f"of {len(self)}", self._states())

    def _states(self) -> Mapping[str, int]:
        from fsqueue.results.shown import states_in_words

        return states_in_words([partial(getattr, each, "status") for each in self._invocations])

    def __reduce__(self) -> tuple[Any, ...]:
        return given, (list(self._invocations),)

    def then(
        self,
        task: Callable[Concatenate[list[R_co], P], Invocation[V]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Invocation[V]:
        """Call a task with the list of results, in input order, as soon as all are there.

        Otherwise like `Invocation.then`.

        Raises:
            TypeError: the arguments do not fit the task, or `task` is not a task.
            ValueError: the task uses another spool.
        """
        return _called(task, self, args, kwargs)

    @property
    def results(self) -> list[R_co]:
        """The values in input order. Blocks until all are there.

        To get them one by one, iterate over the group and get the result of each member.

        Raises:
            Exception: what the body of the first failed member raised, with a note that names
                the member.
        """
        return self.get()

    def get(self, timeout: float | None = None) -> list[R_co]:
        """The values in input order.

        Args:
            timeout: longest wait for all of them, in seconds; None means no limit.

        Raises:
            TimeoutError: a call has not ended yet; all continue.
            Exception: see `results`.
        """
        deadline, values = deadline_of(timeout), []
        for index, invocation in enumerate(self._invocations):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            with naming_item(index, len(self)):
                values.append(invocation.get(left))
        return values

    def received(self, receiving: Receiving, deadline: float | None) -> list[R_co]:
        """The values in input order, for a block that abandons the calls if it fails.

        Raises:
            TimeoutError: the deadline, on the monotonic clock, has passed.
            Exception: see `results`.
        """
        values = []
        for index, invocation in enumerate(self._invocations):
            with naming_item(index, len(self)):
                values.append(invocation.received(receiving, deadline))
        return values

    def bar(self, description: str = "") -> contextlib.AbstractContextManager[None]:
        """A block with a progress bar on the terminal that counts the calls that have ended."""
        return bar_of(self._invocations, description)

    def progress(self, description: str = "") -> Self:
        """Wait until all calls have ended, and show a progress bar on the terminal.

        The bar appears on standard error if that is a terminal. Returns the group. Failures are
        not raised here but by `results`.

        Args:
            description: text in front of the bar.
        """
        with self.bar(description):
            for pending_result in _pending_results(self._invocations):
                pending_result.wait()
        return self

    async def async_results(self) -> AsyncIterator[R_co]:
        """Yield the values in input order, each as soon as it and all before it are there.

        Raises:
            Exception: see `results`.
        """
        for index, invocation in enumerate(self._invocations):
            with naming_item(index, len(self)):
                value = await invocation.async_result()
            yield value

    def cancel(self) -> int:
        """Cancel the calls that have not ended, and return their number."""
        return sum(invocation.cancel() for invocation in self._invocations)

    def abandon(self, *, stop: bool = False) -> None:
        """Abandon the calls: they do not run, or their results are dropped.

        Args:
            stop: stop the bodies that are running.
        """
        for invocation in self._invocations:
            invocation.abandon(stop=stop)


def _called(
    task: Callable[..., Invocation[V]],
    first: object,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Invocation[V]:
    if not hasattr(task, "submit"):
        raise TypeError(
            f"{task!r} cannot be called later: `then` takes a function with @app.task. Pass the "
            "invocation to a direct task as an argument: it waits for the result"
        )
    return task(first, *args, **kwargs)


def _pending_results(invocations: Iterable[Invocation[Any]]) -> dict[PendingResult, int]:
    """The pending results of calls, each with its number of calls. Inline calls have none."""
    found: dict[PendingResult, int] = {}
    for each in invocations:
        pending_result = getattr(each, "_pending_result", None)
        if pending_result is not None:
            found[pending_result] = found.get(pending_result, 0) + 1
    return found


def bar_of(
    invocations: Iterable[Invocation[Any]], description: str = ""
) -> contextlib.AbstractContextManager[None]:
    """A block with a progress bar on the terminal that counts the calls that have ended."""
    from fsqueue.results.progress_bar import bar

    return bar(_pending_results(invocations), description)


class naming_item:  # noqa: N801 - used like a function
    """A block whose exceptions get a note that names the member of the group."""

    __slots__ = ("_count", "_index")

    def __init__(self, index: int, count: int) -> None:
        self._index, self._count = index, count

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            text = f"(from item {self._index} of a fan-out over {self._count}, counted from 0)"
            error.add_note(text)
