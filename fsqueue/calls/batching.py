"""How many calls of a fan-out share a file, when the task's option says "auto"."""

from __future__ import annotations

import math

# A batch should take about so many seconds: then the cost of its files hardly counts, and nobody
# waits long behind it.
_TARGET = 0.05
_LARGEST = 1000
# Each slot should get so many batches at least, so that all are busy until the end.
_BATCHES_PER_SLOT = 4
_LARGEST_UNKNOWN = 16
# Weight of the latest duration among those before.
_WEIGHT = 0.2


class BatchSizer:
    """What is known of how long the calls of a task take."""

    def __init__(self) -> None:
        self._seconds: float | None = None

    def learn(self, seconds: float) -> None:
        """Take in the duration of one call."""
        # No lock: a thread that is faster may be overlooked, and it is an estimate.
        known = seconds if self._seconds is None else self._seconds
        self._seconds = known + _WEIGHT * (seconds - known)

    def batch_size(self, count: int, slots: int) -> int:
        """Calls in each batch.

        Args:
            count: calls of the fan-out.
            slots: calls that run at the same time, as far as is known.
        """
        fair = max(1, math.ceil(count / (_BATCHES_PER_SLOT * max(1, slots))))
        if self._seconds is None:
            return min(fair, _LARGEST_UNKNOWN)
        wanted = _TARGET / max(self._seconds, _TARGET / _LARGEST)
        return max(1, min(fair, int(wanted)))
