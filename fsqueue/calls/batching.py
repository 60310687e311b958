"""Chooses batch sizes: how many calls of a fan-out share a file when the option is "auto"."""

from __future__ import annotations

import math

# Target duration of a batch in seconds: long enough that the cost of its files hardly matters, and
# short enough that other calls do not wait long behind it.
TARGET = 0.05
_LARGEST = 1000
# Each slot should get at least this many batches, so that all slots are busy until the end.
SLOT_SHARE = 4
LARGEST_UNKNOWN = 16
# Weight of the latest duration in the moving average.
WEIGHT = 0.2


class BatchSizer:
    """Chooses a batch size from the durations of earlier calls of the task."""

    def __init__(self) -> None:
        self._seconds: float | None = None

    def learn(self, seconds: float) -> None:
        """Add the duration of one call, in seconds."""
        # No lock: concurrent threads may lose a value, and this is only an estimate.
        known = seconds if self._seconds is None else self._seconds
        self._seconds = known + WEIGHT * (seconds - known)

    def batch_size(self, count: int, slots: int) -> int:
        """The number of calls in each batch.

        Args:
            count: number of calls of the fan-out.
            slots: known number of calls that can run at the same time.
        """
        fair = max(1, math.ceil(count / (SLOT_SHARE * max(1, slots))))
        if self._seconds is None:
            return min(fair, LARGEST_UNKNOWN)
        wanted = TARGET / max(self._seconds, TARGET / _LARGEST)
        return max(1, min(fair, int(wanted)))
