"""Publishes the calls of an executor, and resolves their futures in one thread.

The thread holds no reference to the executor, so that an executor nobody uses any more ends like
one that was shut down. It lives from the first call until the executor has ended and all its calls
have.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any, cast

from fsqueue.errors import SerializationError, SpoolError
from fsqueue.executor.errors import InitializerError
from fsqueue.executor.helping import Helper
from fsqueue.spool.caller.arrivals import Arrivals

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.executor.application import ByValue
    from fsqueue.executor.future import CallFuture
    from fsqueue.launch.handles import LocalWorkers
    from fsqueue.results.pending_result import PendingResult
    from fsqueue.spool.caller.arrivals import Arrival
    from fsqueue.spool.disk.content import Content

log: logging.Logger = logging.getLogger(__name__)

_ENDED = "cannot schedule new futures after shutdown"
_EXITING = "cannot schedule new futures after interpreter shutdown"


class Dispatcher:
    """The calls of one executor.

    Args:
        app: the built-in application.
        limit: the largest number of calls in the spool at a time; None: no limit.
        detach: calls outlive this process, so its end does not wait for them.

    Attributes:
        workers: local workers that end with the executor; None if there are none.
        error: why no call can run any more; None if they can.
    """

    def __init__(self, app: ByValue, limit: int | None, *, detach: bool) -> None:
        self._app, self._limit = app, limit
        self.detach: bool = detach
        self.workers: LocalWorkers | None = None
        self.on_end: list[Callable[[], object]] = []
        self.begin_anew()
        _dispatchers.add(self)

    def begin_anew(self) -> None:
        """Forget all calls. Also in a forked child, where the calls are its parent's."""
        # A finalizer may close this while its thread holds the lock.
        self._mutex = threading.RLock()
        self._published = threading.Condition(self._mutex)
        self._arrivals = Arrivals(lambda: self._app.waiter)
        self._queue: deque[CallFuture] = deque()
        self._calls: dict[str, CallFuture] = {}
        self._publishing = 0
        self._thread: threading.Thread | None = None
        self._closed = ""
        self.error: BaseException | None = None
        self.helper: Helper = Helper(self)

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

    def submit(self, future: CallFuture, *, late: bool = False) -> None:
        """Publish a call, or queue it until there is room for it.

        Args:
            future: the call.
            late: it belongs to calls that were made before a shutdown.

        Raises:
            RuntimeError: the executor accepts no calls; see `check_open`.
        """
        with self._mutex:
            if not late:
                self.check_open()
            self._start()
            room = self._has_room and not self._queue
            if not room:
                self._queue.append(future)
                return
            self._publishing += 1
        self._publish(future)

    @property
    def _has_room(self) -> bool:
        return self._limit is None or len(self._calls) + self._publishing < self._limit

    def _publish(self, future: CallFuture) -> None:
        """Publish a call that has been given room."""
        published = False
        try:
            published = future.publish()
        finally:
            with self._mutex:
                self._publishing -= 1
                self._published.notify_all()
                if published:
                    self._calls[_id(future)] = future
            if not published:
                self._arrivals.ring()  # its room is free
        if published:
            try:
                self._arrivals.add(_id(future))
            except (RuntimeError, SpoolError, OSError) as error:
                self._drop(future, error)

    def _drop(self, future: CallFuture, error: BaseException) -> None:
        with self._mutex:
            self._calls.pop(_id(future), None)
        future.settle(error=error)

    @property
    def is_idle(self) -> bool:
        """Whether all calls have ended."""
        with self._mutex:
            return not self._calls and not self._queue and not self._publishing

    @property
    def outstanding(self) -> list[CallFuture]:
        """The calls that are in the spool, oldest first."""
        with self._mutex:
            return list(self._calls.values())

    # -- the thread ---------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="fsqueue-executor", daemon=self.detach
            )
            self._thread.start()

    def _run(self) -> None:
        try:
            while self._step():
                self._arrivals.sleep()
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            self._finish()

    def _step(self) -> bool:
        """Resolve what has arrived, and publish what has room; False when all is done."""
        for arrival in self._arrivals.take():
            self._resolve(arrival)
        self._publish_queued()
        return not (self.is_idle and (self._closed or _exiting))

    def _publish_queued(self) -> None:
        while (future := self._next_queued()) is not None:
            self._publish(future)
            del future

    def _next_queued(self) -> CallFuture | None:
        with self._mutex:
            detached = self.detach and (self._closed or _exiting)
            if not self._queue or not (self._has_room or detached):
                return None
            self._publishing += 1
            return self._queue.popleft()

    def _resolve(self, arrival: Arrival) -> None:
        invocation_id, error = arrival
        future = self._calls.get(invocation_id)
        if future is None or future.invocation is None:
            return
        value, failure = None, cast("BaseException | None", error)
        if error is None:
            content = self._collect(future.invocation.pending_result)
            if content is None:
                return
            value, failure = _opened(future.invocation.pending_result, content)
        with self._mutex:
            self._calls.pop(invocation_id, None)
        if isinstance(failure, InitializerError):
            self.fail(failure)
        future.settle(value, failure)

    def _collect(self, pending_result: PendingResult) -> Content | None:
        """The outcome that has arrived; None, and another wait, if it cannot be read now."""
        try:
            content = pending_result.read()
        except OSError as error:
            log.info("cannot read the result of %s, trying again: %s", pending_result.id, error)
            content = None
        if content is None:
            self._app.waiter.forget(pending_result.id)
            self._arrivals.add(pending_result.id)
        return content

    def fail(self, error: BaseException) -> None:
        """Fail all calls, because none can run any more."""
        with self._mutex:
            if self.error is not None:
                return
            self.error = error
            left = [*self._calls.values(), *self._queue]
            self._calls.clear()
            self._queue.clear()
        if isinstance(error, InitializerError):  # as the standard pools do
            logging.getLogger("concurrent.futures").critical("%s", error, exc_info=error)
        for future in left:
            if future.invocation is not None:
                self._arrivals.discard(future.invocation.id)
                try:
                    future.invocation.abandon()
                except (OSError, SpoolError) as failure:
                    log.info("%s cannot be withdrawn: %s", future.invocation.id, failure)
            future.settle(error=error)

    def _finish(self) -> None:
        self.helper.end()
        workers, self.workers = self.workers, None
        if workers is not None:
            workers.close()
        for step in self.on_end:
            step()
        self.on_end.clear()

    # -- the end --------------------------------------------------------------------------

    def close(self, reason: str = _ENDED) -> None:
        """Accept no more calls. The thread ends when those that it has have ended."""
        with self._mutex:
            self._closed = self._closed or reason
            if self._thread is None and self.workers is not None and not _exiting:
                self._start()  # local workers take a moment to leave
            running = self._thread is not None
        if self.detach and threading.current_thread() is not self._thread:
            self._publish_queued()  # the caller may want the ids
            with self._published:
                self._published.wait_for(lambda: not self._publishing)
        if running:
            self._arrivals.ring()
        else:
            self._finish()

    def cancel_all(self) -> None:
        """Cancel the calls that no worker has claimed."""
        with self._mutex:
            futures = [*reversed(self._queue), *reversed(self._calls.values())]
        for future in futures:
            future.cancel()
        self._arrivals.ring()

    def join(self) -> None:
        """Wait until the thread has ended."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()


def _opened(pending_result: PendingResult, content: Content) -> tuple[Any, BaseException | None]:
    try:
        return pending_result.open(content, None), None
    except SerializationError as error:
        # A result whose code exits when it is pickled: the standard pools raise what it raised.
        return None, error.__cause__ if isinstance(error.__cause__, SystemExit) else error
    except BaseException as error:  # noqa: BLE001 - it is the call's, also when it is SystemExit
        return None, error


def _id(future: CallFuture) -> str:
    return future.id


_dispatchers: weakref.WeakSet[Dispatcher] = weakref.WeakSet()
_exiting = False


def _end_at_exit() -> None:
    """Let the threads end with their calls. Python joins them after this."""
    global _exiting  # noqa: PLW0603 - of the process
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
