"""Lingering: a thread that has finished its call waits a moment for the next one itself."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from fsqueue.runner.slots.self_claiming import QUICK
from fsqueue.spool.wakeups.watching import Alarm

if TYPE_CHECKING:
    from fsqueue.runner.loop.bells import WorkerBells
    from fsqueue.runner.loop.claiming import Claiming
    from fsqueue.runner.loop.resting import Resting
    from fsqueue.runner.loop.thread_pacing import ThreadPacer
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.history.journal import Journal


class Lingering:
    """The place of the one thread that lingers, while no other thread has a call.

    While a caller makes one call after another, the thread that finished a call hears of the next
    one directly. If the claim loop heard of it first, two threads would have to wake up in turn.
    Meanwhile the claim loop ignores file events. It checks every `QUICK` seconds, and listens again
    when the thread has a call that takes longer.

    Args:
        bells: wake the claim loop at other times.
        claiming: claims for the thread.
        resting: while one worker of the host listens for others, no thread lingers.
        journal: counts the busy slots.

    Attributes:
        patience: seconds for which a thread lingers.
    """

    def __init__(
        self,
        bells: WorkerBells,
        claiming: Claiming,
        resting: Resting,
        pacer: ThreadPacer,
        journal: Journal,
    ) -> None:
        self._bells, self._claiming, self._resting = bells, claiming, resting
        self._pacer, self._journal = pacer, journal
        self._place, self._alarm = threading.Lock(), Alarm()
        self._until, self._claimed = 0.0, -math.inf
        self.patience: float = QUICK

    @property
    def active(self) -> bool:
        """Whether a thread lingers."""
        return self._bells.linger is not None

    def serves_alone(self) -> bool:
        """Whether one thread is enough for the calls that come, and hears of them itself."""
        quick = self._claiming.busy == 1 and time.monotonic() - self._claimed < QUICK
        return self._bells.hears_all and (quick or self.active)

    def begin(self) -> bool:
        """Take the place, if that is of use now and it is free."""
        bells, claiming = self._bells, self._claiming
        useful = not claiming.busy and claiming.gap <= self.patience
        listens = bells.hears_all and not self._resting.leads
        if not (useful and listens and self._place.acquire(blocking=False)):
            claiming.tell_of_room()
            return False
        self._until = time.monotonic() + min(self.patience, claiming.until_due)
        self._alarm.clear()
        bells.linger = self._alarm
        return True

    def claim(self) -> Claim | None:
        """Claim the next call; None if there is none. Also called right after `begin`."""
        if self._claiming.nothing_new:
            return None  # the alarm announces anything that comes from now on
        claim = self._claiming.next(self._pacer)
        if claim is not None:
            self._claimed = time.monotonic()
            self._journal.hold(1)
        return claim

    def wait(self) -> bool:
        """Wait for what may be a call; False when it is time to leave the place."""
        left = self._until - time.monotonic()
        if left <= 0 or not self._alarm.wait(left):
            return False
        self._alarm.clear()
        return True

    def interrupt(self) -> None:
        """End the wait of the thread, for a claim of the claim loop. From any thread."""
        if self.active:
            self._alarm.set()

    def vacate(self) -> None:
        """End the wait of the thread; returns when it has left the place."""
        self.interrupt()
        with self._place:
            pass

    def end(self, *, claimed: bool) -> None:
        """Leave the place.

        Args:
            claimed: the thread has a call. Otherwise the claim loop listens from now on.
        """
        self._bells.linger = None
        self._place.release()
        if not claimed:
            self._bells.wake.set()
