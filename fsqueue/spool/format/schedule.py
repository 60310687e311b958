"""Due times: choose the slot for a call."""

from __future__ import annotations

import math

from fsqueue.common.values import LONGEST

# A call that is due at once is filed as due a second ago, so that a worker whose estimate of the
# file server's clock is slightly behind does not consider it a future call.
IMMEDIATE_SLACK = 1.0
# A delayed call is due at a multiple of a 64th of its delay, rounded down to a power of two. So
# there are about 64 future slots for each doubling of the delay, however many calls are waiting.
_PARTS_OF_DELAY = 64
_FINEST = 1 / 16


def later(now: float, delay: float) -> float:
    """When a delayed call is due, rounded up to the next slot.

    Args:
        now: seconds since the epoch, by the file server's clock.
        delay: seconds to wait; zero or less means at once.
    """
    if delay <= 0:
        return float(int(now - IMMEDIATE_SLACK))
    # The header may have been written before today's limits existed.
    delay = min(max(delay, _FINEST), LONGEST)
    step = max(_FINEST, 2.0 ** math.floor(math.log2(delay / _PARTS_OF_DELAY)))
    return math.ceil((now + delay) / step) * step
