"""The intervals and timeouts of a fleet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """The intervals and timeouts of a fleet, in seconds.

    Args:
        tick: between two ticks of the autoscaler.
        listing: at least this long between two listings of the batch system's jobs.
        gap: between the two listings that show that a job has ended.
        patience: after this time a submission counts as ended, even one of another host.
        back_off: pause after a failure, doubled with each further failure.
        longest_back_off: the longest such pause.
    """

    tick: float = 30.0
    listing: float = 30.0
    gap: float = 20.0
    patience: float = 900.0
    back_off: float = 30.0
    longest_back_off: float = 1800.0
