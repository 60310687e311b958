"""Who is dead. An observer's memory of what it has seen of the other workers.

A worker is dead when

a. on this host and boot: its process is gone;
b. on this host: its beat has stood still for the whole lease, and it has not run meanwhile;
c. elsewhere: its lock was seen held by this observer, is seen free, and its beat has stood
   still for two periods;
d. elsewhere: its beat has stood still for the whole lease.

Silence is measured on the observer's own steady clock: no two hosts' clocks are compared. The
time in which the observer could not look, as when the file server is down, is not silence.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.disk.identity import Process, boot_id, is_gone, processor_time
from fsqueue.spool.format.names import is_safe_name, split_profile
from fsqueue.spool.format.records import UNDECODABLE, WorkerRecord
from fsqueue.spool.format.resources import NONE, covers, needs_of, times

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fsqueue.spool.store.store import Store

_BEATS_BEFORE_LOCK = 2
_WATCHING_HOSTS = 2


def watchers(records: Iterable[WorkerRecord]) -> list[str]:
    """Who watches the workers of other hosts: the longest serving worker of each of two hosts.

    Silence takes uninterrupted watching. So there are two: if the host of one of them dies, the
    other one has seen the beats of that host's workers until then.
    """
    first: dict[str, str] = {}
    for record in sorted(records, key=lambda record: (record.started, record.name)):
        machine = record.boot.partition(".")[0]  # without the namespace: that dies with it
        first.setdefault(machine, record.name)
    return list(first.values())[:_WATCHING_HOSTS]


@dataclass
class _Sight:
    """What was last seen of a file that its owner touches."""

    modified: float | None
    since: float
    lock_seen_held: bool = False
    ran: int | None = None
    """Processor time of the owner's process."""


def _is_here(record: WorkerRecord) -> bool:
    return record.boot == boot_id()


def serves(record: WorkerRecord, folder: str) -> bool:
    """Whether a worker takes the calls of a queue's folder, when it has room for them."""
    queue, profile = split_profile(folder)
    needed, held = needs_of(profile), needs_of(record.resources)
    return queue in record.queues and needed is not None and covers(held or NONE, needed)


class Observer:
    """Watches the other workers.

    Args:
        store: the spool.
        heartbeat: seconds between two beats of a worker.
        lease: seconds of silence after which a worker elsewhere is dead.
    """

    def __init__(self, store: Store, *, heartbeat: float, lease: float) -> None:
        self._store = store
        self._heartbeat, self._lease = heartbeat, lease
        self._records: dict[str, WorkerRecord | None] = {}
        self._sights: dict[str, _Sight] = {}

    def discover(self, *, but: str = "") -> None:
        """List the workers; records are read once. Whatever one has left leads to it."""
        fs, layout = self._store.fs, self._store.layout
        names = {os.path.splitext(name)[0] for name in fs.names(layout.workers_folder, fresh=True)}
        names.update(fs.names(layout.running_folder, fresh=True))
        names = {name for name in names if name != but and is_safe_name(name)}
        for known in self._records.keys() - names:
            del self._records[known]
            self._sights.pop(self._store.layout.worker_beat(known), None)
        for name in names:
            if self._records.get(name) is None:
                self._records[name] = self._read(name)

    def _read(self, name: str) -> WorkerRecord | None:
        path = self._store.layout.worker_record(name)
        try:
            record = msgspec.json.decode(self._store.fs.read(path), type=WorkerRecord)
        except (FileNotFoundError, PermissionError, EnvelopeError, *UNDECODABLE):
            return None  # known by its folder and its beat only: the lease decides
        finally:
            # Its worker must be able to remove it when this host is dead.
            self._store.fs.let_go(path)
        return record if record.name == name else None

    @property
    def records(self) -> Mapping[str, WorkerRecord | None]:
        """The discovered workers; None for one whose record is missing or damaged."""
        return self._records

    def serving(self, folder: str) -> list[str]:
        """The discovered workers of a queue that are not known to be dead.

        Args:
            folder: the queue's; with a profile, the workers that have what it says.
        """
        dead = self.dead_here()
        return [
            name
            for name, record in self._records.items()
            if name not in dead and record is not None and serves(record, folder)
        ]

    def slots(self, folder: str) -> int:
        """How many calls its discovered workers can run at a time."""
        needed = needs_of(split_profile(folder)[1]) or NONE
        count = 0
        for name in self.serving(folder):
            record = self._records[name]
            if record is not None:
                room = times(needs_of(record.resources) or NONE, needed)
                count += record.concurrency if room is None else min(room, record.concurrency)
        return count

    def of_processes(self, pids: set[int]) -> list[str]:
        """The discovered workers of some processes of this host."""
        return [
            name
            for name, record in self._records.items()
            if record is not None and _is_here(record) and record.pid in pids
        ]

    def dead_here(self) -> dict[str, str]:
        """Workers of this host whose process is gone, with the reason; asks no file server."""
        return {
            name: f"its process {record.pid} on {record.host} is gone"
            for name, record in self._records.items()
            if record is not None and is_gone(Process(record.boot, record.pid, record.start))
        }

    def dead_elsewhere(self) -> dict[str, str]:
        """Workers of other hosts that are silent for too long, with the reason."""
        dead = {}
        for name, record in self._records.items():
            if record is not None and _is_here(record):
                continue
            reason = self._silence(name, record)
            if reason:
                dead[name] = reason
        return dead

    def silent_here(self) -> dict[str, str]:
        """Workers of this host that are silent for too long though their process is there.

        Such a process is suspended (SIGSTOP, a debugger, a frozen container), or the worker has
        registered afresh under another name. One that runs is busy, as with a body in C that
        keeps Python from running, and not suspended: that is life too, if it is of one worker.
        """
        here = {name: each for name, each in self._records.items() if each and _is_here(each)}
        workers = Counter([os.getpid(), *(record.pid for record in here.values())])
        dead = {}
        for name, record in here.items():
            path = self._store.layout.worker_beat(name)
            still, sight = self.stands_still(path), self._sights[path]
            ran = processor_time(record.pid) if workers[record.pid] == 1 else None
            if ran is not None and ran != sight.ran:
                sight.ran, sight.since = ran, self._store.fs.monotonic()
            elif still >= self._lease:
                dead[name] = (
                    f"it is silent for {still:.0f} s, and its process {record.pid} is there"
                )
        return dead

    def _silence(self, name: str, record: WorkerRecord | None) -> str | None:
        where = f"on {record.host}" if record else "of an unknown host"
        path = self._store.layout.worker_beat(name)
        still = self.stands_still(path)
        if still >= self._lease:
            return f"worker {name} {where} was silent for {still:.0f} s"
        sight = self._sights[path]
        silent = still >= _BEATS_BEFORE_LOCK * self._heartbeat
        if silent or (still == 0 and not sight.lock_seen_held):
            lock = self._store.fs.lock(self._store.layout.worker_lock(name))
            if lock is None:
                sight.lock_seen_held = True
            else:
                lock.release()
                if sight.lock_seen_held and silent:
                    return f"worker {name} {where} has lost its lock and is silent"
        return None

    def stands_still(self, path: str) -> float:
        """Seconds for which this observer has seen no change of a file's time (0: it changed)."""
        began = self._store.fs.monotonic()
        try:
            modified: float | None = self._store.fs.modified(path)
        except (FileNotFoundError, PermissionError, EnvelopeError):
            modified = None  # what nobody can read does not beat
        now = self._store.fs.monotonic()
        self.excuse(now - began)
        sight = self._sights.get(path)
        if sight is None:
            self._sights[path] = _Sight(modified, now)
            return 0.0
        if sight.modified != modified:
            sight.modified, sight.since = modified, now
            return 0.0
        return now - sight.since

    def excuse(self, interruption: float) -> None:
        """Count a pause of this observer as one heartbeat of silence at most.

        When a file server comes back after longer than the lease, nobody has beaten, and whoever
        looks first must not take all the others for dead.

        Args:
            interruption: seconds for which it did not look.
        """
        excess = interruption - self._heartbeat
        if excess > 0:
            now = self._store.fs.monotonic()
            for sight in self._sights.values():
                sight.since = min(sight.since + excess, now)
