"""Due times: which slot a call is filed under."""

from __future__ import annotations

import math

from fsqueue.common.values import LONGEST

# A call that is due at once is filed as due a second ago. A worker whose reading of the file
# server's clock is a little behind must not take it for a future call.
IMMEDIATE_SLACK = 1.0
# A delayed call is due at a multiple of a 64th of its delay, rounded down to a power of two. So the
# future has about 64 slots for each doubling of the delay, however many calls are waiting there.
_PARTS_OF_DELAY = 64
_FINEST = 1 / 16


def later(now: float, delay: float) -> float:
    """When a delayed call is due, rounded up to the next slot.

    Args:
        now: seconds since the epoch, by the file server's clock.
        delay: seconds to wait. Zero or less means at once.
    """
    if delay <= 0:
        return float(int(now - IMMEDIATE_SLACK))
    # A header may have been written without the limits of today.
    delay = min(max(delay, _FINEST), LONGEST)
    step = max(_FINEST, 2.0 ** math.floor(math.log2(delay / _PARTS_OF_DELAY)))
    return math.ceil((now + delay) / step) * step
