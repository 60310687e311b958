"""Permits of concurrency limits that running calls hold, and lend to calls that they wait for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsqueue.spool.features.limits import Limits, Permit


class HeldPermit:
    """A permit that an execution holds in a lane: its own, or one lent by a waiting body.

    Args:
        owner: the invocation that the permit belongs to.
        own: the permit, if it is the execution's own.
        borrowed_from: the holder that lends it, otherwise.
    """

    def __init__(
        self, owner: str, own: Permit | None = None, borrowed_from: HeldPermit | None = None
    ) -> None:
        self._own, self._borrowed_from = own, borrowed_from
        self.owner: str = owner
        self._loan = threading.Lock()

    def lend(self) -> HeldPermit | None:
        """Lend this permit to another execution; None if it is lent already."""
        if not self._loan.acquire(blocking=False):
            return None
        return HeldPermit(self.owner, borrowed_from=self)

    def end_loan(self) -> None:
        """Take the permit back after `lend`."""
        self._loan.release()

    @property
    def lent(self) -> bool:
        """Whether another execution has borrowed it."""
        return self._loan.locked()

    def leave(self, limits: Limits) -> bool:
        """Return the permit to its lender, or release it; True if it was released.

        A release also admits the next waiting call.

        Raises:
            OSError: the shared directory fails; upkeep does the rest.
        """
        lender, self._borrowed_from = self._borrowed_from, None
        if lender is not None:
            lender.end_loan()
        if self._own is None:
            return False
        limits.release(self._own)
        return True
