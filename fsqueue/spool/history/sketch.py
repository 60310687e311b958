"""Sketches: compact histograms of durations that can be added up.

Each bucket starts at `_GROWTH` times the start of the previous one. So percentiles are accurate to
about 5 percent for any distribution, and the sketches of any number of workers and minutes add up
to one that is no larger. This is the scheme of DDSketch (Masson, Rim and Lee, VLDB 2019,
https://arxiv.org/abs/1908.10693).
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
    """The bucket number of a duration."""
    if seconds <= _SHORTEST:
        return FIRST_BUCKET
    return math.ceil(math.log(min(seconds, _LONGEST)) / _LOG)


def upper_bound(bucket: float) -> float:
    """The longest duration in a bucket, in seconds; interpolated for a fraction."""
    return float(_GROWTH**bucket)


def add(into: dict[int, int], other: Mapping[int, int]) -> None:
    """Add a sketch to another one."""
    for bucket, count in other.items():
        into[bucket] = into.get(bucket, 0) + count


def percentile(sketch: Mapping[int, int], share: float) -> float | None:
    """The duration, in seconds, that a share of calls does not exceed; None without calls.

    Args:
        sketch: counts by bucket.
        share: from 0 to 1; 0.5 gives the median.
    """
    rank = share * sum(sketch.values())
    for bucket in sorted(sketch):
        rank -= sketch[bucket]
        if rank <= 0 < sketch[bucket]:
            # The point in the bucket with equal relative errors on both sides.
            return 2 * _GROWTH**bucket / (1 + _GROWTH)
    return None
