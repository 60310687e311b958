"""Futures of calls, as the standard library's functions and other libraries await them.

A body that blocks in `Future.result` or in `concurrent.futures.wait` holds its slot, so it must run
the awaited calls itself, as with `Invocation.get`. The standard library has no hook for that. So a
future notes who waits for it, and while a body does, a helper thread of this body runs the calls.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from fsqueue.errors import CancelledError
from fsqueue.results.resolver import shared_resolver
from fsqueue.runner.attempt.nested import not_blocking_a_loop, start_helper
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fsqueue.results.pending_result import PendingResult
    from fsqueue.results.resolver import Resolver
    from fsqueue.runner.attempt.context import Execution, WorkerContext
    from fsqueue.spool.disk.content import Content

R = TypeVar("R")

# Pauses in seconds between a helper's checks whether one of the calls is pending (again).
_PAUSES = (0.05, 0.1, 0.2, 0.5)
_LAST_PAUSE = 1.0


class _Waiters(list[Any]):
    """The waiters that `concurrent.futures.wait` and `as_completed` put into a future."""

    def __init__(self, future: CallFuture[Any]) -> None:
        super().__init__()
        self._future = weakref.ref(future)

    def append(self, waiter: Any) -> None:
        """Add a waiter."""
        super().append(waiter)
        future = self._future()
        if future is not None:
            future.help_body()


class CallFuture(Future[R]):
    """The future of a call.

    Args:
        pending_result: the pending result of its file, if it is published already.
        member: its place in a batch.
    """

    def __init__(
        self, pending_result: PendingResult | None = None, member: int | None = None
    ) -> None:
        super().__init__()
        self._waiters = _Waiters(self)
        self._blocked: deque[None] = deque()  # one entry for each thread
        self._called_back = False
        self.pending_result = pending_result
        self.member = member

    def resolve_by(self, resolver: Resolver) -> None:
        """Let a resolver set the result.

        Raises:
            RuntimeError: this process may not have another thread.
        """
        if self.pending_result is not None:
            resolver.add(self.pending_result, self.settle)

    def settle(self, content: Content | None, failure: BaseException | None) -> None:
        """Set the result from the outcome, or from the reason why it cannot be read."""
        value: Any = None
        if content is not None and self.pending_result is not None:
            try:
                value = self.pending_result.open(content, self.member)
            except BaseException as error:  # noqa: BLE001 - raised by `result`
                failure = error
        if isinstance(failure, CancelledError) and not super().running():
            super().cancel()
        if not super().running() and not self.set_running_or_notify_cancel():
            return
        if failure is None:
            self.set_result(value)
        else:
            self.set_exception(failure)

    def cancel(self) -> bool:
        """Cancel the call unless a worker has claimed it. The calls of a batch end together.

        Raises:
            OSError: the shared directory did not answer.
        """
        if self.done():
            return self.cancelled()
        if self.pending_result is not None and not self.pending_result.cancel(running=False):
            return False
        return super().cancel()

    def running(self) -> bool:
        """Whether a worker runs the call now."""
        if self.done() or self.pending_result is None:
            return False
        return self.pending_result.state(self.member) is State.RUNNING

    # -- waiting ------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> R:
        """The return value; see `concurrent.futures.Future.result`."""
        with self._waiting():
            return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the body raised; see `concurrent.futures.Future.exception`."""
        with self._waiting():
            return super().exception(timeout)

    def add_done_callback(self, fn: Callable[[Future[R]], object]) -> None:
        """See `concurrent.futures.Future.add_done_callback`."""
        super().add_done_callback(fn)
        self._called_back = True
        self.help_body()

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        if self.done():
            yield
            return
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
        for pending_result in itertools.islice(self.calls_to_run(), 1):
            context = pending_result.context_of_waiting_body()
            if context is not None and not self.done():
                _Helper.of(context).add(self)

    def calls_to_run(self) -> Iterable[PendingResult]:
        """The calls that must end before this future has its result."""
        return () if self.pending_result is None else (self.pending_result,)

    @property
    def is_awaited(self) -> bool:
        """Whether a thread waits for it, and it has no result yet."""
        waits = bool(self._blocked) or self._called_back or bool(self._waiters)
        return waits and not self.done()


class _Helper:
    """Runs the calls that one body waits for, one at a time, in a thread beside it."""

    _by_body: ClassVar[weakref.WeakKeyDictionary[Any, _Helper]] = weakref.WeakKeyDictionary()
    _making: ClassVar = threading.Lock()

    def __init__(self, context: WorkerContext, body: Execution | None) -> None:
        self._context = context
        self._body = None if body is None else weakref.ref(body)
        # Not held while a future is asked: a thread in `add` may hold the lock of a future.
        self._mutex = threading.Lock()
        self._futures: dict[CallFuture[Any], object] = {}
        self._changed = threading.Event()
        self._runs = False

    @classmethod
    def of(cls, context: WorkerContext) -> _Helper:
        """The helper of the body whose code this is, or of the worker if that is not known."""
        from fsqueue.runner.attempt.context import current

        body = current.get()
        with cls._making:
            return cls._by_body.setdefault(body or context, cls(context, body))

    def add(self, future: CallFuture[Any]) -> None:
        """Help with one more future, or again with the same."""
        with self._mutex:
            self._futures[future] = object()
            if not self._runs:
                start_helper(self._run)
                self._runs = True
        self._changed.set()

    def _run(self) -> None:
        pauses = iter(_PAUSES)
        while futures := self._awaited():
            ran = False
            for call in _calls(futures):
                ran = call.run_here(self._context) or ran
            if ran or self._changed.wait(next(pauses, _LAST_PAUSE)):
                pauses = iter(_PAUSES)

    def _awaited(self) -> list[CallFuture[Any]]:
        """The futures that are still awaited. If there are none, this thread has to end."""
        self._changed.clear()
        with self._mutex:
            known = dict(self._futures)
        body = None if self._body is None else self._body()
        over = body is not None and not body.is_running
        found = [] if over else [each for each in known if each.is_awaited]
        for each in found:
            del known[each]
        with self._mutex:
            for each, added in known.items():
                if self._futures.get(each) is added:
                    del self._futures[each]
            self._runs = bool(self._futures) and not over
            return found if self._runs else []


def _calls(futures: Iterable[CallFuture[Any]]) -> Iterator[PendingResult]:
    """The calls of futures, each once."""
    found: dict[PendingResult, None] = {}
    for future in futures:
        found.update(dict.fromkeys(future.calls_to_run()))
    return iter(found)


def future_of(pending_result: PendingResult, member: int | None) -> Future[Any]:
    """The future of a published call.

    Raises:
        RuntimeError: this process may not have another thread.
    """
    future = CallFuture[Any](pending_result, member)
    future.resolve_by(shared_resolver)
    return future
