"""Pending results: wait for the outcome of a call or batch, and collect it once."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.errors import EnvelopeError
from fsqueue.results.opened import Opened
from fsqueue.runner.attempt.context import context_of_waiting_body
from fsqueue.runner.attempt.nested import in_helper_thread, not_blocking_a_loop
from fsqueue.spool.format.names import client_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.spool.caller.session import Session
    from fsqueue.spool.caller.wait import Wait
    from fsqueue.spool.caller.waiter import Waiter
    from fsqueue.spool.disk.content import Content
    from fsqueue.spool.features.body_reports import Progress
    from fsqueue.spool.format.states import State
    from fsqueue.spool.store.store import Store


def _check_pauses() -> Iterator[float]:
    """Seconds between a waiting body's checks whether the call has become pending again."""
    return itertools.chain((0.05, 0.1, 0.2, 0.5), itertools.repeat(1.0))


class Hint(NamedTuple):
    """Where this process published a call."""

    path: str
    lanes: tuple[str, ...] = ()
    """The concurrency limits for which it may wait."""
    deferred: bool = False
    """Whether it was published to wait for other calls."""


class PendingResult:
    """The result handle of one file, which contains a call or a batch.

    Args:
        invocation_id: the id of the file.
        hint: where the call was published, if this process published it.
        keep: the outcome stays readable for every process until it expires.
        members: number of calls in the batch; 0 for a single call.
        shared: other processes may wait for the same call.
        unpickles: the outcome may be unpickled; None: unless the application uses JSON only.
        learn: called with the duration of each call, in seconds.

    Attributes:
        leaves: the collected outcome stays in the mailbox until `clear`.
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
        self._deferred = hint is not None and hint.deferred
        self._made = time.monotonic()
        self._mutex = threading.Lock()
        self._data: Content | None = None
        self._opened: Opened | None = None
        self._collected = False
        self.leaves: bool = False

    @classmethod
    def of_cached(
        cls, session: Session, invocation_id: str, content: Content, *, unpickles: bool
    ) -> PendingResult:
        """The result of a finished call, from the bytes of its outcome."""
        pending_result = cls(session, invocation_id, unpickles=unpickles)
        pending_result._data, pending_result._collected = content, True
        return pending_result

    def state(self, member: int | None) -> State:
        """The state of a call.

        Raises:
            UnknownInvocationError: it is not in this spool.
        """
        from fsqueue.spool.store.lookup import state_of

        if self._data is not None or self._collected:
            data = self.read()
            if data is not None:
                return self._decoded(data).state(member)
        hint = None if self._deferred else self._hint
        return state_of(self._session.store, self.id, member, hint=hint, lanes=self._lanes)

    @property
    def is_cached(self) -> bool:
        """Whether this is a cached result: its content is known, and its file may have expired."""
        return self._hint is None and self._data is not None

    def is_over(self, store: Store, ttl: float) -> bool:
        """Whether the call has ended, as far as this process knows; postpones the outcome's expiry.

        Args:
            store: the spool of the call that waits for it.
            ttl: how long outcomes are kept, in seconds.

        Raises:
            UnknownInvocationError: it is not in this spool.
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

    def value(self, member: int | None, deadline: float | None) -> Any:
        """Wait for the value of a call. Raises what its body raised.

        Raises:
            TimeoutError: the deadline, on the monotonic clock, has passed.
        """
        if (content := self.fetch(deadline)) is None:
            raise self.overdue()
        return self.open(content, member)

    def fetch(self, deadline: float | None) -> Content | None:
        """Wait for the outcome, and collect it; None if the deadline has passed.

        Args:
            deadline: on the monotonic clock; None: no limit.
        """
        data = self.known_content()
        if data is None:
            with not_blocking_a_loop():
                data = self._wait(deadline)
        return data

    def overdue(self) -> TimeoutError:
        """The error for a caller whose timeout has passed."""
        return TimeoutError(
            f"invocation {self.id} has no result yet. It is not cancelled: wait longer, or see "
            f"what it waits for with `fsqueue show {self.id}`."
        )

    async def async_value(self, member: int | None) -> Any:
        """Wait for the value of a call without blocking the event loop."""
        from fsqueue.common.offloading import in_thread_or_here
        from fsqueue.spool.caller.async_waiting import arrival

        data = await in_thread_or_here(self.known_content)
        pauses = _check_pauses()
        while data is None:
            context = self.context_of_waiting_body()
            if context is None or not await self._run_beside(context):
                waiter, pause = self._session.client.waiter, next(pauses) if context else None
                is_over = self._is_taken if self._keep else None
                await arrival(waiter, self.id, pause, is_over)
            data = await in_thread_or_here(self.read)
        return self.open(data, member)

    async def _run_beside(self, context: WorkerContext) -> bool:
        """Run the call in another thread, if possible, because its body may be asynchronous."""
        from fsqueue.common.offloading import NoThreadError

        try:
            return await in_helper_thread(self.run_here, context)
        except NoThreadError:
            return False

    def _wait(self, deadline: float | None) -> Content | None:
        data, pauses = None, None
        while data is None:
            context = self.context_of_waiting_body()
            if context is None:
                self._sleep(deadline, None)
            elif not self.run_here(context):
                pauses = pauses or _check_pauses()
                self._sleep(deadline, next(pauses))
            data = self.read()
            if data is None and deadline is not None and time.monotonic() >= deadline:
                break
        return data

    def _sleep(self, deadline: float | None, pause: float | None) -> None:
        """Wait for the outcome, for at most `pause` seconds."""
        waiter = self._session.client.waiter
        if waiter.has_seen(self.id):
            waiter.forget(self.id)  # it can only be read once
            return
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            pause = left if pause is None else min(left, pause)
        waiter.wait([self.id], pause, self._is_taken)

    @property
    def waiter(self) -> Waiter:
        """The waiter of this process."""
        return self._session.client.waiter

    def begins(self, wait: Wait, waiter: Waiter) -> bool:
        """Begin a wait for the outcome; False if it can be read now."""
        if waiter.has_seen(self.id):
            waiter.forget(self.id)  # it can only be read once
            return False
        waiter.begin(wait)
        if (self._keep or self._data is not None) and self._is_taken():
            waiter.end(wait)
            return False
        return True

    def _is_taken(self) -> bool:
        """Whether another handle or thread collected the outcome before this wait began."""
        return self._data is not None or (
            self._keep and self._session.client.store.outcomes.is_kept(self.id)
        )

    def context_of_waiting_body(self) -> WorkerContext | None:
        """The worker of the body that the calling code belongs to; None if it is in no body."""
        return context_of_waiting_body(self._session.store.layout.root, self._session.app_id)

    def run_here(self, context: WorkerContext) -> bool:
        """Run the call in this thread, for a body that waits for it, if it is pending."""
        from fsqueue.runner.attempt.instead_of_waiting import run_instead_of_waiting

        unknown = self._hint is None or self._shared  # other processes' calls may have other limits
        lanes = None if unknown else self._lanes
        return run_instead_of_waiting(
            context, self.id, self._hint, lanes=lanes, deferred=self._deferred
        )

    @property
    def is_new(self) -> bool:
        """Whether this process published the call and has not yet collected its outcome."""
        return self._hint is not None and not self._collected

    def known_content(self) -> Content | None:
        """The outcome, if it is there before any wait; not read for a call this process just made.

        Raises:
            UnknownInvocationError: it is not in this spool.
        """
        if self._data is not None:
            return self._data
        if self._hint is not None and not self._collected:  # `is_new`, without a call
            return None  # the waiter is cheaper than a failing read
        data = self._session.store.outcomes.peek(self.id, collected=self._collected)
        if data is None and not self._collected:
            self.state(None)  # raises for an unknown id
        return data

    def read(self) -> Content | None:
        """Collect the outcome; None if it has not arrived."""
        client = self._session.client
        with self._mutex:
            if self._data is not None:
                return self._data
            if self._collected or client_of(self.id) != client.name:
                return client.store.outcomes.peek(self.id, collected=self._collected)
            data = client.store.outcomes.collect(self.id, keep=self._keep, leave=self.leaves)
            if data is None and self._keep:
                # Another handle or thread has collected it.
                data = client.store.outcomes.peek(self.id)
            if data is not None:
                self._collected = True
                client.waiter.collected(self.id)
                if self._members:
                    self._data = data  # for the other calls of the batch
            return data

    def clear(self) -> None:
        """Remove the collected outcome that was left in the mailbox."""
        if self.leaves and self._collected:
            self.store.outcomes.remove(self.id)
            self.waiter.forget(self.id)

    def _decoded(self, data: Content) -> Opened:
        """The verified outcome; a failure if this client collected a damaged one."""
        if self._opened is not None:
            return self._opened
        store = self._session.store
        try:
            outcome, payload = store.outcomes.read(self.id, data)
        except EnvelopeError as error:
            if not self._collected:
                raise
            damaged = store.layout.kept(self.id) if self._keep else data
            data = store.outcomes.condemn(self.id, damaged, str(error), keep=self._keep)
            self._data = data
            outcome, payload = store.outcomes.read(self.id, data)
        opened = Opened(outcome, payload, outcome.starts() if outcome.members else [])
        if data is self._data:
            self._opened = opened  # once for all calls of the batch
        return opened

    def open(self, data: Content, member: int | None) -> Any:
        """The value of a call. Raises what its body raised."""
        opened = self._decoded(data)
        outcome = opened.outcome
        learn, self._learn = self._learn, None
        if learn is not None and outcome.ended > outcome.started:
            learn((outcome.ended - outcome.started) / max(1, len(outcome.members)))
        copied = data is self._data  # the next reader gets its own copy
        return opened.value(self.id, member, unpickles=self._unpickles, copy=copied)

    # -- for progress bars ----------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The spool."""
        return self._session.store

    @property
    def is_there(self) -> bool:
        """Whether the outcome has arrived, as far as a waiting thread has seen."""
        if self._data is not None or self._collected:
            return True
        return self._session.client.waiter.has_seen(self.id)

    def wait(self) -> None:
        """Wait until the call has ended, in any way."""
        self.fetch(None)

    # -- output and progress --------------------------------------------------------------

    def output(self) -> str:
        """What the bodies have printed so far."""
        from fsqueue.spool.features.body_reports import latest_output, read_output

        files = self.store.files
        return read_output(files, latest_output(files, self.id)).decode("utf-8", "replace")

    def reported(self) -> Progress | None:
        """The progress that the bodies have reported; None if they have reported nothing."""
        from fsqueue.spool.features.body_reports import progress_of

        return None if self._collected else progress_of(self._session.store.files, self.id)

    # -- giving up ----------------------------------------------------------------------

    def cancel(self, *, running: bool = True) -> bool:
        """Cancel the calls of the file. False if the outcome was already there.

        Args:
            running: cancel calls that a worker has claimed, too; otherwise return False for them.

        Raises:
            UnknownInvocationError: it is not in this spool.
        """
        from fsqueue.spool.store.lookup import cancel

        if self._collected:
            return False
        hint = None if self._deferred else self._hint
        return cancel(self._session.store, self.id, hint, self._lanes, running=running)

    def abandon(self, *, stop: bool = False) -> None:
        """Abandon the call: it does not run, or its result is dropped.

        Does nothing if its result was collected, or if others may wait for it. If a worker has
        claimed a call of an `@app.task`, its result stays until it expires.

        Args:
            stop: stop the body if it is running.
        """
        if self._collected or self._shared:
            return
        from fsqueue.spool.store.lookup import withdraw

        client, path = self._session.client, self._hint
        if path is not None and withdraw(
            client.store, self.id, path, self._lanes, deferred=self._deferred
        ):
            return
        if stop:
            client.store.endings.cancel_running(self.id)
        if not self._keep:
            client.waiter.abandon(self.id)
