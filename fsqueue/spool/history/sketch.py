"""How durations are distributed, in a few numbers that can be added up.

Each duration counts in a bucket; the next bucket begins at a value that is `_GROWTH` times as
large. So a percentile is known to about 5 percent, whatever the distribution, and the sketches of
any number of workers and minutes add up to one that is no larger. This is the scheme of DDSketch
(Masson, Rim and Lee, VLDB 2019, https://arxiv.org/abs/1908.10693).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROWTH = 1.1
_LOG = math.log(_GROWTH)
# In seconds: what is shorter counts as this long, and what is longer, some 30 years, as that long.
_SHORTEST, _LONGEST = 1e-4, 1e9

FIRST_BUCKET = math.ceil(math.log(_SHORTEST) / _LOG)
LAST_BUCKET = math.ceil(math.log(_LONGEST) / _LOG)


def bucket_of(seconds: float) -> int:
    """Number of the bucket that a duration counts in."""
    if seconds <= _SHORTEST:
        return FIRST_BUCKET
    return math.ceil(math.log(min(seconds, _LONGEST)) / _LOG)


def upper_bound(bucket: int) -> float:
    """The longest duration, in seconds, that counts in a bucket."""
    return _GROWTH**bucket


def count(into: dict[int, int], seconds: float, calls: int) -> None:
    """Count a duration of so many calls."""
    bucket = bucket_of(seconds)
    into[bucket] = into.get(bucket, 0) + calls


def add(into: dict[int, int], other: Mapping[int, int]) -> None:
    """Add up two sketches, into the first."""
    for bucket, count in other.items():
        into[bucket] = into.get(bucket, 0) + count


def percentile(sketch: Mapping[int, int], share: float) -> float | None:
    """The duration, in seconds, that a share of all does not exceed; None if there are none.

    Args:
        sketch: counts by bucket.
        share: such as 0.5 for the median.
    """
    rank = share * sum(sketch.values())
    for bucket in sorted(sketch):
        rank -= sketch[bucket]
        if rank <= 0 < sketch[bucket]:
            # In the middle of the bucket, by ratio: the error is the same on both sides.
            return 2 * _GROWTH**bucket / (1 + _GROWTH)
    return None
