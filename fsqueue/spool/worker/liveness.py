"""Detects dead workers from their processes, heartbeats and locks, as one observer sees them.

A worker is dead when

a. on this host and boot: its process is gone;
b. on this host: its beat has not changed for the whole lease, and its process has not run in that
   time;
c. elsewhere: this observer has seen its lock held, now sees it free, and its beat has not changed
   for two periods;
d. elsewhere: its beat has not changed for the whole lease.

Silence is measured on the observer's own steady clock, so the clocks of two hosts are never
compared. Time in which the observer could not check, for example because the file server was down,
does not count as silence.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.disk.identity import Process, boot_id, is_gone, processor_time
from fsqueue.spool.disk.listing import Listing
from fsqueue.spool.format.names import is_safe_name, split_profile
from fsqueue.spool.format.records import UNDECODABLE, WorkerRecord
from fsqueue.spool.format.resources import NONE, needs_of, takes, times, with_time

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from fsqueue.spool.format.resources import Amounts
    from fsqueue.spool.store.store import Store

_BEATS_BEFORE_LOCK = 2
_WATCHING_HOSTS = 2
_ELDERS = 2


def watchers(records: Iterable[WorkerRecord]) -> list[str]:
    """The workers that watch other hosts: the longest serving worker of each of two hosts.

    Silence can only be measured without interruption. So there are two watchers: if the host of one
    dies, the other has observed that host's workers until then.
    """
    first: dict[str, str] = {}
    for record in sorted(records, key=lambda record: (record.started, record.name)):
        machine = record.boot.partition(".")[0]  # namespaces die with their machine
        first.setdefault(machine, record.name)
    return list(first.values())[:_WATCHING_HOSTS]


@dataclass
class _Observation:
    """The last observation of a file that its owner touches."""

    modified: float | None
    since: float
    lock_seen_held: bool = False
    ran: int | None = None
    """CPU time of the owner's process."""


def _is_here(record: WorkerRecord) -> bool:
    return record.boot == boot_id()


def _process_of(record: WorkerRecord) -> Process:
    return Process(record.boot, record.pid, record.start)


class Observer:
    """Watches the other workers.

    Args:
        heartbeat: seconds between two beats of a worker.
        lease: seconds of silence after which a worker is dead.
    """

    def __init__(self, store: Store, *, heartbeat: float, lease: float) -> None:
        self._store = store
        self._heartbeat, self._lease = heartbeat, lease
        self._records: dict[str, WorkerRecord | None] = {}
        self._observations: dict[str, _Observation] = {}
        layout = store.layout
        self._workers = Listing(store.fs, layout.workers_folder)
        self._running = Listing(store.fs, layout.running_folder)
        self._listed: tuple[list[str], list[str], str] | None = None
        self._here: dict[str, WorkerRecord] = {}

    def discover(self, *, but: str = "", most: int | None = None) -> None:
        """List the workers that have any file or folder. Each record is read once.

        Args:
            but: name of a worker to leave out.
            most: the most new records to read this time; None: all.
        """
        listed = self._workers.names(), self._running.names(), but
        if listed == self._listed and None not in self._records.values():
            return
        self._listed = listed
        names = {os.path.splitext(name)[0] for name in listed[0]}
        names.update(listed[1])
        names = {name for name in names if name != but and is_safe_name(name)}
        for known in self._records.keys() - names:
            del self._records[known]
            self._observations.pop(self._store.layout.worker_beat(known), None)
        for name in names:
            self._records.setdefault(name, None)
        self._read_records(self._unread()[:most])

    def _unread(self) -> list[str]:
        return sorted(name for name, record in self._records.items() if record is None)

    def _read_records(self, names: Iterable[str]) -> None:
        for name in names:
            self._records[name] = self._read(name)
        self._here = {name: each for name, each in self._records.items() if each and _is_here(each)}

    def unserved(self, folders: Iterable[str]) -> list[str]:
        """The folders of queues that no living worker serves; lists the workers for that.

        On a file server each record costs several requests, so no more are read than needed.

        Args:
            folders: names of folders, as in `serving`.
        """
        self.discover(most=0)
        left = [folder for folder in folders if not self.serving(folder)]
        for name in self._unread():
            if not left:
                break
            self._read_records([name])
            left = [folder for folder in left if not self.serving(folder)]
        return left

    def _read(self, name: str) -> WorkerRecord | None:
        path = self._store.layout.worker_record(name)
        try:
            record = msgspec.json.decode(self._store.fs.read(path), type=WorkerRecord)
        except (FileNotFoundError, PermissionError, EnvelopeError, *UNDECODABLE):
            return None  # only the folder and the beat are known, so the lease decides
        finally:
            # The worker must be able to remove the record after this host has died.
            self._store.fs.let_go(path)
        return record if record.name == name else None

    @property
    def records(self) -> Mapping[str, WorkerRecord | None]:
        """The discovered workers; None for one whose record is missing or damaged."""
        return self._records

    def serving(self, folder: str) -> list[str]:
        """The discovered workers of a queue that are not known to be dead.

        Args:
            folder: the queue's folder; if it has a profile, only workers with these resources and
                enough time count.
        """
        dead = self.dead_here()
        return [
            name
            for name, record in self._records.items()
            if name not in dead
            and record is not None
            and takes(record.queues, self._held(record), folder)
        ]

    def _held(self, record: WorkerRecord) -> Amounts:
        """The resources of a worker, and the time that it has left."""
        held = needs_of(record.resources) or NONE
        if record.batch is None or not record.batch.until:
            return held
        if self._store.clock.age == math.inf:
            self._store.files.sync_clock()
        return with_time(held, record.batch.until - self._store.clock.now())

    def slots(self, folder: str) -> int:
        """How many calls of a queue's folder the discovered workers can run at a time."""
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

    def elders(self, own: WorkerRecord | None, lost: Container[str]) -> list[Process]:
        """The two worker processes that have served the longest on this host.

        Args:
            own: the record of this process's worker.
            lost: discovered workers that are known to be dead.
        """
        here = [record for record in self._here.values() if record.name not in lost]
        here += [own] if own is not None else []
        here.sort(key=lambda record: (record.started, record.name))
        return list(dict.fromkeys(map(_process_of, here)))[:_ELDERS]

    def peers(self, own: WorkerRecord) -> int:
        """How many workers on this host can take the same calls: same queues, and no resources.

        Args:
            own: the record of this process's worker, which counts, too.
        """
        like_it = {
            record.name
            for record in self._here.values()
            if set(record.queues) == set(own.queues) and not record.resources and not record.batch
        }
        return len(like_it | {own.name})

    def processes_here(self, among: Container[str] | None = None) -> set[Process]:
        """The processes of this host that have discovered workers.

        Args:
            among: names of the workers; None: all.
        """
        return {
            _process_of(record)
            for name, record in self._here.items()
            if among is None or name in among
        }

    def dead_here(self, ended: Container[Process] | None = None) -> dict[str, str]:
        """Workers of this host whose process is gone, each with the reason.

        This sends no request to the file server.

        Args:
            ended: the processes that are gone; None: look each of them up.
        """
        return {
            name: f"its process {record.pid} on {record.host} is gone"
            for name, record in self._here.items()
            if (is_gone(_process_of(record)) if ended is None else _process_of(record) in ended)
        }

    def dead_elsewhere(self) -> dict[str, str]:
        """Workers of other hosts that have been silent for too long, each with the reason."""
        dead = {}
        for name, record in self._records.items():
            if record is not None and _is_here(record):
                continue
            reason = self._silence(name, record)
            if reason:
                dead[name] = reason
        return dead

    def silent_here(self) -> dict[str, str]:
        """Workers of this host that have been silent for too long while their process exists.

        Either the process is suspended (SIGSTOP, a debugger, a frozen container), or the worker has
        registered again under another name. A process that uses CPU time is not suspended but busy,
        for example in C code that holds the GIL. That counts as a sign of life if the process has
        only one worker.
        """
        here = self._here
        workers = Counter([os.getpid(), *(record.pid for record in here.values())])
        dead = {}
        for name, record in here.items():
            path = self._store.layout.worker_beat(name)
            silence, seen = self.unchanged_for(path), self._observations[path]
            ran = processor_time(record.pid) if workers[record.pid] == 1 else None
            if ran is not None and ran != seen.ran:
                seen.ran, seen.since = ran, self._store.fs.monotonic()
            elif silence >= self._lease:
                dead[name] = (
                    f"it has been silent for {silence:.0f} s while its process {record.pid} exists"
                )
        return dead

    def _silence(self, name: str, record: WorkerRecord | None) -> str | None:
        where = f"on {record.host}" if record else "of an unknown host"
        path = self._store.layout.worker_beat(name)
        silence = self.unchanged_for(path)
        if silence >= self._lease:
            return f"worker {name} {where} was silent for {silence:.0f} s"
        seen = self._observations[path]
        silent = silence >= _BEATS_BEFORE_LOCK * self._heartbeat
        if silent or (silence == 0 and not seen.lock_seen_held):
            if self._is_locked(name):
                seen.lock_seen_held = True
            elif seen.lock_seen_held and silent:
                return f"worker {name} {where} has lost its lock and is silent"
        return None

    def _is_locked(self, name: str) -> bool:
        """Whether a worker's lock is held. A worker that has just left has no lock to test."""
        try:
            lock = self._store.fs.lock(self._store.layout.worker_lock(name), existing=True)
        except FileNotFoundError:
            return False
        if lock is not None:
            lock.release()
        return lock is None

    def unchanged_for(self, path: str) -> float:
        """For how many seconds this observer has seen the same time of a file; 0 if it changed."""
        began = self._store.fs.monotonic()
        try:
            modified: float | None = self._store.fs.modified(path)
        except (FileNotFoundError, PermissionError, EnvelopeError):
            modified = None  # a beat that cannot be read does not change
        now = self._store.fs.monotonic()
        self.excuse(now - began)
        seen = self._observations.get(path)
        if seen is None:
            self._observations[path] = _Observation(modified, now)
            return 0.0
        if seen.modified != modified:
            seen.modified, seen.since = modified, now
            return 0.0
        return now - seen.since

    def excuse(self, interruption: float) -> None:
        """Count a pause of this observer as at most one heartbeat of silence.

        When a file server comes back after longer than the lease, no worker has sent a heartbeat.
        The first observer to check must not declare all the others dead.

        Args:
            interruption: seconds for which this observer did not check.
        """
        excess = interruption - self._heartbeat
        if excess > 0:
            now = self._store.fs.monotonic()
            for seen in self._observations.values():
                seen.since = min(seen.since + excess, now)
