"""A thread that sleeps until it is woken: see `fsqueue.spool.wakeups.watching`."""

from __future__ import annotations

import contextlib
import threading
import time


class Sleeper:
    """A thread that sleeps, or is about to.

    Attributes:
        rung: whether it was woken; the sleeping thread resets it.
        blocked: whether it leads, so that only the descriptors end its sleep.
        interrupted: an earlier sleep of the same thread, which led and continues after this one.
    """

    __slots__ = ("blocked", "interrupted", "lock", "rung", "thread", "until")

    def __init__(self) -> None:
        self.rung: bool = False
        self.blocked: bool = False
        self.until: float = 0.0
        self.interrupted: Sleeper | None = None
        self.thread: int = threading.get_ident()
        self.lock: threading.Lock = threading.Lock()
        self.lock.acquire()

    def nudge(self) -> None:
        """Make it check its state again, if it sleeps on its lock."""
        with contextlib.suppress(RuntimeError):  # it was already nudged
            self.lock.release()

    def doze(self, seconds: float) -> None:
        """Sleep on its lock until it is woken, or for `seconds`, ignoring file events."""
        until = time.monotonic() + seconds
        while not self.rung and (left := until - time.monotonic()) > 0:
            self.lock.acquire(timeout=left)
