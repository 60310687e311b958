"""Upkeep of concurrency limits: recovers permits and waiting calls from dead processes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError
from fsqueue.spool.format.names import lane_limit

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

# At most this many limits are handled in a round, so its cost does not grow with their number.
_LIMITS_A_ROUND = 100


class LimitUpkeep:
    """Recovers the concurrency limits of a spool, some of them in each round.

    If a permit is free while calls wait, a call has usually been admitted for it and is pending. So
    another call is admitted only if the permit is still free in the next round.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last = ""
        self._suspected: set[str] = set()

    def round(self) -> None:
        """Recover the next limits."""
        names = self._store.fs.names(self._store.layout.lanes_folder)
        lanes = sorted(filter(lane_limit, names))
        self._suspected.intersection_update(lanes)
        todo = [lane for lane in lanes if lane > self._last][:_LIMITS_A_ROUND]
        todo += lanes[: min(_LIMITS_A_ROUND, len(lanes)) - len(todo)]
        for lane in todo:
            self._last = lane
            admit = lane in self._suspected
            self._suspected.discard(lane)
            if _recover(self._store, lane, admit=admit) and not admit:
                self._suspected.add(lane)


def recover_limits(store: Store) -> None:
    """Recover all concurrency limits now."""
    for lane in filter(lane_limit, store.fs.names(store.layout.lanes_folder, fresh=True)):
        _recover(store, lane, admit=True)


def _recover(store: Store, lane: str, *, admit: bool) -> bool:
    """Like `Limits.recover`; False if that fails, which must not stop work on the other limits."""
    try:
        return store.limits.recover(lane, admit=admit)
    except (OSError, SpoolError) as error:
        log.warning("cannot recover the concurrency limit %s, trying again later: %s", lane, error)
        return False
