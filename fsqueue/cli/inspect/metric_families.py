"""The metric families of ``fsqueue metrics``. Times are in seconds, as Prometheus requires."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from fsqueue.spool.admin.snapshot import Snapshot
    from fsqueue.spool.history.entries import TaskSums
    from fsqueue.spool.history.statistics import Durations, Stats

    Rows = Iterable[tuple[Sequence[str], float]]

# Upper bounds of the histograms, in seconds. The measured times are accurate to ten percent.
_BOUNDS: Final = (0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 7200.0)


def _gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"fsqueue_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _counter(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"fsqueue_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def up(value: int) -> Metric:
    """Whether the spool could be read."""
    return _gauge("up", "Whether the shared directory could be read.", (), [((), value)])


def queues(census: Snapshot) -> Iterator[Metric]:
    """The pending calls."""
    by_state = [
        ((queue.name, state), float(count))
        for queue in census.queues
        for state, count in (
            ("due", queue.due),
            ("delayed", queue.delayed),
            ("waiting", queue.waiting),
        )
    ]
    yield _gauge("pending_calls", "Calls that wait for a worker.", ("queue", "state"), by_state)
    yield _gauge(
        "oldest_due_seconds",
        "How long the oldest due call has been waiting.",
        ("queue",),
        [((queue.name,), queue.oldest or 0.0) for queue in census.queues],
    )
    yield _gauge(
        "queue_paused",
        "Whether the queue is paused.",
        ("queue",),
        [((queue.name,), float(queue.paused)) for queue in census.queues],
    )


def workers(census: Snapshot, recent: Stats) -> Iterator[Metric]:
    """The workers in total, because a label for each worker would have too many values."""
    states = Counter(worker.state for worker in census.workers)
    alive = [worker for worker in census.workers if worker.state == "alive"]
    yield _gauge(
        "workers",
        "Workers by state.",
        ("state",),
        [((state,), float(states[state])) for state in ("alive", "silent", "dead")],
    )
    slots = sum(worker.slots for worker in alive)
    yield _gauge("slots", "Calls that the living workers can run at once.", (), [((), slots)])
    running = sum(len(worker.running) for worker in census.workers)
    yield _gauge("running_calls", "Calls that workers hold.", (), [((), running)])
    busy = sum(each.slots * (each.busy or 0.0) for each in recent.workers if each.alive)
    yield _gauge("busy_slots", "Busy slots, on average over the last minutes.", (), [((), busy)])


def results(census: Snapshot) -> Iterator[Metric]:
    """Files that stay until a caller collects them, or until they expire."""
    counts = census.counts
    places = {
        "parked": counts.parked,
        "waiting": counts.waiting,
        "kept": counts.kept,
        "failed": counts.failed,
        "quarantined": counts.quarantined,
    }
    rows = [((place,), float(count)) for place, count in places.items()]
    yield _gauge(
        "files",
        "Outcomes, failed calls, calls that wait for others, damaged files.",
        ("place",),
        rows,
    )
    yield _gauge("clients", "Processes that make calls.", (), [((), counts.clients)])


def recently(recent: Stats) -> Iterator[Metric]:
    """Statistics of the calls that ended in the last minutes."""
    yield _gauge(
        "recent_window_seconds",
        "Period that the metrics fsqueue_recent_* report on.",
        (),
        [((), recent.seconds)],
    )
    yield _gauge(
        "recent_calls",
        "Calls that ended recently.",
        ("task", "outcome"),
        [
            ((task.task, outcome), float(count))
            for task in recent.tasks
            for outcome, count in (("failed", task.failed), ("other", task.calls - task.failed))
        ],
    )
    for name, text, pick in (
        ("wait", "From when a call was due to its start, recently.", "wait"),
        ("run", "Run times of bodies, recently.", "run"),
    ):
        rows = [
            ((task.task, quantile), seconds)
            for task in recent.tasks
            for quantile, seconds in _quantiles(getattr(task, pick))
        ]
        yield _gauge(f"recent_{name}_seconds", text, ("task", "quantile"), rows)


def _quantiles(durations: Durations) -> Iterator[tuple[str, float]]:
    found = {"0.5": durations.p50, "0.95": durations.p95, "0.99": durations.p99}
    yield from ((name, value) for name, value in found.items() if value is not None)


def ended(totals: Mapping[str, TaskSums]) -> Iterator[Metric]:
    """Counters of calls that have ended. They start with this process, and only grow."""
    yield _counter(
        "ended_calls",
        "Calls that have ended.",
        ("task", "outcome"),
        [
            ((name, outcome), float(count))
            for name, sums in totals.items()
            for outcome, count in (("failed", sums.failed), ("other", sums.calls - sums.failed))
        ],
    )
    again = [
        ((name, why), float(count))
        for name, sums in totals.items()
        for why, count in (("retried", sums.retried), ("lost", sums.lost))
    ]
    yield _counter("unfinished_attempts", "Attempts without an outcome.", ("task", "reason"), again)
    yield _histogram(
        "wait_seconds",
        "From when a call was due to its start.",
        {name: (sums.wait, sums.waited) for name, sums in totals.items()},
    )
    yield _histogram(
        "run_seconds",
        "Run times of bodies.",
        {name: (sums.run, sums.seconds) for name, sums in totals.items()},
    )


def _histogram(
    name: str, text: str, by_task: Mapping[str, tuple[Mapping[int, int], float]]
) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    from fsqueue.spool.history.sketch import upper_bound

    family = HistogramMetricFamily(f"fsqueue_{name}", text, labels=("task",))
    for task, (counts, total) in by_task.items():
        below = [
            (str(bound), float(sum(n for each, n in counts.items() if upper_bound(each) <= bound)))
            for bound in _BOUNDS
        ]
        below.append(("+Inf", float(sum(counts.values()))))
        family.add_metric((task,), below, total)
    return family
