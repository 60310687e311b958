"""Logs which coroutine blocks the event loop."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

log: logging.Logger = logging.getLogger(__name__)

_PAUSE = 0.25
_BLOCKED = 1.0
_FRAMES = 12


class LoopWatch:
    """A thread that checks, while coroutines run, that the event loop responds.

    Args:
        whose: returns the label of the call that a task belongs to.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        whose: Callable[[asyncio.Task[Any] | None], str],
    ) -> None:
        self._loop, self._whose = loop, whose
        self._active = threading.Event()
        # Held once the thread has been started.
        self._not_started = threading.Lock()

    def wake(self) -> None:
        """Start watching: a coroutine is about to run."""
        self._active.set()
        if self._not_started.acquire(blocking=False):
            try:
                threading.Thread(target=self._run, name="fsqueue-loop-watch", daemon=True).start()
            except RuntimeError as error:  # the limit of processes is reached
                self._not_started.release()  # the next coroutine tries again
                log.debug("the event loop is not watched, as no thread can be started: %s", error)

    def rest(self) -> None:
        """Stop watching: no coroutine runs."""
        self._active.clear()

    def _run(self) -> None:
        pause = threading.Event()
        while not self._loop.is_closed():
            self._active.wait()
            answered = threading.Event()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:
                return  # closed
            asked = time.monotonic()
            if not answered.wait(_BLOCKED):
                self._tell(answered, asked)
            pause.wait(_PAUSE)

    def _tell(self, answered: threading.Event, asked: float) -> None:
        """Log what blocks the loop, and again each time the duration has doubled."""
        patience, culprit = _BLOCKED, ""
        while not answered.is_set() and not self._loop.is_closed():
            culprit = self._describe(time.monotonic() - asked)
            patience *= 2
            answered.wait(patience)
        if culprit:
            took = time.monotonic() - asked
            log.warning("%s has let the event loop go on after %.1f s", culprit, took)

    def _describe(self, seconds: float) -> str:
        culprit = self._whose(asyncio.current_task(self._loop))
        frame = sys._current_frames().get(getattr(self._loop, "_thread_id", None) or 0)  # noqa: SLF001
        stack = "".join(traceback.format_stack(frame)[-_FRAMES:]) if frame is not None else ""
        log.warning(
            "%s blocks the event loop, for %.1f s so far: the worker's other coroutines wait. "
            "Await the slow operation, or call it with asyncio.to_thread. Current position:\n%s",
            culprit,
            seconds,
            stack,
        )
        return culprit
