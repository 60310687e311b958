"""When a backlog is empty, by what ended in the last minutes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fsqueue.monitor.estimates import estimate, growth_of, recent
from fsqueue.spool.history.gauges import Gauge, QueueGauge


def look_of(due, ended, busy=()):
    """A look after minutes with these numbers of due, ended and running calls."""
    gauges = [
        Gauge(at=60.0 * n + 30, queues={"q": QueueGauge(due=each)}, busy=dict(busy).get(n, 0))
        for n, each in enumerate(due)
    ]
    minutes = {n: SimpleNamespace(queues={"q": each}) for n, each in enumerate(ended)}
    return SimpleNamespace(now=60.0 * len(due), gauges=gauges, minutes=minutes)


@pytest.mark.parametrize("queue", ["", "q"])
def test_minutes_without_a_call_say_nothing_about_the_rate(queue):
    look = look_of([0] * 10 + [900, 600], [0] * 10 + [300, 300])
    assert recent(look, queue) == [300, 300]
    found = estimate(600, recent(look, queue), growth_of(look, queue))
    assert (found.kind, found.seconds) == ("done", 120.0)
    assert recent(look_of([0, 0], [0, 0], busy={1: 1}), queue) == [0]


def test_a_burst_is_no_growth():
    assert growth_of(look_of([0, 0, 0, 900], [0] * 4)) == 0.0
    assert growth_of(look_of([900, 600, 700, 800], [0] * 4)) == 100.0
    assert estimate(900, recent(look_of([0, 0, 0], [0] * 3))).kind == "unknown"
    assert estimate(900, recent(look_of([900] * 3, [0] * 3))).kind == "never"
