"""The futures of an executor's calls."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from fsqueue.errors import ConfigError
from fsqueue.runner.attempt.context import current

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from fsqueue.invocation import Invocation

    Publish = Callable[[], Invocation[Any]]


class CallFuture(Future[Any]):
    """A call of an executor: a `concurrent.futures.Future` with an id.

    It stays pending until the call has ended, since only the worker knows that it has begun.

    Args:
        publish: makes the call pending in the spool; None: it cannot be made.
        context: the context of the body that makes the call; None outside of bodies.
        on_interest: called when a thread waits for the call, or asks whether it has ended.
    """

    def __init__(
        self,
        publish: Publish | None,
        context: Context | None = None,
        on_interest: Callable[[], object] | None = None,
    ) -> None:
        super().__init__()
        self._publish = publish
        self._context, self._on_interest = context, on_interest
        self._invocation: Invocation[Any] | None = None
        # Held while the call moves: published, cancelled or settled.
        self._moving = threading.RLock()
        if on_interest is not None:
            self._waiters = _Waiters(on_interest)  # `concurrent.futures.wait` adds itself

    @property
    def id(self) -> str:
        """The call's id, by which any process can ask for its result with ``detach=True``.

        Raises:
            ConfigError: the call is not in the spool yet, because `max_workers` calls are.
        """
        if self._invocation is None:
            raise ConfigError(
                "this call has no id yet: it is published when one of the `max_workers` calls "
                "before it ends, or on shutdown(wait=False). Leave out max_workers."
            )
        return self._invocation.id

    @property
    def invocation(self) -> Invocation[Any] | None:
        """The published call; None before that."""
        return self._invocation

    # -- steps of the dispatcher ----------------------------------------------------------

    def publish(self) -> bool:
        """Make the call pending; False if it was cancelled before."""
        with self._moving:
            if self._publish is None or super().done():
                return False
            publish, self._publish = self._publish, None
            try:
                self._invocation = (
                    publish() if self._context is None else self._context.run(publish)
                )
            except Exception as error:  # noqa: BLE001 - it is the future's
                self.settle(error=error)
                return False
            except BaseException as error:
                self.settle(error=error)
                raise
            return True

    def settle(self, value: Any = None, error: BaseException | None = None) -> None:
        """Set the result, unless the future was cancelled."""
        with self._moving:
            if super().done() or not self.set_running_or_notify_cancel():
                return
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)

    def run_here(self) -> bool:
        """Run the call in this thread, in the context of its body; whether that was possible."""
        invocation, context = self._invocation, self._context
        if invocation is None or context is None or super().done():
            return False
        execution = context.get(current)
        if execution is not None and not execution.is_running:
            return False  # it holds no slot any more
        return context.run(_run_here, invocation)

    # -- concurrent.futures ---------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the call, if no worker has claimed it: the rename of its file decides."""
        with self._moving:
            if super().done():
                return super().cancel()
            if self._invocation is not None:
                try:
                    if not self._invocation.pending_result.cancel_pending():
                        return False
                except OSError:
                    return False
            self._publish = None
            super().cancel()
            self.set_running_or_notify_cancel()  # wakes those who wait for it
            return True

    def result(self, timeout: float | None = None) -> Any:
        """The value. Raises what the body raised."""
        self._interest()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the body raised; None if it returned."""
        self._interest()
        return super().exception(timeout)

    def done(self) -> bool:
        """Whether the call has ended or was cancelled."""
        self._interest()
        return super().done()

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call a function with this future when the call has ended."""
        self._interest()
        super().add_done_callback(fn)

    def _interest(self) -> None:
        if self._on_interest is not None:
            self._on_interest()


def _run_here(invocation: Invocation[Any]) -> bool:
    context = invocation.pending_result.context_of_waiting_body()
    return context is not None and invocation.pending_result.run_here(context)


class _Waiters(list[Any]):
    """Those who wait for a future; each shows interest in it."""

    def __init__(self, on_interest: Callable[[], object]) -> None:
        super().__init__()
        self._on_interest = on_interest

    def append(self, waiter: Any) -> None:
        """Add one."""
        super().append(waiter)
        self._on_interest()
