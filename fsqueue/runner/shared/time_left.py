"""The time that a worker has left for calls with a timeout."""

from __future__ import annotations

import math
import time
from typing import Final, NamedTuple


class TimeLeft(NamedTuple):
    """The end of a worker's time. It is the same for all processes of a host."""

    until: float = math.inf
    """When the bodies of calls are ended, on the monotonic clock."""
    longest: float = 0.0
    """The longest call, in seconds, that a new worker of this kind is sure to have time for."""

    def lacks(self, seconds: float) -> bool:
        """Whether a call that takes `seconds` should wait for a worker that has more time left."""
        return self.until - time.monotonic() < seconds <= self.longest


ENDLESS: Final = TimeLeft()
