"""Estimates when a backlog will be empty."""

from __future__ import annotations

import itertools
import statistics
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fsqueue.monitor.looks import Look
    from fsqueue.spool.history.gauges import Gauge
    from fsqueue.spool.history.minutes import Minute

MINUTES: Final = 15
"""The number of minutes from which the rate is taken."""
_LEAST = 3


class Estimate(NamedTuple):
    """When a number of calls will have ended."""

    kind: Literal["empty", "done", "never", "grows", "unknown"]
    rate: float = 0.0
    """Calls that end per second."""
    seconds: float = 0.0
    """From now until all have ended."""
    early: float = 0.0
    late: float = 0.0
    """The same at the rate of the best and of the worst tenth of the minutes."""
    growth: float = 0.0
    """How much the number grows per minute."""


def estimate(due: int, ended: Sequence[int], growth: float = 0.0) -> Estimate:
    """When `due` calls will have ended.

    Args:
        due: the calls.
        ended: how many calls ended in each of the last minutes; empty if that is not known.
        growth: by how many calls the backlog grew per minute.
    """
    rate = statistics.median(ended) / 60 if ended else 0.0
    if not due:
        return Estimate("empty", rate)
    if not ended:
        return Estimate("unknown")
    if not rate:
        rate = sum(ended) / len(ended) / 60
    if not rate:
        return Estimate("never")
    if growth > 0:
        return Estimate("grows", rate, growth=growth)
    ordered = sorted(ended)
    worst, best = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    seconds = due / rate
    early = due / (best / 60) if best else seconds
    late = due / (worst / 60) if worst else 4 * seconds
    return Estimate("done", rate, seconds, min(early, seconds), max(late, seconds))


def recent(look: Look, queue: str = "") -> list[int]:
    """How many calls ended in each of the last whole minutes, of one queue or of all.

    Minutes in which no call was due or running are left out: they say nothing about the rate.
    """
    last = int(look.now // 60)
    known = [number for number in look.minutes if number < last]
    if not known:  # a spool of less than a minute
        return [_ended(look.minutes[number], queue) for number in look.minutes]
    first = max(min(known), last - MINUTES)
    minutes: Mapping[int, Minute] = look.minutes
    idle = _idle(look, queue)
    ended = {
        each: _ended(minutes[each], queue) if each in minutes else 0 for each in range(first, last)
    }
    return [count for each, count in ended.items() if count or each not in idle]


def _idle(look: Look, queue: str) -> set[int]:
    """The minutes in which, according to the gauges, no call was due or running."""
    seen = {int(each.at // 60) for each in look.gauges}
    return seen - {int(each.at // 60) for each in look.gauges if each.busy or _due(each, queue)}


def growth_of(look: Look, queue: str = "") -> float:
    """By how many calls per minute the backlog grows, according to the last gauges.

    0 unless each of them is larger than the one before: a single burst is not growth.
    """
    gauges = [each for each in look.gauges if each.at >= look.now - 60 * MINUTES][-_LEAST:]
    due = [_due(each, queue) for each in gauges]
    if len(due) < _LEAST or any(later <= before for before, later in itertools.pairwise(due)):
        return 0.0
    minutes = (gauges[-1].at - gauges[0].at) / 60
    return (due[-1] - due[0]) / minutes if minutes > 0 else 0.0


def _due(gauge: Gauge, queue: str) -> int:
    queues = gauge.queues
    found = [queues[queue]] if queue in queues else [] if queue else queues.values()
    return sum(each.due for each in found)


def _ended(minute: Minute, queue: str) -> int:
    return minute.queues.get(queue, 0) if queue else sum(minute.queues.values())
