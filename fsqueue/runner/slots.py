"""Where claims are executed. Slots that are processes have a module of their own."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from fsqueue.runner.execute import execute

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.context import Workplace
    from fsqueue.runner.execute import Ending
    from fsqueue.spool.claim import Claim

    # Called with a claim and how its execution ended: an exception is the death of its slot.
    OnEnd = Callable[[Claim, Ending | BaseException], None]

log = logging.getLogger(__name__)


class Slots(Protocol):
    """A fixed number of places to execute claims."""

    def start(self, claim: Claim) -> None:
        """Execute a claim in a free slot; returns at once."""

    def cancel(self, claim: Claim) -> None:
        """End the execution of a claim, if it can be ended: nobody waits for it any more."""

    def check(self) -> None:
        """Mend what is stuck; called about once a second."""

    def close(self) -> None:
        """Wait for the claims that are being executed, and end the slots."""

    def kill(self, give_back: Callable[[set[int]], None]) -> None:
        """End the slots at once, if they can be ended at all.

        Args:
            give_back: called before, with the processes that are to be ended: they have stopped,
                and are not dead yet, so that nobody takes what they hold for lost.
        """


class ThreadSlots:
    """Slots that are threads of this process.

    A thread goes on with the next claim by itself: handing each one over from the claim loop
    would cost two switches of threads a call.

    Args:
        workplace: where claims are executed.
        count: number of threads.
        following: gives the next claim, or None if there is none.
        on_end: called in the slot's thread after each claim.
    """

    def __init__(
        self,
        workplace: Workplace,
        count: int,
        following: Callable[[], Claim | None],
        on_end: OnEnd,
    ) -> None:
        self._workplace, self._following, self._on_end = workplace, following, on_end
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="fsqueue-slot")

    def start(self, claim: Claim) -> None:
        """Execute a claim, and those that follow it."""
        self._pool.submit(self._work, claim)

    def _work(self, claim: Claim | None) -> None:
        while claim is not None:
            ending: Ending | BaseException
            try:
                ending = execute(self._workplace, claim, self._workplace.worker().release)
            except Exception as error:
                log.exception("executing %s failed", claim.name)
                ending = error
            self._on_end(claim, ending)
            claim = self._following()

    def cancel(self, claim: Claim) -> None:
        """A thread cannot be ended: its body may ask `CurrentInvocation.cancelled`."""

    def check(self) -> None:
        """Threads do not get stuck but by their bodies."""

    def close(self) -> None:
        """Wait for the bodies."""
        self._pool.shutdown(wait=True)

    def kill(self, give_back: Callable[[set[int]], None]) -> None:
        """Threads cannot be killed: whoever calls this ends the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        give_back(set())
