"""One file's way back: waits for the outcome of a call or a batch, and collects it once."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.errors import EnvelopeError, queue_error
from fsqueue.results.shielded import Wait, shielded
from fsqueue.runner.attempt.nested import in_helper_thread, not_blocking_a_loop
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.spool.caller.session import Session
    from fsqueue.spool.disk.content import Content
    from fsqueue.spool.format.records import Failure, Outcome, Payload
    from fsqueue.spool.store.body_reports import Progress
    from fsqueue.spool.store.store import Store

# While a body waits for an invocation, it looks so often whether it has become pending again.
_HELP_PAUSES = (0.05, 0.1, 0.2, 0.5)
_LAST_HELP_PAUSE = 1.0


class Hint(NamedTuple):
    """Where this process published a file."""

    path: str
    lanes: tuple[str, ...] = ()
    """In which it may wait for its turn since."""


class _Opened(NamedTuple):
    """An outcome whose digest holds."""

    outcome: Outcome
    payload: Payload
    starts: list[int]

    def part(self, member: int | None) -> tuple[State, Failure | None, Payload]:
        return self.outcome.part(self.payload, member, self.starts)


class PendingResult:
    """The outcome of one file, whichever of its calls is asked for.

    Args:
        session: the connection to the spool.
        invocation_id: the file's invocation.
        hint: where it was published, if this process did that.
        keep: the outcome stays readable for everybody.
        members: how many calls of this process share it.
        shared: others may wait for it, of whom this process knows nothing.
        unpickles: the outcome may be a pickle; None: unless the application reads JSON only.
        learn: told how long each call took.

    Attributes:
        parked: it was published to wait for others.
    """

    def __init__(
        self,
        session: Session,
        invocation_id: str,
        *,
        hint: Hint | None = None,
        keep: bool = True,
        members: int = 0,
        shared: bool = False,
        unpickles: bool | None = None,
        learn: Callable[[float], None] | None = None,
    ) -> None:
        self.id = invocation_id
        self._session = session
        self._hint = None if hint is None else hint.path
        self._lanes = () if hint is None else hint.lanes
        self._keep = keep
        self._members = members
        self._shared = shared
        self._unpickles = session.conf.serializer != "json" if unpickles is None else unpickles
        self._learn = learn
        self.parked = False
        self._made = time.monotonic()
        self._mutex = threading.Lock()
        self._data: Content | None = None
        self._opened: _Opened | None = None
        self._collected = False

    @classmethod
    def of_cached(
        cls, session: Session, invocation_id: str, content: Content, *, unpickles: bool
    ) -> PendingResult:
        """The outcome of a call that has ended, as it was read."""
        delivery = cls(session, invocation_id, unpickles=unpickles)
        delivery._data, delivery._collected = content, True
        return delivery

    def state(self, member: int | None) -> State:
        """Where it stands now.

        Raises:
            UnknownInvocationError: it is nowhere in this spool.
        """
        from fsqueue.spool.store.lookup import state_of

        if self._data is not None or self._collected:
            data = self._read()
            if data is not None:
                return self._decoded(data).part(member)[0]
        hint = None if self.parked else self._hint
        return state_of(self._session.store, self.id, member, hint=hint, lanes=self._lanes)

    @property
    def is_cached(self) -> bool:
        """Whether its content alone is known: its file may have expired."""
        return self._hint is None and self._data is not None

    def is_over(self, store: Store, ttl: float) -> bool:
        """Whether it has ended, as far as this process knows; its outcome is kept from now on.

        Args:
            store: the spool of a call that waits for it.
            ttl: how long outcomes are kept.

        Raises:
            UnknownInvocationError: it is nowhere in this spool.
            ValueError: it belongs to another spool.
        """
        if self.store.files.info.id != store.files.info.id:
            raise ValueError(
                f"invocation {self.id} belongs to the spool {self.store.layout.root}, and a call "
                f"in {store.layout.root} cannot wait for it: get its result and pass that"
            )
        over = self._collected if self._hint is not None else self.state(None).finished
        if self._hint is None or time.monotonic() - self._made > ttl / 2:
            store.outcomes.renew(self.id)
        return over

    def value(self, member: int | None, deadline: float | None, wait: Wait | None = None) -> Any:
        """Wait for the value of a call; raises what its body raised.

        Raises:
            TimeoutError: the deadline, on the steady clock, has passed.
        """
        return self.open(self.fetch(deadline, wait), member)

    def fetch(self, deadline: float | None, wait: Wait | None = None) -> Content:
        """Wait for the outcome, and collect it.

        Args:
            deadline: on the steady clock.
            wait: by which another thread can end this.

        Raises:
            TimeoutError: the deadline has passed.
        """
        wait = wait or Wait()
        return shielded(lambda: self._wait(deadline, wait), wait.drop)

    async def async_value(self, member: int | None) -> Any:
        """The same without blocking the event loop."""
        import asyncio

        from fsqueue.common.offloading import in_thread_or_here

        data = await in_thread_or_here(self._first_look)
        pauses = _help_pauses()
        while data is None:
            context = self._context_of_waiting_body()
            if context is None or not await self._run_beside(context):
                waiter = self._session.client.waiter
                arrival = asyncio.wrap_future(waiter.watch(self.id))
                try:
                    await in_thread_or_here(self._end_wait_if_kept)
                    pause = next(pauses) if context else None
                    if waiter.lacks_thread:
                        pause = await in_thread_or_here(waiter.poll_instead) or pause
                    done, _ = await asyncio.wait([arrival], timeout=pause)
                    for each in done:
                        each.result()  # an error, if the wait is in vain
                finally:
                    arrival.cancel()
            data = await in_thread_or_here(self._read)
        return self.open(data, member)

    async def _run_beside(self, context: WorkerContext) -> bool:
        """Run it in another thread, if this process may have one: its body may be asynchronous."""
        from fsqueue.common.offloading import NoThreadError

        try:
            return await in_helper_thread(self._run_here, context)
        except NoThreadError:
            return False

    # -- waiting ------------------------------------------------------------------------

    def _wait(self, deadline: float | None, wait: Wait) -> Content:
        data = self._first_look()
        if data is None:
            with not_blocking_a_loop():
                data = self._wait_on(deadline, wait)
        return data

    def _wait_on(self, deadline: float | None, wait: Wait) -> Content:
        data, pauses = None, _help_pauses()
        while data is None:
            context = self._context_of_waiting_body()
            if context is None or not self._run_here(context):
                self._sleep(deadline, next(pauses) if context else None, wait)
            data = self._read()
        return data

    def _sleep(self, deadline: float | None, pause: float | None, wait: Wait) -> None:
        """Wait for the outcome, at most `pause` seconds."""
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        waits = [wait for wait in (left, pause) if wait is not None]
        if self._session.client.waiter.has_seen(self.id):
            return
        arrival = self._session.client.waiter.watch(self.id)
        wait.begin(arrival)
        try:
            if not arrival.done():
                self._end_wait_if_kept()
            self._session.client.waiter.wait(arrival, min(waits) if waits else None)
        except FutureTimeoutError:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(
                    f"invocation {self.id} has no result yet. It goes on: wait longer, or look "
                    f"where it is with `fsqueue show {self.id}`."
                ) from None
        finally:
            arrival.cancel()

    def _end_wait_if_kept(self) -> None:
        """Wake this waiter if another handle or thread collected before it could be told."""
        client = self._session.client
        if self._keep and client.store.outcomes.is_kept(self.id):
            client.waiter.collected(self.id)

    def _context_of_waiting_body(self) -> WorkerContext | None:
        from fsqueue.runner.attempt.context import context_of_waiting_body

        return context_of_waiting_body(self._session.store.layout.root, self._session.app_id)

    def _run_here(self, context: WorkerContext) -> bool:
        from fsqueue.runner.attempt.instead_of_waiting import run_instead_of_waiting

        unknown = self._hint is None or self._shared  # another's call may have other lanes
        lanes = None if unknown else self._lanes
        return run_instead_of_waiting(context, self.id, self._hint, lanes=lanes, parked=self.parked)

    # -- reading ------------------------------------------------------------------------

    def _first_look(self) -> Content | None:
        if self._data is not None:
            return self._data
        if self._hint is not None and not self._collected:
            return None  # just published from here: the waiter tells for less than a failing look
        data = self._session.store.outcomes.peek(self.id)
        if data is None and not self._collected:
            self.state(None)  # raises for an id that nobody knows
        return data

    def _read(self) -> Content | None:
        client = self._session.client
        with self._mutex:
            if self._data is not None:
                return self._data
            if self._collected or not client.owns(self.id):
                return client.store.outcomes.peek(self.id)
            data = client.store.outcomes.collect(self.id, keep=self._keep)
            if data is None and self._keep:
                data = client.store.outcomes.peek(
                    self.id
                )  # another handle or thread has collected it
            if data is not None:
                self._collected = True
                client.waiter.collected(self.id)
                if self._members:
                    self._data = data  # for the other calls of the batch
            return data

    def _decoded(self, data: Content) -> _Opened:
        """The outcome; what this client has collected damaged is a failure from now on."""
        if self._opened is not None:
            return self._opened
        outcome, payload = self._verified(data)
        opened = _Opened(outcome, payload, outcome.starts())
        if data is self._data:
            self._opened = opened  # once for all calls of the batch
        return opened

    def _verified(self, data: Content) -> tuple[Outcome, Payload]:
        store = self._session.store
        try:
            return store.outcomes.read(self.id, data)
        except EnvelopeError as error:
            if not self._collected:
                raise
            damaged = store.layout.kept(self.id) if self._keep else data
            self._data = store.outcomes.condemn(self.id, damaged, str(error), keep=self._keep)
        return store.outcomes.read(self.id, self._data)

    def open(self, data: Content, member: int | None) -> Any:
        """The value of a call; raises what its body raised."""
        from fsqueue import codec

        opened = self._decoded(data)
        outcome = opened.outcome
        learn, self._learn = self._learn, None
        if learn is not None and outcome.ended > outcome.started:
            learn((outcome.ended - outcome.started) / max(1, len(outcome.members)))
        state, failure, (segment, buffers) = opened.part(member)
        if data is self._data:  # the next reader is to have a value of his own
            buffers = [bytearray(b) if isinstance(b, bytearray) else b for b in buffers]
        if not segment and failure is not None:
            raise queue_error(failure.type, failure.message)
        what = f"the result of invocation {self.id}"
        codec.check_codec(outcome.codec, what, unpickles=self._unpickles)
        if state is State.SUCCEEDED:
            return codec.decode(segment, what, buffers, codec=outcome.codec, python=outcome.python)
        raise codec.decode_exception(segment, outcome.codec)

    # -- for whoever shows how far it is ----------------------------------------------------

    @property
    def store(self) -> Store:
        """The spool."""
        return self._session.store

    def arrival(self) -> Future[None]:
        """Done once the outcome is there; cancel it to stop waiting."""
        if self._data is not None or self._collected:
            there: Future[None] = Future()
            there.set_result(None)
            return there
        arrival = self._session.client.waiter.watch(self.id)
        self._end_wait_if_kept()
        return arrival

    def wait(self) -> None:
        """Wait for the outcome, whatever it is."""
        self.fetch(None)

    # -- what the body says ---------------------------------------------------------------

    def output(self) -> str:
        """What the bodies of the file have printed so far."""
        from fsqueue.spool.store.body_reports import latest_output, read_output

        store = self._session.store
        return read_output(store.files, latest_output(store.files, self.id)).decode(
            "utf-8", "replace"
        )

    def reported(self) -> Progress | None:
        """How far the bodies of the file say that they are; None if they do not."""
        from fsqueue.spool.store.body_reports import progress_of

        return None if self._collected else progress_of(self._session.store.files, self.id)

    # -- giving up ----------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the file's calls; False if the outcome was there already.

        Raises:
            UnknownInvocationError: it is nowhere in this spool.
        """
        from fsqueue.spool.store.lookup import cancel

        if self._collected:
            return False
        hint = None if self.parked else self._hint
        return cancel(self._session.store, self.id, hint, self._lanes)

    def abandon(self, *, stop: bool = False) -> None:
        """Nobody wants the outcome any more: do not run the call, or drop its result.

        Does nothing once the outcome was collected, or if others may wait for it. The result of an
        `@app.task` that a worker has claimed already stays until it expires.

        Args:
            stop: end the body, if it runs.
        """
        if self._collected or self._shared:
            return
        client = self._session.client
        withdrawn = self._hint is not None and self._withdraw(self._hint)
        if stop and not withdrawn:
            client.store.endings.cancel_running(self.id)
        if not withdrawn and not self._keep:
            client.waiter.abandon(self.id)

    def _withdraw(self, path: str) -> bool:
        from fsqueue.spool.store.lookup import find_dependent, find_waiting

        store = self._session.store
        parked = find_dependent(store, self.id) if self.parked else None
        if store.withdraw(parked or path):
            return True
        waiting = find_waiting(store, self.id, self._lanes, path)
        return waiting is not None and store.withdraw(waiting)


def _help_pauses() -> Iterator[float]:
    return itertools.chain(_HELP_PAUSES, itertools.repeat(_LAST_HELP_PAUSE))
