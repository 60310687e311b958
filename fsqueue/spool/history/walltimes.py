"""Learned walltimes: how long a task's next call may run, estimated from the journal."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from fsqueue.spool.history import sketch
from fsqueue.spool.history.statistics import History

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

FACTOR: Final = 1.5
"""The walltime is this many times the 95th percentile, since calls may take longer than before."""
LEAST_RUNS: Final = 5
_SHARE = 0.95
_FRESH_FOR = 60.0


class LearnedWalltimes:
    """The walltimes of a spool's tasks. The journal is read at most once a minute.

    All runs of a task count, including those that failed or were retried. Each call of a batch
    counts as one run.

    Args:
        window: how far back to look, in seconds.
    """

    def __init__(self, store: Store, window: float) -> None:
        self._store = store
        self._history = History(store, window)
        self._mutex = threading.Lock()
        self._read = float("-inf")
        self._found: dict[str, float] = {}

    def of(self, task: str) -> float | None:
        """The walltime of one call of a task, in seconds; None if it has too few runs."""
        with self._mutex:
            now = self._store.fs.monotonic()
            if now - self._read > _FRESH_FOR:
                self._read = now
                self._refresh()
            return self._found.get(task)

    def _refresh(self) -> None:
        try:
            self._store.files.sync_clock()
            self._history.update()
        except OSError as error:
            log.info("the walltimes of tasks stay as they were: %s", error)
            return
        runs = self._history.run_times()
        self._found = {
            task: FACTOR * (sketch.percentile(counts, _SHARE) or 0.0)
            for task, counts in runs.items()
            if sum(counts.values()) >= LEAST_RUNS
        }
