"""A call that was made, and its outcome."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from fsqueue.common.values import patience
from fsqueue.references import given, reference
from fsqueue.results.shielded import Wait, shielded
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from fsqueue.results.pending_result import PendingResult
    from fsqueue.runner.attempt.inline import InlineReport
    from fsqueue.spool.store.body_reports import Progress

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")
R_co = TypeVar("R_co", covariant=True)


class Invocation(Generic[R_co]):
    """One call of a task. Got from calling a task, or from ``app.invocation(id)``.

    Attributes:
        id: its name, by which any process of the spool can ask for it.
    """

    def __init__(self, delivery: PendingResult, member: int | None = None) -> None:
        self.id = delivery.id if member is None else f"{delivery.id}:{member}"
        self._delivery = delivery
        self._member = member

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (given, (self.get(),)) if self._delivery.is_cached else reference(self)

    @property
    def delivery(self) -> PendingResult:
        """The way back of its file, which it may share with others."""
        return self._delivery

    def then(
        self,
        task: Callable[Concatenate[R_co, P], Invocation[V]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Invocation[V]:
        """Call a task with the result as its first argument, once it is there.

        Returns at once, and nobody waits meanwhile: ``a.then(f).then(g)`` is a chain. If this one
        fails or is cancelled, that call fails with `DependencyError` and does not run.

        Args:
            task: a task of the same spool.
            args: its other arguments.
            kwargs: the same by name.

        Raises:
            TypeError: the arguments do not fit the task, or it is none.
            UnknownInvocationError: this invocation is nowhere in the spool.
            ValueError: the task uses another spool.
        """
        return _called(task, self, args, kwargs)

    @property
    def status(self) -> State:
        """Where it stands now.

        Raises:
            UnknownInvocationError: it is nowhere in this spool.
        """
        return self._delivery.state(self._member)

    def done(self) -> bool:
        """Whether the outcome is there, so that `get` does not block.

        Raises:
            UnknownInvocationError: it is nowhere in this spool.
        """
        return self.status.finished

    @property
    def result(self) -> R_co:
        """The value; blocks until it is there. Raises what the body raised."""
        return self.get()

    def get(self, timeout: float | None = None, *, wait: Wait | None = None) -> R_co:
        """Wait for the value and return it.

        Args:
            timeout: longest wait in seconds; None or infinity waits for as long as it takes. A
                body that runs the awaited call itself finishes it first.
            wait: for fsqueue itself: lets another thread end the wait.

        Raises:
            TypeError: the timeout is no number.
            ValueError: the timeout is not a number (NaN).
            TimeoutError: it is not there yet; the invocation goes on.
            Exception: what the body raised, or an `InvocationError` of the queue.
        """
        deadline = deadline_of(timeout)
        value: R_co = self._delivery.value(self._member, deadline, wait)
        return value

    async def async_result(self) -> R_co:
        """The value, without blocking the event loop. Cancelling it leaves the invocation."""
        value: R_co = await self._delivery.async_value(self._member)
        return value

    @property
    def output(self) -> str:
        """What the body has printed and logged so far, with the task option `capture_output`.

        That of the attempt whose outcome it has, or of the latest; of a batch, that of all its
        calls. Empty if there is none, or if it has expired. Whoever may write into the spool can
        have written it: escape control characters before you show it on a terminal.
        """
        return self._delivery.output()

    @property
    def reported(self) -> Progress | None:
        """How far the body says that it is, by `CurrentInvocation.progress`.

        None if it has not said so, and when it has ended. Of a batch, what its latest call said.
        """
        return self._delivery.reported()

    def cancel(self) -> bool:
        """Stop it: whoever waits gets `CancelledError`. False if it had ended already.

        A call that is pending never starts. One that runs is killed by a worker with process
        slots; with threads its body goes on, and may ask ``current_invocation().cancelled``. The
        calls of one batch are cancelled together.

        Raises:
            UnknownInvocationError: it is nowhere in this spool.
        """
        return self._delivery.cancel()

    def abandon(self, *, stop: bool = False) -> None:
        """Nobody wants the outcome any more: do not run the call, or drop its result.

        Args:
            stop: end the body, if it runs.
        """
        self._delivery.abandon(stop=stop)


class InlineInvocation(Invocation[R]):
    """A call that was run where it was made, with ``dev_mode_force_sync_tasks``."""

    _numbers = itertools.count(1)

    def __init__(self, run: Callable[[str, InlineReport], R]) -> None:
        from fsqueue.runner.attempt.inline import InlineReport

        self.id = f"inline-{next(self._numbers)}"
        self._value: R | None = None
        self._error: BaseException | None = None
        self._report = InlineReport()
        try:
            self._value = run(self.id, self._report)
        except Exception as error:  # noqa: BLE001 - raised by `get`, as with a worker
            self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return given, (self.get(),)

    @property
    def status(self) -> State:
        """Finished."""
        return State.SUCCEEDED if self._error is None else State.FAILED

    @property
    def output(self) -> str:
        """What the body has printed and logged, if the task captures that."""
        return self._report.output

    @property
    def reported(self) -> Progress | None:
        """How far the body has said at last that it is."""
        return self._report.progress

    def get(self, timeout: float | None = None, *, wait: Wait | None = None) -> R:
        """The value, or what the body raised."""
        del wait
        deadline_of(timeout)
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    async def async_result(self) -> R:
        """The value, or what the body raised."""
        return self.get()

    def cancel(self) -> bool:
        """It has ended already."""
        return False

    def abandon(self, *, stop: bool = False) -> None:
        """Nothing was written."""


def deadline_of(timeout: float | None) -> float | None:
    """When a wait that begins now is over, on the steady clock; None: never.

    Raises:
        TypeError: the timeout is no number.
        ValueError: the timeout is not a number (NaN).
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
        return f"<{type(self).__name__} of {len(self)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return given, (list(self._invocations),)

    def then(
        self,
        task: Callable[Concatenate[list[R_co], P], Invocation[V]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Invocation[V]:
        """Call a task with the list of results, in input order, once all are there.

        As `Invocation.then`.

        Raises:
            TypeError: the arguments do not fit the task, or it is none.
            ValueError: the task uses another spool.
        """
        return _called(task, self, args, kwargs)

    @property
    def results(self) -> list[R_co]:
        """The values in input order; blocks until all are there.

        To get them one by one, iterate over the group and ask each member.

        Raises:
            Exception: what the body of the first failed member raised, with a note that says
                which one it was.
        """
        return self.get()

    def get(self, timeout: float | None = None, *, wait: Wait | None = None) -> list[R_co]:
        """The values in input order.

        Args:
            timeout: longest wait for all of them, in seconds; None waits as long as it takes.
            wait: as `Invocation.get`.

        Raises:
            TimeoutError: one is not there yet; all go on.
            Exception: as `results`.
        """
        wait, deadline = wait or Wait(), deadline_of(timeout)
        return shielded(lambda: self._values(deadline, wait), wait.drop)

    def _values(self, deadline: float | None, wait: Wait) -> list[R_co]:
        values = []
        for index, invocation in enumerate(self._invocations):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            with naming_item(index, len(self)):
                values.append(invocation.get(left, wait=wait))
        return values

    def bar(self, description: str = "") -> contextlib.AbstractContextManager[None]:
        """A block during which a terminal shows how many calls have ended."""
        return bar_of(self._invocations, description)

    def progress(self, description: str = "") -> Self:
        """Wait until all calls have ended, and show a progress bar on the terminal meanwhile.

        On standard error, and none if that is no terminal. Returns the group; failures are raised
        by whoever asks for the results.

        Args:
            description: stands before the bar.
        """
        with self.bar(description):
            for delivery in _deliveries(self._invocations):
                delivery.wait()
        return self

    async def async_results(self) -> AsyncIterator[R_co]:
        """The values in input order, each as soon as it and those before it are there.

        Raises:
            Exception: as `results`.
        """
        for index, invocation in enumerate(self._invocations):
            with naming_item(index, len(self)):
                value = await invocation.async_result()
            yield value

    def cancel(self) -> int:
        """Cancel the calls that have not ended; returns how many."""
        return sum(invocation.cancel() for invocation in self._invocations)

    def abandon(self, *, stop: bool = False) -> None:
        """Nobody wants the outcomes any more.

        Args:
            stop: end the bodies that run.
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
            f"{task!r} cannot be called later: `then` takes a function with @app.task. A direct "
            "task takes an invocation as an argument, and waits for it"
        )
    return task(first, *args, **kwargs)


def _deliveries(invocations: Iterable[Invocation[Any]]) -> dict[PendingResult, int]:
    """The files of calls, each with the number of the calls; none of those that ran inline."""
    found: dict[PendingResult, int] = {}
    for each in invocations:
        delivery = getattr(each, "_delivery", None)
        if delivery is not None:
            found[delivery] = found.get(delivery, 0) + 1
    return found


def bar_of(
    invocations: Iterable[Invocation[Any]], description: str = ""
) -> contextlib.AbstractContextManager[None]:
    """A block during which a terminal shows how many of the calls have ended."""
    from fsqueue.results.progress_bar import bar

    return bar(_deliveries(invocations), description)


@contextlib.contextmanager
def naming_item(index: int, count: int) -> Iterator[None]:
    """Note on an exception which member of a group it came from."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"(from item {index} of a fan-out over {count}, counted from 0)")
        raise
