"""Futures of calls, which the standard library's functions and other libraries can wait for.

A body that blocks in `Future.result` or in `concurrent.futures.wait` holds its slot, so it must run
the awaited calls itself, as with `Invocation.get`. The standard library has no hook for that, so
the future records that something waits for it. While a body does, a helper thread of that body runs
the calls.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import weakref
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from fsqueue.errors import CancelledError, ConfigError, SpoolError, UnknownInvocationError
from fsqueue.results.resolver import shared_resolver
from fsqueue.runner.attempt.context import current
from fsqueue.runner.attempt.nested import not_blocking_a_loop, start_helper
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fsqueue.results.pending_result import PendingResult
    from fsqueue.runner.attempt.context import Execution, WorkerContext
    from fsqueue.spool.disk.content import Content

    Publish = Callable[[], PendingResult]

R = TypeVar("R")

log: logging.Logger = logging.getLogger(__name__)

# States of a future with a result. Reading one needs no lock, which `Future.done` takes.
_OVER = frozenset({"CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED"})
# Seconds between a helper's checks whether one of the calls is pending (again).
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5)
_LAST_PAUSE = 1.0


class Backlog(Protocol):
    """Calls of which only some are in the spool; the others are published as those end."""

    @property
    def ahead(self) -> Iterable[PendingResult]:
        """The published calls that have not ended, oldest first."""

    def context_of_waiting_body(self) -> WorkerContext | None:
        """The worker of the body that the calling code belongs to; None if it is in no body."""

    def receive(
        self, future: CallFuture[Any], content: Content | None, failure: BaseException | None
    ) -> None:
        """Settle a future with the outcome of its call, or with the reason why there is none."""


class _Waiters(list[Any]):
    """The waiters that `concurrent.futures.wait` and `as_completed` put into a future."""

    __slots__ = ("future",)
    future: weakref.ref[CallFuture[Any]]

    def append(self, waiter: Any) -> None:
        """Add a waiter."""
        super().append(waiter)
        future = self.future()
        if future is not None:
            future.help_body()


class CallFuture(Future[R]):
    """The future of a call: a `concurrent.futures.Future` with an id.

    Args:
        invocation_id: the call's id, if it is already published.
        pending_result: the pending result of its file, if it is already published.
        member: its place in a batch.
        publish: publishes the call; None: it is already published, or cannot be.
        backlog: the calls that it may have to wait for, if it is published later.
    """

    def __init__(
        self,
        invocation_id: str = "",
        pending_result: PendingResult | None = None,
        member: int | None = None,
        *,
        publish: Publish | None = None,
        backlog: Backlog | None = None,
    ) -> None:
        super().__init__()
        self._waiters = waiters = _Waiters()
        waiters.future = weakref.ref(self)
        self._blocked: list[None] = []  # one entry for each thread
        self._asked = False
        # Held while the call is published or cancelled in the spool; never while callbacks run,
        # which may wait for any other future.
        self._moving = threading.RLock()
        self._cancels = False  # `cancel` is settling it in some thread, and runs the callbacks
        self._notified = False  # waiting threads have been told that it was cancelled
        # A body may wait in a thread that it has started, which does not inherit the context.
        self._context = None if current.get() is None else contextvars.copy_context()
        self._publish, self._backlog = publish, backlog
        self.pending_result: PendingResult | None = pending_result
        self.member: int | None = member
        self.invocation_id: str = invocation_id

    @property
    def id(self) -> str:
        """The call's id. With it, any process can ask for the result if the call is kept.

        Raises:
            ConfigError: the call is not in the spool yet, because of `max_workers`.
        """
        if not self.invocation_id:
            raise ConfigError(
                "this call has no id yet: it is published when one of the `max_workers` calls "
                "before it ends, or on shutdown(wait=False). Leave out max_workers."
            )
        return self.invocation_id

    # -- steps of the call ----------------------------------------------------------------

    def publish(self) -> bool:
        """Publish the call; False if it was already cancelled. An error fails the future."""
        try:
            with self._moving:
                if self._publish is None or self._state in _OVER:
                    return False
                publish, self._publish = self._publish, None
                made = publish() if self._context is None else self._context.run(publish)
                self.pending_result, self.invocation_id = made, made.id
                return True
        except BaseException as error:
            self.settle(error=error)
            if isinstance(error, Exception):
                return False
            raise

    def receive(self, content: Content | None, failure: BaseException | None) -> None:
        """Set the result from the outcome, or from the reason why there is none."""
        backlog, self._backlog = self._backlog, None
        if backlog is None:
            self.settle(*self.opened(content, failure))
        else:
            backlog.receive(self, content, failure)

    def opened(
        self, content: Content | None, failure: BaseException | None
    ) -> tuple[Any, BaseException | None]:
        """The value of an outcome, and the exception that `result` raises."""
        if content is None or self.pending_result is None:
            return None, failure
        try:
            return self.pending_result.open(content, self.member), None
        except BaseException as error:  # noqa: BLE001 - the call's own error, even SystemExit
            return None, error

    def settle(self, value: Any = None, error: BaseException | None = None) -> None:
        """Set the result, unless the future was cancelled."""
        if isinstance(error, CancelledError):
            with self._moving:
                if self._cancels:
                    return
            self._set_cancelled()
            return
        try:
            if error is None:
                self.set_result(value)
            else:
                self.set_exception(error)
        except InvalidStateError:
            return  # it was already cancelled or settled

    def _set_cancelled(self) -> bool:
        """Cancel the future, but not its call; False if it has a result."""
        try:
            return super().cancel()
        finally:  # even if a signal handler raises an exception
            with self._moving:
                if super().cancelled() and not self._notified:
                    self._notified = True
                    self.set_running_or_notify_cancel()  # wakes those who wait for it

    # -- concurrent.futures ---------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the call if no worker has claimed it: the rename of its file decides.

        The calls of a batch are cancelled together. If the shared directory fails, this logs the
        error and returns False, so that `shutdown` goes on to cancel the other futures.
        """
        try:
            with self._moving:
                if not (self._cancels or self._state in _OVER):
                    if self.pending_result is not None and not _cancelled(self.pending_result):
                        return False
                    self._cancels, self._publish = True, None
        finally:  # even if a signal handler raises an exception
            if self._cancels:
                self._set_cancelled()
        return super().cancelled()

    def running(self) -> bool:
        """Whether a worker is running the call, according to the shared directory."""
        if self._state in _OVER or self.pending_result is None:
            return False
        with contextlib.suppress(
            OSError, SpoolError, UnknownInvocationError
        ):  # collected at this moment
            return self.pending_result.state(self.member) is State.RUNNING
        return False

    def done(self) -> bool:
        """Whether the call has ended or was cancelled."""
        self._asked = True
        self.help_body()
        return self._state in _OVER

    def result(self, timeout: float | None = None) -> R:
        """The return value; see `concurrent.futures.Future.result`."""
        if self._state in _OVER:
            value = super().result()
        else:
            with self._waiting():
                value = super().result(timeout)
        if self._exception is not None:  # Python before 3.14 ignores an exception that is falsy
            raise self._exception
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the body raised; see `concurrent.futures.Future.exception`."""
        if self._state in _OVER:
            return super().exception()
        with self._waiting():
            return super().exception(timeout)

    def add_done_callback(self, fn: Callable[[Future[R]], object]) -> None:
        """See `concurrent.futures.Future.add_done_callback`."""
        super().add_done_callback(fn)
        self._asked = True
        self.help_body()

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        self._blocked.append(None)
        try:
            self.help_body()
            with not_blocking_a_loop():
                yield
        finally:
            self._blocked.pop()

    # -- for a body that waits ----------------------------------------------------------

    def help_body(self) -> None:
        """Let a helper run the call if the calling code belongs to a body."""
        if self._state in _OVER:
            return
        if self._context is None:
            self._help_body()
        else:
            self._context.copy().run(self._help_body)

    def _help_body(self) -> None:
        source = self.pending_result or self._backlog
        context = None if source is None else source.context_of_waiting_body()
        if context is not None:
            _Helper.of(context).add(self)

    def calls_to_run(self) -> Iterable[PendingResult]:
        """The calls that must end before this future has its result, or some of them."""
        backlog = self._backlog
        if self.pending_result is not None:
            return (self.pending_result,)
        return () if backlog is None else backlog.ahead

    @property
    def is_awaited(self) -> bool:
        """Whether something waits for this future, and it has no result yet."""
        waits = bool(self._blocked) or self._asked or bool(self._waiters)
        return waits and self._state not in _OVER


def _cancelled(pending_result: PendingResult) -> bool:
    """Cancel a call that no worker has claimed; False if it is not certain to be cancelled."""
    for is_last in (False, True):
        try:
            return pending_result.cancel(running=False)
        except (OSError, SpoolError) as error:
            # The call may be marked already, but without an outcome. The second try adds it.
            if is_last:
                log.warning("cannot tell whether %s is cancelled: %s", pending_result.id, error)
        except UnknownInvocationError:
            break  # it has ended, and its result is being collected
    return False


class _Helper:
    """Runs the calls that one body waits for, one at a time, in a thread beside it."""

    _by_body: ClassVar[weakref.WeakKeyDictionary[Any, _Helper]] = weakref.WeakKeyDictionary()
    _making: ClassVar = threading.Lock()

    def __init__(self, context: WorkerContext, body: Execution | None) -> None:
        self._context = context
        self._body = None if body is None else weakref.ref(body)
        # Not held while a future's state is read: a thread in `add` may hold the future's lock.
        self._mutex = threading.Lock()
        self._futures: dict[CallFuture[Any], object] = {}
        self._changed = threading.Event()
        self._runs = False

    @classmethod
    def of(cls, context: WorkerContext) -> _Helper:
        """The helper of the body whose code this is, or of the worker if that is not known."""
        body = current.get()
        with cls._making:
            return cls._by_body.setdefault(body or context, cls(context, body))

    def add(self, future: CallFuture[Any]) -> None:
        """Help with another future, or with the same one again."""
        with self._mutex:
            if self._is_over:
                return
            self._futures[future] = object()
            if not self._runs:
                start_helper(self._run)
                self._runs = True
        self._changed.set()

    @property
    def _is_over(self) -> bool:
        """Whether the body has ended, and so holds no slot."""
        body = None if self._body is None else self._body()
        return body is not None and not body.is_running

    def _run(self) -> None:
        pauses = iter(_PAUSES)
        while (futures := self._awaited()) is not None:
            ran = False
            for call in _calls(futures):
                ran = call.run_here(self._context) or ran
            if ran or self._changed.wait(next(pauses, _LAST_PAUSE)):
                pauses = iter(_PAUSES)

    def _awaited(self) -> list[CallFuture[Any]] | None:
        """The futures that are still awaited; None if there are none and this thread must end.

        Empty if futures were added during this call: whoever added them relies on this thread.
        """
        self._changed.clear()
        with self._mutex:
            known = dict(self._futures)
        over = self._is_over
        found = [] if over else [each for each in known if each.is_awaited]
        for each in found:
            del known[each]
        with self._mutex:
            for each, added in known.items():
                if self._futures.get(each) is added:
                    del self._futures[each]
            self._runs = bool(self._futures) and not over
            return found if self._runs else None


def _calls(futures: Iterable[CallFuture[Any]]) -> Iterator[PendingResult]:
    """The calls of futures, each once."""
    found: dict[PendingResult, None] = {}
    for future in futures:
        found.update(dict.fromkeys(future.calls_to_run()))
    return iter(found)


def future_of(invocation_id: str, pending_result: PendingResult, member: int | None) -> Future[Any]:
    """The future of a published call.

    Raises:
        RuntimeError: this process cannot start another thread.
    """
    future: CallFuture[Any] = CallFuture(invocation_id, pending_result, member)
    shared_resolver.add(pending_result, future.receive)
    return future
