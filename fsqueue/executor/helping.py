"""Runs the calls of an executor that a body has made and waits for.

A body holds a slot while it waits. If all slots waited for calls that need a slot, nothing would go
on (P9). `Invocation.get` runs the awaited call in the thread that waits. A future can be awaited in
ways that cannot be caught: `concurrent.futures.wait`, an event loop, a condition that a callback
notifies. So once a thread has shown interest in any future of the executor, another thread runs
those of its calls that no worker has claimed, one after another, as calls of the body.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.executor.future import CallFuture

# Pauses in seconds between checks whether a call has become pending again.
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5)
_LAST_PAUSE = 1.0


class Outstanding(Protocol):
    """The calls of an executor that have not ended."""

    @property
    def is_idle(self) -> bool:
        """Whether all calls have ended."""

    @property
    def outstanding(self) -> Sequence[CallFuture]:
        """The calls that are in the spool, oldest first."""


class Helper:
    """The thread that runs calls of bodies. There is none outside of bodies.

    Args:
        dispatcher: the calls.
    """

    def __init__(self, dispatcher: Outstanding) -> None:
        self._dispatcher = dispatcher
        self._mutex = threading.RLock()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Run the calls that are pending, because a thread of the body waits."""
        if self._dispatcher.is_idle:
            return
        with self._mutex:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="fsqueue-executor-helper", daemon=True
                )
                self._thread.start()

    def end(self) -> None:
        """Wait until the thread has ended, after the last call has."""
        self._woken.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        pauses = itertools.chain(_PAUSES, itertools.repeat(_LAST_PAUSE))
        while not self._is_over():
            if any(future.run_here() for future in self._dispatcher.outstanding):
                pauses = itertools.chain(_PAUSES, itertools.repeat(_LAST_PAUSE))
            else:
                self._woken.wait(next(pauses))
                self._woken.clear()

    def _is_over(self) -> bool:
        with self._mutex:
            if self._dispatcher.is_idle:
                self._thread = None
                return True
            return False
