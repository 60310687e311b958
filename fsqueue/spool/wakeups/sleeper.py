"""A thread that sleeps until it is woken: see `fsqueue.spool.wakeups.watching`."""

from __future__ import annotations

import contextlib
import threading
import time


class Sleeper:
    """A thread that sleeps, or is about to.

    Attributes:
        rung: it was woken; the sleeping thread resets it.
        blocked: it leads, and only the descriptors end its sleep.
        interrupted: the sleep of the same thread that led before, and goes on after this one.
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
        """Let it check its state again, if it sleeps on its lock."""
        with contextlib.suppress(RuntimeError):  # it was nudged already
            self.lock.release()

    def doze(self, seconds: float) -> None:
        """Sleep on its lock until it is woken, or for `seconds`, whatever events there are."""
        until = time.monotonic() + seconds
        while not self.rung and (left := until - time.monotonic()) > 0:
            self.lock.acquire(timeout=left)
