"""Workers and calls that are there as files alone: many of them cost a test nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fsqueue.spool.admin.census import EVERYTHING
from fsqueue.spool.admin.glance import Looks, write_latest
from fsqueue.spool.format.names import Slot
from fsqueue.spool.format.records import WorkerRecord

if TYPE_CHECKING:
    from fsqueue.spool.admin.glance import Glance
    from fsqueue.spool.store.store import Store


def add_workers(store: Store, count: int, queue: str = "default") -> None:
    """Records, beats and claims of workers on another host."""
    layout, fs = store.layout, store.fs
    for number in range(count):
        name = f"node-{number}-aaaaaa"
        record = WorkerRecord(
            name=name,
            host="elsewhere",
            boot="another",
            pid=7,
            start="1",
            queues=(queue,),
            runner="thread",
            concurrency=8,
            started=store.clock.now(),
        )
        fs.create(layout.worker_record(name), [msgspec.json.encode(record)])
        fs.touch(layout.worker_beat(name))
        fs.make_folders(layout.running(name))
        fs.create(f"{layout.running(name)}/efgh-{number}.1", [])


def add_calls(store: Store, slots: int, each: int, queue: str = "default") -> None:
    """Names of pending calls, in slots of a second each."""
    now = store.clock.now()
    for number in range(slots):
        folder = store.layout.slot(queue, str(Slot(5, now - 2000 + number)))
        store.fs.make_folders(folder)
        for extra in range(each):
            store.fs.create(f"{folder}/abcd-{1000 * number + extra}.1", [])


def count_for_all(store: Store, ahead: float = 3600.0) -> None:
    """Write what a worker that counts would write.

    Args:
        store: the spool.
        ahead: seconds from now for which readers take it as fresh.
    """
    looks = Looks(store, heartbeat=1e6, result_ttl=1e6, bounds=EVERYTHING)
    write_ahead(store, looks.take("node-0-aaaaaa"), ahead)


def write_ahead(store: Store, glance: Glance, ahead: float = 3600.0) -> None:
    """Write a glance that readers take as fresh for this long, however slow the test is."""
    replace = msgspec.structs.replace
    snapshot = glance.snapshot
    workers = tuple(replace(each, as_of=each.as_of + ahead) for each in snapshot.workers)
    snapshot = replace(snapshot, time=snapshot.time + ahead, workers=workers)
    write_latest(store, replace(glance, snapshot=snapshot))
