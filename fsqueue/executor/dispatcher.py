"""Publishes the calls of an executor, and settles their futures.

A resolver's thread waits for the outcomes. Neither the thread nor the futures refer to the
executor, so an executor that is no longer referenced ends as if it had been shut down. The thread
starts with the first call, and ends after the shutdown when all calls have ended.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from concurrent import futures
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any

from fsqueue.errors import SerializationError
from fsqueue.executor.errors import InitializerError, as_of_pool
from fsqueue.results.made_calls import abandon_all
from fsqueue.results.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsqueue.executor.application import ByValue
    from fsqueue.launch.handles import LocalWorkers
    from fsqueue.results.futures import CallFuture
    from fsqueue.results.pending_result import PendingResult
    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.spool.disk.content import Content

_ENDED = "cannot schedule new futures after shutdown"
_EXITING = "cannot schedule new futures after interpreter shutdown"
# With more unfinished calls than this, a new one does not wake workers on its own.
_FEW = 16
# Seconds for which the wake-up is then delayed, to announce several calls at once.
_TOGETHER = 0.005


class Dispatcher:
    """The calls of one executor.

    Args:
        app: the built-in application.
        limit: the largest number of calls in the spool at a time; None: no limit.
        detach: calls outlive this process, so its end does not wait for them.

    Attributes:
        workers: local workers that end with the executor; None if there are none.
        error: why no more calls can run; None while they can.
    """

    def __init__(self, app: ByValue, limit: int | None, *, detach: bool) -> None:
        self._app, self._limit = app, limit
        self.detach: bool = detach
        self.workers: LocalWorkers | None = None
        self.on_end: list[Callable[[], object]] = []
        self.begin_anew()
        _dispatchers.add(self)

    def begin_anew(self) -> None:
        """Forget all calls. Also called in a forked child, whose parent owns the calls."""
        # Reentrant: a finalizer may close this in a thread that holds the lock.
        self._mutex = threading.RLock()
        self._published = threading.Condition(self._mutex)
        self._resolver = Resolver(self._finish, daemon=self.detach)
        self._queue: deque[CallFuture[Any]] = deque()
        self._calls: dict[CallFuture[Any], PendingResult] = {}
        self._publishing = 0
        self._rung = 0.0  # when workers were woken last
        self._closed = ""
        self.error: BaseException | None = None

    # -- calls --------------------------------------------------------------------------

    def check_open(self) -> None:
        """Check that calls are accepted.

        Raises:
            BrokenExecutor: the initializer has failed.
            RuntimeError: the executor was shut down.
        """
        if self.error is not None:
            kind = InitializerError if isinstance(self.error, InitializerError) else BrokenExecutor
            raise kind(str(self.error)) from self.error
        if _exiting or self._closed:
            raise RuntimeError(_EXITING if _exiting else self._closed)

    def submit(self, future: CallFuture[Any], *, late: bool = False) -> None:
        """Publish a call, or queue it until there is room for it.

        Args:
            late: accept it after a shutdown too, because its `map` was called before.

        Raises:
            RuntimeError: the executor accepts no calls; see `check_open`.
        """
        with self._mutex:
            if not late and (self._closed or _exiting or self.error is not None):
                self.check_open()
            if self._resolver.thread is None:
                self._resolver.start()
            if self._limit is not None and (self._queue or not self._has_room):
                self._queue.append(future)
                return
            self._publishing += 1
        published = False
        try:
            published = self._publish(future)
        finally:
            if not published:
                self._advance()  # its room is free

    @property
    def _has_room(self) -> bool:
        return self._limit is None or len(self._calls) + self._publishing < self._limit

    def _publish(self, future: CallFuture[Any]) -> bool:
        """Publish a call that there is room for, and return whether it is in the spool.

        When an initializer fails, `fail` settles the calls that are registered by then. This
        method settles a call that is not yet registered.
        """
        made = False
        try:
            made = self.error is None and future.publish()
        finally:
            with self._mutex:
                self._publishing -= 1
                if self._closed:
                    self._published.notify_all()
                error, pending_result = self.error, future.pending_result
                if made and error is None and pending_result is not None:
                    self._calls[future] = pending_result
        if error is not None:
            if pending_result is not None:
                abandon_all([pending_result])
            future.settle(error=error)
            return False
        if pending_result is None:
            return False
        self._resolver.add(pending_result, future.receive, pending_result.waiter)
        if self.error is not None:  # `fail` may have discarded it before it was added
            self._resolver.discard(pending_result)
        self._announce()
        return True

    def _announce(self) -> None:
        """Wake idle workers: for each call while there are few, or for several at once.

        A worker that is woken for every one of many calls claims each before the next is published.
        Its processes then have to ask for each call, instead of claiming the following ones
        themselves.

        If this process dies before the wake-up, workers find the calls by polling.
        """
        due = self._rung + _TOGETHER
        if len(self._calls) <= _FEW or due <= time.monotonic():
            self._ring()
        else:
            self._resolver.call_at(due, self._ring)

    def _ring(self) -> None:
        self._rung = time.monotonic()
        self._app.run.ring()

    @property
    def is_idle(self) -> bool:
        """Whether all calls have ended."""
        with self._mutex:
            return not self._calls and not self._queue and not self._publishing

    @property
    def ahead(self) -> Sequence[PendingResult]:
        """The calls that are in the spool, oldest first."""
        with self._mutex:
            return list(self._calls.values())

    def context_of_waiting_body(self) -> WorkerContext | None:
        """The worker of the body that the calling code belongs to; None if it is in no body."""
        return self._app.context_of_waiting_body()

    # -- steps after an end -----------------------------------------------------------------

    def receive(
        self, future: CallFuture[Any], content: Content | None, failure: BaseException | None
    ) -> None:
        """Settle a future, in the resolver's thread, and publish the calls that now have room."""
        value, failure = future.opened(content, failure)
        if failure is not None:
            failure = as_of_pool(failure)
            cause = failure.__cause__
            if isinstance(failure, SerializationError) and isinstance(cause, SystemExit):
                # Pickling the result raised SystemExit: the standard pools pass it on, too.
                failure = cause
        with self._mutex:
            self._calls.pop(future, None)
        try:
            if isinstance(failure, InitializerError):
                self.fail(failure)
            future.settle(value, failure)
        finally:
            if self._queue or self._closed:
                self._advance()

    def _advance(self) -> None:
        """Publish queued calls while there is room; end if shut down and all calls have ended."""
        while (future := self._next_queued()) is not None:
            self._publish(future)
            del future
        with self._mutex:
            over = self._closed and self.is_idle
        if over:
            self._resolver.close()

    def _next_queued(self) -> CallFuture[Any] | None:
        with self._mutex:
            detached = self.detach and self._closed
            if not self._queue or not (self._has_room or detached):
                return None
            self._publishing += 1
            return self._queue.popleft()

    def fail(self, error: BaseException) -> None:
        """Fail all calls, because they can no longer run."""
        with self._mutex:
            if self.error is not None:
                return
            self.error = error
            left = [*self._calls, *self._queue]
            self._calls.clear()
            self._queue.clear()
        if isinstance(error, InitializerError):  # as the standard pools do
            logging.getLogger("concurrent.futures").critical("%s", error, exc_info=error)
        for future in left:
            if future.pending_result is not None:
                self._resolver.discard(future.pending_result)
                abandon_all([future.pending_result])
            future.settle(error=error)

    def _finish(self) -> None:
        workers, self.workers = self.workers, None
        if workers is not None:
            workers.close()
        for step in self.on_end:
            step()
        self.on_end.clear()

    # -- the end --------------------------------------------------------------------------

    def close(self, reason: str = _ENDED) -> None:
        """Stop accepting calls. The resolver's thread ends when the accepted ones have."""
        with self._mutex:
            self._closed = self._closed or reason
            if self.workers is not None and not _exiting:
                self._resolver.start()  # local workers take a moment to leave
        self._advance()  # the caller may want the ids of detached calls
        if self.detach:
            with self._published:
                self._published.wait_for(lambda: not self._publishing)
            self._resolver.hurry()  # its thread may end with the process at any time

    def cancel_all(self) -> None:
        """Cancel the calls that no worker has claimed."""
        with self._mutex:
            left = [*reversed(self._queue), *reversed(self._calls)]
        for future in left:
            future.cancel()
        self._advance()

    def join(self) -> None:
        """Wait until all calls have ended, and local workers have left."""
        while not self.is_idle and self.context_of_waiting_body() is not None:
            with self._mutex:
                left = [*self._calls, *self._queue]
            futures.wait(left)  # this body runs those that no worker has claimed
        self._resolver.join()


_dispatchers: weakref.WeakSet[Dispatcher] = weakref.WeakSet()
_exiting = False


def _end_at_exit() -> None:
    """Close all executors. Python then joins their threads, which end with the calls."""
    global _exiting  # noqa: PLW0603 - one for the process
    _exiting = True
    for dispatcher in list(_dispatchers):
        dispatcher.close(_EXITING)


def _begin_anew_in_child() -> None:
    for dispatcher in list(_dispatchers):
        dispatcher.workers = None
        dispatcher.on_end.clear()
        dispatcher.begin_anew()


# As the pools of the standard library do: earlier than `atexit`, before threads are joined.
threading._register_atexit(_end_at_exit)  # type: ignore[attr-defined]  # noqa: SLF001
os.register_at_fork(after_in_child=_begin_anew_in_child)
