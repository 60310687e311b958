"""Takes snapshots of a spool: counts its files, and inspects its queues and workers.

Other processes move files while a snapshot is taken, so its numbers may not be consistent. The cost
of a bounded census does not grow with the number of pending calls or workers. It estimates or omits
what it could not inspect, and says so. Reusing a census makes each snapshot more complete.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from fsqueue.spool.admin.counting import Count, FolderCounts, owners_of
from fsqueue.spool.admin.snapshot import Counts, QueueInfo, Snapshot, WorkerInfo, queue_names
from fsqueue.spool.admin.worker_rows import WorkerRows
from fsqueue.spool.fleets.coverage import closed_fleets, fleets_that_take
from fsqueue.spool.format.names import (
    PAUSED,
    Slot,
    WaitingFolder,
    is_slot_name,
    lane_limit,
    split_profile,
)
from fsqueue.spool.format.resources import NONE, amounts, in_words, needs_of, takes, with_time

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

_REASON = ".reason"
# How many slots at each end of a queue to list every time: workers take from the first ones, and
# callers add to the last ones.
_ENDS = 4
# The most clients to count separately.
_MOST_CLIENTS = 500


class Bounds(NamedTuple):
    """The most folders of each kind to inspect in one snapshot."""

    slots: int
    workers: int
    others: int
    """The most mailboxes, concurrency limits and parents with waiting calls, each."""


EVERYTHING: Final = Bounds(1 << 30, 1 << 30, 1 << 30)
ONE_LOOK: Final = Bounds(slots=16, workers=5, others=3)
"""For commands: at most about 70 file operations in a spool with one queue."""
OFTEN: Final = Bounds(slots=60, workers=50, others=20)
"""For a process that takes a snapshot every few seconds and reuses its census."""


class Census:
    """Takes snapshots of one spool.

    Args:
        heartbeat: seconds between heartbeats of a worker.
        bounds: limits the cost of a snapshot.
    """

    def __init__(self, store: Store, *, heartbeat: float, bounds: Bounds = ONE_LOOK) -> None:
        self._store, self._heartbeat, self._bounds = store, heartbeat, bounds
        self._workers = WorkerRows(store, heartbeat, bounds.workers)
        self._slots = FolderCounts(store.files, bounds.slots, owned=True)
        self._lanes: dict[str, Counter[str]] = {}
        self._in_lanes: dict[str, Counter[str]] = {}
        self._others = {
            name: FolderCounts(store.files, bounds.others, owned=name == "parked")
            for name in ("parked", "waiting", "kept", "failed")
        }

    def take(self) -> Snapshot:
        """Take a snapshot."""
        store = self._store
        if store.clock.age > self._heartbeat:  # a worker has just read it
            store.files.sync_clock()
        workers = self._workers.look()
        queues = self._queues(workers)
        counts = self._counts()
        waiting = [self._slots.owners(), self._others["parked"].owners(), *self._in_lanes.values()]
        unstarted = sum(waiting, Counter[str]())
        return Snapshot(
            root=store.layout.root,
            spool=store.files.info.id,
            time=store.clock.now(),
            queues=queues,
            workers=workers,
            counts=counts,
            closed_fleets=tuple(closed_fleets(store.files)),
            unstarted=dict(unstarted.most_common(_MOST_CLIENTS)),
            unstarted_exact=all(each.exact for each in queues)
            and "parked" not in counts.estimated
            and len(unstarted) <= _MOST_CLIENTS,
        )

    def _queues(self, workers: tuple[WorkerInfo, ...]) -> tuple[QueueInfo, ...]:
        store, layout = self._store, self._store.layout
        listed = {
            name: store.files.listed(layout.queue(name), fresh=True) for name in queue_names(store)
        }
        slots = {name: sorted(filter(is_slot_name, texts)) for name, texts in listed.items()}
        paths = [layout.slot(name, text) for name, texts in slots.items() for text in texts]
        ends = [
            layout.slot(name, text)
            for name, texts in slots.items()
            for text in dict.fromkeys([*texts[:_ENDS], *texts[-_ENDS:]])
        ]
        self._slots.update(paths, ends)
        waiting = self._waiting()
        paused = {name for name, texts in listed.items() if PAUSED in texts}
        return tuple(
            self._queue(
                name,
                [layout.slot(name, text) for text in texts],
                workers,
                waiting[name],
                paused=split_profile(name)[0] in paused,
            )
            for name, texts in slots.items()
        )

    def _queue(
        self,
        name: str,
        slots: list[str],
        workers: tuple[WorkerInfo, ...],
        waiting: int,
        *,
        paused: bool,
    ) -> QueueInfo:
        store, now = self._store, self._store.clock.now()
        dues = {path: slot.due for path in slots if (slot := Slot.parse(path.rpartition("/")[2]))}
        full = [path for path in dues if self._slots.known(path) != 0]
        due, delayed = (
            [path for path in full if (dues[path] <= now) == is_due] for is_due in (True, False)
        )
        serving = sum(
            takes(worker.queues, with_time(amounts(worker.resources), worker.left), name)
            for worker in workers
            if worker.state == "alive"
        )
        counts = self._slots.total(due), self._slots.total(delayed)
        return QueueInfo(
            name=name,
            need=in_words(needs_of(split_profile(name)[1]) or NONE),
            due=counts[0].number,
            delayed=counts[1].number,
            exact=counts[0].exact and counts[1].exact,
            oldest=now - min(dues[path] for path in due) if due else None,
            next_due=min(dues[path] for path in delayed) - now if delayed else None,
            waiting=waiting,
            paused=paused,
            workers=serving,
            fleets=() if serving else tuple(fleets_that_take(store.files, name)),
        )

    def _waiting(self) -> Counter[str]:
        """How many calls of each queue are known to wait for a concurrency limit."""
        files, layout = self._store.files, self._store.layout
        there = sorted(filter(lane_limit, files.fs.names(layout.lanes_folder, fresh=True)))
        known = {lane: found for lane, found in self._lanes.items() if lane in there}
        turn = [*(lane for lane in there if lane not in known), *known]
        for lane in turn[: self._bounds.others]:
            known.pop(lane, None)
            found: Counter[str] = Counter()
            owners: Counter[str] = Counter()
            for text in files.listed(layout.lane(lane), fresh=True)[: self._bounds.others]:
                folder = WaitingFolder.parse(text)
                if folder is not None:
                    names = files.listed(layout.in_lane(lane, text))
                    found[folder.queue] += len(names)
                    owners += owners_of(names)
            known[lane] = found
            self._in_lanes[lane] = owners
        self._lanes = known
        self._in_lanes = {lane: self._in_lanes[lane] for lane in known}
        return sum(known.values(), Counter())

    def _counts(self) -> Counts:
        fs, layout = self._store.fs, self._store.layout
        counted = {
            "parked": self._in("parked", self._below(layout.after_folder)),
            "waiting": self._in("waiting", self._below(layout.done_folder)),
            "kept": self._in("kept", self._below(layout.kept_folder)),
            "failed": self._in("failed", [layout.failed_folder]),
        }
        quarantined = fs.names(layout.quarantine_folder, fresh=True)
        clients = fs.names(layout.clients_folder, fresh=True)
        return Counts(
            **{name: count.number for name, count in counted.items()},
            quarantined=sum(not name.endswith(_REASON) for name in quarantined),
            clients=sum(name.endswith(".lock") for name in clients),
            estimated=tuple(name for name, count in counted.items() if not count.exact),
        )

    def _below(self, folder: str) -> list[str]:
        return [f"{folder}/{name}" for name in self._store.fs.names(folder, fresh=True)]

    def _in(self, name: str, folders: list[str]) -> Count:
        self._others[name].update(folders)
        return self._others[name].total(folders)


def take_snapshot(store: Store, *, heartbeat: float) -> Snapshot:
    """Take an unbounded snapshot: list every folder of the spool once.

    Args:
        heartbeat: seconds between heartbeats of a worker.
    """
    return Census(store, heartbeat=heartbeat, bounds=EVERYTHING).take()
