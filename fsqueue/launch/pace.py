"""The patience of a fleet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How patient a fleet is, in seconds.

    Args:
        tick: between two ticks of the autoscaler.
        listing: between two listings of the batch system's jobs, at least.
        gap: between the two listings that show that a job has ended.
        patience: after which a submission counts as ended, also one of another host.
        back_off: after a failure, doubled with each further one.
        longest_back_off: the limit of that.
    """

    tick: float = 30.0
    listing: float = 30.0
    gap: float = 20.0
    patience: float = 900.0
    back_off: float = 30.0
    longest_back_off: float = 1800.0
