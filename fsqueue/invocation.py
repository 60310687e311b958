"""A call that was made, and its outcome."""

from __future__ import annotations

import contextlib
import itertools
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Generic, TypeVar

from fsqueue import errors
from fsqueue.spool.states import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from fsqueue.runner.context import Workplace
    from fsqueue.session import Session

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# While a body waits for an invocation, it looks so often whether it has become pending again.
_HELP_PAUSES = (0.05, 0.1, 0.2, 0.5)
_LAST_HELP_PAUSE = 1.0


class Invocation(Generic[R_co]):
    """One call of a task. Got from calling a task, or from ``app.invocation(id)``.

    Attributes:
        id: its name, by which any process of the spool can ask for it.
    """

    def __init__(
        self, session: Session, invocation_id: str, *, hint: str | None = None, keep: bool = True
    ) -> None:
        self.id = invocation_id
        self._session = session
        self._hint = hint
        self._keep = keep
        self._collected = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    @property
    def status(self) -> State:
        """Where it stands now.

        Raises:
            UnknownInvocationError: it is nowhere in this spool.
        """
        from fsqueue.spool.lookup import state_of

        return state_of(self._session.store, self.id)

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

    def get(self, timeout: float | None = None) -> R_co:
        """Wait for the value and return it.

        Args:
            timeout: longest wait in seconds; None waits for as long as it takes. A body that
                runs the awaited call itself finishes it first.

        Raises:
            TimeoutError: it is not there yet; the invocation goes on.
            Exception: what the body raised, or an `InvocationError` of the queue.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        return self._open(self._wait(deadline))

    async def async_result(self) -> R_co:
        """The value, without blocking the event loop. Cancelling it leaves the invocation."""
        import asyncio

        data = await asyncio.to_thread(self._first_look)
        pauses = _help_pauses()
        while data is None:
            workplace = self._helper()
            if workplace is None or not await asyncio.to_thread(self._run_here, workplace):
                arrival = asyncio.wrap_future(self._session.client.waiter.watch(self.id))
                try:
                    await asyncio.to_thread(self._end_wait_if_kept)
                    await asyncio.wait([arrival], timeout=next(pauses) if workplace else None)
                finally:
                    arrival.cancel()
            data = await asyncio.to_thread(self._read)
        return self._open(data)

    def _wait(self, deadline: float | None) -> bytes:
        data = self._first_look()
        pauses = _help_pauses()
        while data is None:
            workplace = self._helper()
            if workplace is None or not self._run_here(workplace):
                self._sleep(deadline, next(pauses) if workplace else None)
            data = self._read()
        return data

    def _sleep(self, deadline: float | None, pause: float | None) -> None:
        """Wait for the outcome, at most `pause` seconds.

        Raises:
            TimeoutError: the deadline has passed.
        """
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        waits = [wait for wait in (left, pause) if wait is not None]
        arrival = self._session.client.waiter.watch(self.id)
        try:
            self._end_wait_if_kept()
            arrival.result(min(waits) if waits else None)
        except FutureTimeoutError:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"invocation {self.id} has no result yet") from None
        finally:
            arrival.cancel()

    def _end_wait_if_kept(self) -> None:
        """Wake this waiter if another handle or thread collected before it could be told."""
        client = self._session.client
        if self._keep and client.store.is_kept(self.id):
            client.waiter.collected(self.id)

    def _first_look(self) -> bytes | None:
        client = self._session.client
        if self._hint is not None and not self._collected:
            return None  # just published from here: the waiter tells for less than a failing look
        data = client.store.peek(self.id)
        if data is None and not self._collected:
            self.status  # noqa: B018 - raises for an id that nobody knows
        return data

    def _read(self) -> bytes | None:
        client = self._session.client
        if self._collected or not client.owns(self.id):
            return client.store.peek(self.id)
        data = client.store.collect(self.id, keep=self._keep)
        if data is None and self._keep:
            data = client.store.peek(self.id)  # another handle or thread has collected it
        if data is not None:
            self._collected = True
            client.waiter.collected(self.id)
        return data

    def _helper(self) -> Workplace | None:
        from fsqueue.runner.context import helper

        return helper(self._session.store.layout.root, self._session.queue)

    def _run_here(self, workplace: Workplace) -> bool:
        from fsqueue.runner.execute import run_if_pending

        return run_if_pending(workplace, self.id, self._hint)

    def _open(self, data: bytes) -> R_co:
        from fsqueue import codec

        outcome, payload = self._session.store.read_outcome(self.id, data)
        if outcome.state is State.SUCCEEDED:
            value: R_co = codec.decode(payload, f"the result of invocation {self.id}")
            return value
        if not payload and outcome.failure is not None:
            raise getattr(errors, outcome.failure.type, errors.InvocationError)(
                outcome.failure.message
            )
        raise codec.decode_exception(payload)

    def abandon(self) -> None:
        """Nobody wants the outcome any more: do not run the call, or drop its result.

        Does nothing once the outcome was collected. The result of an `@app.task` that a worker
        has claimed already stays until it expires.
        """
        if self._collected:
            return
        client = self._session.client
        withdrawn = self._hint is not None and client.store.withdraw(self._hint)
        if not withdrawn and not self._keep:
            client.waiter.abandon(self.id)


def _help_pauses() -> Iterator[float]:
    return itertools.chain(_HELP_PAUSES, itertools.repeat(_LAST_HELP_PAUSE))


class InlineInvocation(Invocation[R]):
    """A call that was run where it was made, with ``dev_mode_force_sync_tasks``."""

    _numbers = itertools.count(1)

    def __init__(self, run: Callable[[], R]) -> None:
        self.id = f"inline-{next(self._numbers)}"
        self._value: R | None = None
        self._error: BaseException | None = None
        try:
            self._value = run()
        except Exception as error:  # noqa: BLE001 - raised by `get`, as with a worker
            self._error = error

    @property
    def status(self) -> State:
        """Finished."""
        return State.SUCCEEDED if self._error is None else State.FAILED

    def get(self, timeout: float | None = None) -> R:
        """The value, or what the body raised."""
        del timeout
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    async def async_result(self) -> R:
        """The value, or what the body raised."""
        return self.get()

    def abandon(self) -> None:
        """Nothing was written."""


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

    @property
    def results(self) -> list[R_co]:
        """The values in input order; blocks until all are there.

        To get them one by one, iterate over the group and ask each member.

        Raises:
            Exception: what the body of the first failed member raised, with a note that says
                which one it was.
        """
        values = []
        for index, invocation in enumerate(self._invocations):
            with naming_item(index, len(self)):
                values.append(invocation.get())
        return values

    async def async_results(self) -> AsyncIterator[R_co]:
        """The values in input order, each as soon as it and those before it are there.

        Raises:
            Exception: as `results`.
        """
        for index, invocation in enumerate(self._invocations):
            with naming_item(index, len(self)):
                value = await invocation.async_result()
            yield value

    def abandon(self) -> None:
        """Nobody wants the outcomes any more."""
        for invocation in self._invocations:
            invocation.abandon()


@contextlib.contextmanager
def naming_item(index: int, count: int) -> Iterator[None]:
    """Note on an exception which member of a group it came from."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"(from item {index} of a fan-out over {count}, counted from 0)")
        raise
