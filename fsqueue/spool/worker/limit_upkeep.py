"""Looks after all lanes: what those who died have left there does not stay."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError
from fsqueue.spool.format.names import lane_limit

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

log = logging.getLogger(__name__)

# So many lanes are looked after at a time: the cost of a round does not grow with their number.
_LANES_A_ROUND = 100


class LimitUpkeep:
    """Mends lanes, some at a time, one after another.

    A place that is free while calls wait is meant for one that was admitted and is pending. Another
    one is admitted only if that is so at the next round too.

    Args:
        store: the spool.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last = ""
        self._wanting: set[str] = set()

    def round(self) -> None:
        """Mend the next lanes."""
        names = self._store.fs.names(self._store.layout.lanes_folder)
        lanes = sorted(filter(lane_limit, names))
        self._wanting.intersection_update(lanes)
        todo = [lane for lane in lanes if lane > self._last][:_LANES_A_ROUND]
        todo += lanes[: min(_LANES_A_ROUND, len(lanes)) - len(todo)]
        for lane in todo:
            self._last = lane
            admit = lane in self._wanting
            self._wanting.discard(lane)
            if _is_wanting(self._store, lane, admit=admit) and not admit:
                self._wanting.add(lane)


def mend_all(store: Store) -> None:
    """Mend every lane, at once."""
    for lane in filter(lane_limit, store.fs.names(store.layout.lanes_folder, fresh=True)):
        _is_wanting(store, lane, admit=True)


def _is_wanting(store: Store, lane: str, *, admit: bool) -> bool:
    """What `Limits.mend` says; False if it fails, which must not keep other lanes from it."""
    try:
        return store.limits.recover(lane, admit=admit)
    except (OSError, SpoolError) as error:
        log.warning("lane %s is mended later: %s", lane, error)
        return False
