"""A spool in which all lists of the pages are long, and many names are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from crowd import add_calls, add_workers, count_for_all

from fsqueue.spool.history.entries import Entry, Sums, TaskSums
from fsqueue.spool.history.gauges import Gauge, QueueGauge, append_gauge
from fsqueue.spool.history.journal import hour_of

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

WORKERS, TASKS = 200, 60
LONG = "a_module_with_a_long_name.with_packages.and_a_function_whose_name_says_everything"


def make_large(store: Store, ahead: float = 3600.0) -> None:
    """Add calls, workers and a journal to a spool; see `count_for_all` for the last argument."""
    now = store.clock.now()
    add_workers(store, WORKERS, queue="shop.default")
    for number in range(20):
        add_calls(store, 3, 20, queue=f"shop.a-queue-with-a-long-name-{number}")
    for minute in range(90):
        _add_minute(store, now - 60 * minute, minute)
    count_for_all(store, ahead)


def _add_minute(store, until: float, minute: int) -> None:
    hour = hour_of(until)
    store.fs.make_folders(store.layout.journal_hour(hour))
    tasks = {
        f"{LONG}_{number}": TaskSums(
            calls=90, failed=number % 7, seconds=70.0 + number, run={number % 50 - 20: 90},
            wait={number % 30 - 5: 90},
        )
        for number in range(TASKS)
    }  # fmt: skip
    worker = f"node-{minute % WORKERS}-aaaaaa"
    sums = Sums(
        serial=minute + 1, began=until - 7200, since=until - 60, until=until, slots=8,
        busy=400.0, tasks=tasks, queues={"shop.default": 5400},
        failures={f"{number:08x}": 3 for number in range(40)},
    )  # fmt: skip
    lines = b"".join(
        msgspec.json.encode(_failed(each, until, minute)) + b"\n" for each in range(40)
    )
    store.files.append(store.layout.journal_sums(hour, worker), msgspec.json.encode(sums) + b"\n")
    store.files.append(store.layout.journal_lines(hour, worker), lines)
    queues = {"shop.default": QueueGauge(due=90_000 - 500 * minute, workers=WORKERS)}
    gauge = Gauge(at=until, queues=queues, workers=WORKERS, slots=1600, busy=1500)
    append_gauge(store, worker, gauge)


def _failed(number: int, until: float, minute: int) -> Entry:
    return Entry(
        id=f"abcd-{1000 * minute + number}", task=f"{LONG}_{number}", queue="shop.default",
        attempt=1, state="failed", started=until - 9, wait=0.1, run=3.0,
        failure="a_module.AnExceptionWithALongName", fp=f"{number:08x}", at=f"{LONG}.py:88 in step",
        message=f"no such file: /{'a-folder/' * 40}{number}", failed=1, label="seed=1 lr=0.01",
    )  # fmt: skip
