"""Claims pending calls for the slots of a worker."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError
from fsqueue.runner.shared.resource_pool import claim_within
from fsqueue.runner.slots.self_claiming import QUICK
from fsqueue.spool.wakeups.pauses import Rhythm
from fsqueue.spool.wakeups.watching import watches

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.job.lifetime import Lifetime
    from fsqueue.runner.loop.bells import WorkerBells
    from fsqueue.runner.loop.stopping import Stopping
    from fsqueue.runner.loop.thread_pacing import ThreadPacer
    from fsqueue.runner.shared.resource_pool import ResourcePool
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.backlog.worker import WorkerBacklog
    from fsqueue.spool.worker.registration import Worker

log: logging.Logger = logging.getLogger(__name__)

# Seconds between two checks for file events while no slot is free. Each check takes CPU time from
# the bodies, and the GIL in a worker with thread slots.
_DEAF_FOR = 0.05
# Seconds for which the queues count as empty after a search. Shorter than any pause of the loop.
_RECHECK_AFTER = 0.0009
# On a file server, they count as empty for as long as the search took, but at most this long.
_LONGEST_REST = 0.1


class Claiming:
    """Claims calls while there are free slots. Its methods may be called from any thread.

    Args:
        worker: claims and holds the calls.
        backlog: finds the call to claim next.
        budget: the worker's resources, from which a claim takes what its call needs.
        slots: number of slots.
        lifetime: when the worker leaves by itself.
        stopping: whether to claim at all; is told when the worker leaves by itself.
        bells: what has been announced since the queues were empty; wakes the claim loop.

    Attributes:
        gap: seconds for which the worker had no call before the last one; infinite if it had one.
    """

    def __init__(
        self,
        store: Store,
        worker: Worker,
        backlog: WorkerBacklog,
        budget: ResourcePool,
        slots: int,
        lifetime: Lifetime,
        stopping: Stopping,
        bells: WorkerBells,
    ) -> None:
        self._store, self._worker = store, worker
        self._backlog, self._budget, self._bells = backlog, budget, bells
        self._slots, self._stopping, self._wake = slots, stopping, bells.wake
        self._mutex = threading.Lock()
        self._busy, self._freed = 0, -math.inf
        self.gap: float = math.inf
        # The claim loop waits for a free slot, and not for new calls.
        self._waits_for_slot = False
        self._empty_since, self._empty_until = -1, 0.0
        self._rhythm = Rhythm(remote=store.fs.remote)
        self._found = 0  # calls claimed since the backlog was last exhausted
        self._now = store.fs.monotonic
        self._end, self._allowance = lifetime.end, lifetime.allowance
        self._idleness = lifetime.idleness
        # When the last search that found nothing began, and whether it was the second in a row.
        self._searched = -math.inf
        self._confirming = False

    def next(self, pacer: ThreadPacer | None = None) -> Claim | None:
        """Claim the next call and take a slot for it; None if there is no free slot or no call.

        Args:
            pacer: passed by a thread that has just finished a call; it may tell the thread to idle.
                The claim loop does not learn that the slot is free: see `tell_of_room`.
        """
        with self._mutex:
            if pacer is not None and pacer.is_too_large(self._busy):
                return None
            if self._busy >= self._slots or self._stopping.why:
                return None
            if (closing := self._end.closing(self._now())) is not None:
                self._stopping.depart(closing)
                return None
            if not self._allowance.reserve():
                return None
            self._busy += 1
        claim = None
        try:
            claim = self._claim()
        except PermissionError as error:
            self._store.files.pass_over(error.filename, error)
        except (OSError, SpoolError) as error:
            log.warning("cannot claim, trying again: %s", error)
        finally:
            if claim is None:
                with self._mutex:
                    self._busy -= 1
                    self._allowance.settle(ran=False)
            else:
                self.gap = self._now() - self._freed if self._busy == 1 else math.inf
        return claim

    @property
    def nothing_new(self) -> bool:
        """Whether the last search found nothing, and nothing was announced since it began."""
        return self._empty_since == self._bells.count

    def tell_of_room(self) -> None:
        """Tell the claim loop that a thread is idle, if it waits for one."""
        with self._mutex:
            if self._waits_for_slot:
                self._wake.set()

    @property
    def until_due(self) -> float:
        """Seconds until the next delayed call is due; no event announces it."""
        return self._backlog.next_due - self._now()

    def free(self, *, ran: bool, quietly: bool = False, idle_for: float = 0.0) -> None:
        """Free the slot of a call that has ended.

        Args:
            ran: whether its body had begun.
            quietly: do not tell the claim loop, because the thread claims the next call itself.
            idle_for: seconds since the call ended.
        """
        with self._mutex:
            self._busy -= 1
            self._allowance.settle(ran=ran)
            if self._waits_for_slot and not quietly:
                self._wake.set()
            self._confirming = False
            if not self._busy:
                self._idleness.since = now = self._now()
                self._freed = now - idle_for
        if (spent := self._allowance.spent()) is not None:
            self._stopping.depart(spent)

    def count(self, *, ran: bool) -> None:
        """Count a call that has ended, while its slot continues with another one."""
        with self._mutex:
            self._allowance.done += ran
            self._confirming = False

    def leave_if_done(self, *, ready: bool) -> bool:
        """Stop claiming if the job ends soon, or the worker is idle. Called by the claim loop.

        Args:
            ready: whether a slot could take a call, which is not so until slot processes started.

        Returns:
            Whether it has stopped.
        """
        with self._mutex:
            now = self._now()
            departure = self._end.closing(now)
            if self._busy or not ready:
                self._idleness.since = now
            elif departure is None:
                departure = self._idleness.leaving(now, self._searched)
            if departure is not None and departure.reason == "until-empty" and self._twice(now):
                return False
        if departure is not None:
            self._stopping.depart(departure)
        return departure is not None

    def _twice(self, now: float) -> bool:
        """List everything before leaving.

        The previous search may have relied on events, and the event of a call that the last body
        made may be late. Folders for other resources may also have been added.
        """
        if self._confirming:
            return False
        self._confirming = True
        self._backlog.bell_rang(needs=True)
        self._backlog.expire()
        self._idleness.since = now
        return True

    def wait(
        self,
        pause: float,
        serves_alone: Callable[[], bool],
        *,
        delayed: bool = True,
        alert: bool = False,
    ) -> bool:
        """Wait until there may be something to claim; True if something has happened.

        Args:
            pause: the longest wait, in seconds.
            serves_alone: see `Slots`.
            delayed: wake for calls that become due.
            alert: listen to file events even while no slot is free, or while one serves alone.
        """
        with self._mutex:
            self._waits_for_slot = full = self._busy >= self._slots
        due = self._backlog.next_due if delayed else math.inf
        now = self._now()
        if self._empty_since == self._bells.count:
            left = self._empty_until - time.monotonic()
            pause = max(pause, self._rhythm.step, left)
            # Once a call is due, a search is not in vain.
            self._empty_until += min(0.0, due - now - left)
        until = min(due, self._idleness.next_check, self._end.closes, now + pause)
        rung = full and not alert and self._doze(min(until - now, _DEAF_FOR))
        left_to_slot = False
        while not (rung or alert) and (left := until - self._now()) > 0 and serves_alone():
            self._waits_for_slot = left_to_slot = True
            rung = self._doze(min(left, QUICK if self.has_room else _DEAF_FOR))
        if not (rung or left_to_slot):
            rung = self._wake.wait(max(0.0, until - self._now()))
        self._wake.clear()
        return rung or left_to_slot

    def _doze(self, seconds: float) -> bool:
        """Wait for a free slot, and ignore whatever only file events announce."""
        self._bells.deaf = True
        rung = self._wake.wait(max(0.0, seconds), listens=False)
        if not rung:  # the bell that says that calls wait for those that end here
            watches().hear()
        # Before the next search: a thread that hears of a call records it before it checks whether
        # it must wake the claim loop.
        self._bells.deaf = False
        return rung

    def pause(self, seconds: float) -> None:
        """Wait while threads are at work, which claim due calls without the claim loop.

        So file events end the wait only if nothing else was due. Then a thread that ends its call
        leaves it to the claim loop to find the next one.
        """
        with self._mutex:
            self._waits_for_slot = more = self._backlog.has_more
            if not self._busy:
                return
        if more or self._bells.hears_all:
            self._doze(seconds)
        else:
            self._wake.wait(seconds)
        self._wake.clear()

    @property
    def busy(self) -> int:
        """How many slots have a call."""
        return self._busy

    @property
    def has_room(self) -> bool:
        """Whether a slot has no call."""
        return self._busy < self._slots

    def is_at_work(self) -> bool:
        """Whether a slot has a call, and more may be claimed."""
        return self._busy > 0 and not self._stopping.why

    def _claim(self) -> Claim | None:
        rings, began = self._bells.count, self._now()
        if self._empty_since == rings and time.monotonic() < self._empty_until:
            return None  # another thread has just found the queues empty
        for origin in self._backlog:
            try:
                if self._budget.total:
                    claim = claim_within(self._budget, self._worker, origin)
                else:
                    claim = self._worker.claim(origin)
            except OSError:
                self._backlog.defer(origin)
                raise
            if claim is not None:
                self._found += 1
                if self._store.fs.remote and self._backlog.is_exhausted:
                    # Another search now would most likely find nothing.
                    self._rhythm.end(began)
                    several, self._found = self._found > 1, 0
                    self._empty_since, now = rings, time.monotonic()
                    self._empty_until = now + self._rhythm.begin(self._now(), several=several)
                elif self._bells.linger is not None and self._backlog.is_quiet:
                    # The thread that lingers after this call hears of the next one.
                    self._empty_since, self._empty_until = rings, time.monotonic() + _RECHECK_AFTER
                return claim
        self._searched = began
        rest = min(self._now() - began, _LONGEST_REST) if self._store.fs.remote else _RECHECK_AFTER
        self._empty_since, self._empty_until = rings, time.monotonic() + rest
        return None
