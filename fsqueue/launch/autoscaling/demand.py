"""Finds due calls and free workers in a spool, for an autoscaler."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fsqueue.launch.autoscaling.decisions import Demand, Supply
from fsqueue.spool.admin.snapshot import queue_names
from fsqueue.spool.admin.worker_rows import list_workers
from fsqueue.spool.files import whereabouts
from fsqueue.spool.format.names import PAUSED, app_of, split_profile
from fsqueue.spool.format.resources import amounts, needs_of, walltime_of, without_walltime

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store


def due_calls(store: Store, app_id: str, most: int) -> list[Demand]:
    """Due calls of an application, grouped by queue and needs; at most `most` of each are counted.

    Needs the file server's clock. Paused queues, and folders whose profile cannot be read, are
    left out.
    """
    found = []
    for folder in queue_names(store):
        queue, profile = split_profile(folder)
        needs = needs_of(profile)
        if app_of(folder) != app_id or needs is None or _is_paused(store, queue):
            continue
        due = _count(store, folder, most)
        if due:
            resources, walltime = without_walltime(needs), walltime_of(needs)
            found.append(Demand(queue=queue, due=due, needs=resources, walltime=walltime))
    return found


def _is_paused(store: Store, queue: str) -> bool:
    return store.fs.exists(f"{store.layout.queue(queue)}/{PAUSED}", fresh=True)


def _count(store: Store, folder: str, most: int) -> int:
    now, count = store.clock.now(), 0
    for _, slot, path in whereabouts.slots(store.files, [folder], strict=True):
        if slot.due <= now and count < most:
            count += len(store.fs.names(path, limit=most - count, fresh=True))
    return count


def free_workers(store: Store, *, heartbeat: float) -> list[Supply]:
    """Live workers and their free slots."""
    return [
        Supply(
            queues=worker.queues,
            free=max(0, worker.slots - len(worker.running)),
            slots=worker.slots,
            resources=amounts(worker.resources),
            left=math.inf if worker.left is None else worker.left,
        )
        for worker in list_workers(store, heartbeat=heartbeat)
        if worker.state == "alive" and not worker.draining
    ]
