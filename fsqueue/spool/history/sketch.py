"""Sketches: the distribution of durations in a few numbers that can be added up.

Each duration is counted in a bucket, and each bucket begins at `_GROWTH` times the previous one.
So a percentile is known to about 5 percent for any distribution, and the sketches of any number of
workers and minutes add up to one that is no larger. This is the scheme of DDSketch (Masson, Rim and
Lee, VLDB 2019, https://arxiv.org/abs/1908.10693).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROWTH = 1.1
_LOG = math.log(_GROWTH)
# In seconds. Shorter durations count as the shortest one, longer ones as the longest (30 years).
_SHORTEST, _LONGEST = 1e-4, 1e9

FIRST_BUCKET = math.ceil(math.log(_SHORTEST) / _LOG)
LAST_BUCKET = math.ceil(math.log(_LONGEST) / _LOG)


def bucket_of(seconds: float) -> int:
    """The number of a duration's bucket."""
    if seconds <= _SHORTEST:
        return FIRST_BUCKET
    return math.ceil(math.log(min(seconds, _LONGEST)) / _LOG)


def upper_bound(bucket: float) -> float:
    """The longest duration, in seconds, in a bucket; between two of them for a fraction."""
    return float(_GROWTH**bucket)


def add(into: dict[int, int], other: Mapping[int, int]) -> None:
    """Add a sketch to another one."""
    for bucket, count in other.items():
        into[bucket] = into.get(bucket, 0) + count


def percentile(sketch: Mapping[int, int], share: float) -> float | None:
    """The duration, in seconds, that a share of the calls does not exceed; None without calls.

    Args:
        sketch: counts by bucket.
        share: from 0 to 1; 0.5 gives the median.
    """
    rank = share * sum(sketch.values())
    for bucket in sorted(sketch):
        rank -= sketch[bucket]
        if rank <= 0 < sketch[bucket]:
            # The point in the bucket with the same relative error on both sides.
            return 2 * _GROWTH**bucket / (1 + _GROWTH)
    return None
