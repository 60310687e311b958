"""Upkeep of a worker: heartbeats, returning the calls of dead workers, and cleaning up."""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.errors import FSQueueError, SpoolReplacedError
from fsqueue.runner.loop.lookout import Lookout
from fsqueue.runner.processes.threads import start_threads
from fsqueue.spool.disk.identity import this_process
from fsqueue.spool.disk.listing import Listing
from fsqueue.spool.wakeups.process_ends import ProcessEnds
from fsqueue.spool.worker import space
from fsqueue.spool.worker.distant_callers import DistantCallers
from fsqueue.spool.worker.expiry import expire, remove_gone_clients
from fsqueue.spool.worker.limit_upkeep import LimitUpkeep
from fsqueue.spool.worker.liveness import Observer, watchers
from fsqueue.spool.worker.reaper import reap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fsqueue.config import Config
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.registration import Worker

log: logging.Logger = logging.getLogger(__name__)

# Seconds in which the cancellation of a running call is noticed on a local disk.
_TICK = 0.25
_DISCOVER_LOCALLY = 0.5
# Seconds after its last claim for which a worker still checks for cancellations.
_ALERT = 5.0
# A thread rests at least this long between two rounds of duties, however long they take.
_REST = 0.05
_EXPIRE_EVERY = 300.0
_BEATS_TO_TAKE_OVER = 3


def _nothing(*_: object) -> None:
    pass


class Callbacks(NamedTuple):
    """The functions of the worker that upkeep calls."""

    announce_pending: Callable[[], object] = _nothing
    """Wakes workers when calls have become pending again."""
    end_cancelled: Callable[[], None] = _nothing
    """Ends the executions of cancelled calls."""
    clear_up: Callable[[], None] = _nothing
    """Removes the results of clients that are gone."""
    drain: Callable[[], bool] = lambda: False
    """Called when another process asks this worker to finish and leave, until it returns True."""
    flush: Callable[[], None] = _nothing
    """Writes the journal if that is due; called up to four times per heartbeat."""
    look_at_fleet: Callable[[], None] = _nothing
    """Drains the worker if its fleet is stopped, or cancels its job."""
    on_replaced: Callable[[SpoolReplacedError], object] = _nothing
    """Called when the root turns out to hold another spool, which ends upkeep."""
    note_peers: Callable[[int], object] = _nothing
    """Called with the number of workers like this one on its host."""


class Upkeep:
    """Sends heartbeats, reaps dead workers and expires files while a worker runs.

    Heartbeats have a separate thread: reaping may have to wait for the file server, and the worker
    must not be considered dead meanwhile.

    On each host, the two worker processes that have served the longest are the elders. The kernel
    notifies them of the end of every other worker process, and notifies all others of the end of an
    elder; see `ProcessEnds`. In case both elders are suspended, all workers of the host also check
    each other from time to time; the more there are, the more rarely each does.

    Two workers on two hosts watch the other hosts, see `watchers`, and touch the upkeep stamp. If
    the stamp is not touched, another worker stands in. The first of the watchers is the leader,
    which also cleans up. Nothing breaks if several workers do this at once.

    Args:
        worker: the worker that does the upkeep.
        conf: heartbeat, lease and times to live.
        callbacks: functions of the worker's loop.
    """

    def __init__(
        self,
        store: Store,
        worker: Worker,
        conf: Config,
        callbacks: Callbacks,
    ) -> None:
        self._store, self._worker, self._conf = store, worker, conf
        self._callbacks, self._draining = callbacks, False
        self._marks = Listing(store.fs, store.layout.locks_folder)
        self._observer = Observer(store, heartbeat=conf.heartbeat, lease=conf.lease)
        self._limits = LimitUpkeep(store)
        self._callers = DistantCallers(store, lease=conf.lease)
        self._lookout = Lookout(store, worker, conf)
        self._stop = threading.Event()
        self._own, self._ends = this_process(), ProcessEnds()
        self._is_elder = True
        self._claimed, self._alert_until = 0, 0.0
        self._slept = 0.0
        self._standing_in = False
        self._leading = False
        self._patience = conf.heartbeat * (_BEATS_TO_TAKE_OVER + random.random())  # noqa: S311
        self._reap_again: dict[str, float] = {}
        self._last_pass = store.fs.monotonic()
        # The first pass comes late, so a short-lived worker does not expire files.
        self._due: dict[Callable[[], None], float] = {self._expire: self._last_pass + _EXPIRE_EVERY}
        self._threads = [
            threading.Thread(target=self._beat, name="fsqueue-beat", daemon=True),
            threading.Thread(target=self._run, name="fsqueue-upkeep", daemon=True),
        ]

    def start(self) -> None:
        """Start the threads.

        Raises:
            FSQueueError: this process cannot start the threads. The worker was deregistered: with
                heartbeats alone it would look alive, and without them dead.
        """
        try:
            start_threads(*self._threads)
        except FSQueueError:
            self._end_threads()
            self._worker.deregister()
            raise

    def stop(self) -> None:
        """Stop the threads and wait for their end."""
        self._end_threads()
        self._lookout.leave()
        self._callbacks.clear_up()

    def _end_threads(self) -> None:
        self._stop.set()
        self._ends.wake()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._worker.on_claim = None

    def reap_here(self) -> None:
        """Return the calls that dead processes of this host held."""
        self._reap(self._observer.dead_here())

    def clear_up_slots(self) -> None:
        """Remove the leftovers of this worker's slot processes, which have ended."""
        self.discover()
        self.reap_here()
        remove_gone_clients(self._store)

    def _reap_ended(self) -> None:
        self._reap(self._observer.dead_here(self._ends.ended()))

    def discover(self) -> None:
        """List the workers."""
        self._observer.discover(but=self._worker.name)

    def _beat(self) -> None:
        pause, beat = _TICK, self._conf.heartbeat
        duties = (self._worker.keep_alive, self._check_for_drain, self._callbacks.look_at_fleet)
        while not self._stop.wait(pause):
            for duty in self._due_now(duties):
                self._perform(duty, beat)
            pause = self._until_due(duties)

    def _run(self) -> None:
        while not self._stop.is_set():
            alert = self._is_alert()
            duties = self._duties(alert=alert)
            self._notice_pause()
            for duty in self._due_now(duties):
                self._notice_pause()
                self._perform(duty, duties[duty])
            self._is_elder = self._watch_processes()
            pause = self._until_due([duty for duty, every in duties.items() if every])
            self._slept = min(pause, _TICK) if alert else pause
            self._ends.wait(self._slept)
        self._ends.watch(())

    def _duties(self, *, alert: bool) -> dict[Callable[[], None], float]:
        """The duties besides heartbeats, each with the seconds between two rounds."""
        beat, remote = self._conf.heartbeat, self._store.fs.remote
        rarely = max(beat, _TICK * len(self._observer.records))
        elder = self._is_elder
        # An idle worker on a local disk that is not an elder has nothing else to do at each beat.
        often = beat if alert or elder or remote or self._standing_in else rarely
        duties = {
            self.discover: rarely
            if not elder
            else beat
            if remote
            else min(beat, _DISCOVER_LOCALLY),
            self._reap_ended: 0.0,
            self.reap_here: rarely,
            self._callbacks.end_cancelled: beat if remote else 0.0,
        }
        common = (self._lead, self._repair_limits, self._check_dependencies)
        duties |= dict.fromkeys((*common, self._callbacks.clear_up), often)
        return duties | {
            self._check_callers: self._conf.lease,
            self._write_journal: 0.0 if alert else often,  # writes early if there is much
            self._count: often,
            self._expire: _EXPIRE_EVERY,
        }

    def _is_alert(self) -> bool:
        """Whether the worker holds claims, or claimed a call recently.

        If not, its next claim wakes this thread.
        """
        now = self._store.fs.monotonic()
        self._worker.on_claim = self._ends.wake  # before the claims are counted
        if self._worker.claimed != self._claimed or self._worker.claims:
            self._claimed, self._alert_until = self._worker.claimed, now + _ALERT
        alert = now < self._alert_until
        if alert:
            self._worker.on_claim = None
        return alert

    def _watch_processes(self) -> bool:
        """Watch this worker's share of the processes; whether those are all of this host."""
        elders = self._observer.elders(self._worker.record, self._reap_again)
        elder = self._own in elders
        if self._worker.record is not None:
            self._callbacks.note_peers(self._observer.peers(self._worker.record))
        watched = self._observer.processes_here(None if elder else self._reap_again)
        self._ends.watch((watched if elder else watched.union(elders)) - {self._own})
        return elder

    def _until_due(self, duties: Sequence[Callable[[], None]]) -> float:
        now = self._store.fs.monotonic()
        due = [self._due.get(duty, now) for duty in duties]
        return max(_REST, min(due) - now)

    def _due_now(self, duties: Iterable[Callable[[], None]]) -> list[Callable[[], None]]:
        """Those to perform in this pass: all that are due at nearly the same time."""
        soon = self._store.fs.monotonic() + _REST
        return [duty for duty in duties if self._due.get(duty, soon) <= soon]

    def _notice_pause(self) -> None:
        now = self._store.fs.monotonic()
        self._observer.excuse(now - self._last_pass - self._slept)
        self._last_pass, self._slept = now, 0.0

    def _perform(self, duty: Callable[[], None], every: float) -> None:
        if self._stop.is_set():
            return
        now = self._store.fs.monotonic()
        due = self._due.get(duty, now)
        # Relative to the previous due time: the average period must not depend on the ticks.
        self._due[duty] = max(due + every, now)
        try:
            duty()
        except SpoolReplacedError as error:
            self._stop.set()
            self._callbacks.on_replaced(error)
        except OSError as error:
            # A failed round must not end heartbeats or claiming; the next round tries again.
            log.warning("upkeep: %s failed, trying again: %s", duty.__name__, error)
        except Exception:
            log.exception("upkeep: %s failed", duty.__name__)

    def _lead(self) -> None:
        stamp = self._store.layout.upkeep_stamp
        still = self._observer.unchanged_for(stamp)
        self._standing_in = still > 0 and (self._standing_in or still > self._patience)
        appointed = self._appointed()
        self._leading = self._standing_in or appointed[0] == self._worker.name
        if self._leading or self._worker.name in appointed:
            dead = self._observer.dead_elsewhere()
            if self._standing_in or len(appointed) == 1:
                dead |= self._observer.silent_here()  # no other host watches this host
            self._reap(dead)
            self._stamp(stamp)
            self._observer.unchanged_for(stamp)

    def _stamp(self, path: str) -> None:
        """Set the time of a file that all watchers share; create it if it is missing."""
        try:
            self._store.fs.set_time(path, None)
        except FileNotFoundError:
            self._store.files.check_spool()
            self._store.files.touch(path)

    def _appointed(self) -> list[str]:
        """The names of the watchers, without dead workers whose calls could not be returned."""
        others = self._observer.records
        records = [others[name] for name in others.keys() - self._reap_again.keys()]
        return watchers(filter(None, [self._worker.record, *records])) or [""]

    def _repair_limits(self) -> None:
        if self._leading:
            self._limits.round()

    def _count(self) -> None:
        if self._leading:
            self._lookout.watch_aside()

    def _check_callers(self) -> None:
        if self._leading:
            self._callers.round()

    def _check_dependencies(self) -> None:
        """Check whether calls wait for others, and release those that were missed."""
        dependencies = self._store.dependencies
        dependencies.rotate()
        if self._leading or dependencies.has_waiters or not dependencies.bell_works:
            waited_for = dependencies.refresh()
            if self._leading:
                dependencies.recover(waited_for)

    def _check_for_drain(self) -> None:
        name = self._store.layout.drain(self._worker.name).rpartition("/")[2]
        wanted = not self._draining and name in self._marks.names()
        self._draining = self._draining or (wanted and self._callbacks.drain())

    def _write_journal(self) -> None:
        try:
            self._callbacks.flush()
        except OSError as error:
            log.info("the journal is written later: %s", error)

    def _expire(self) -> None:
        if self._leading:
            conf = self._conf
            expire(self._store, result_ttl=conf.result_ttl, journal_ttl=conf.journal_ttl)
            store = self._store
            full = space.warning(store.fs, store.layout, store.clock.now(), conf.result_ttl)
            if full:
                log.warning("%s", full)

    def _reap_one(self, worker: str, reason: str) -> int:
        try:
            return reap(self._store, worker, reason)
        except (
            IsADirectoryError,
            PermissionError,
        ) as error:  # the calls of other workers must still be returned
            self._store.files.pass_over(self._store.layout.running(worker), error)
            return 0

    def _reap(self, dead: dict[str, str]) -> None:
        now = self._store.fs.monotonic()
        returned = 0
        for worker, reason in dead.items():
            # A call that cannot be returned, such as one of another version, is tried again later.
            if now >= self._reap_again.get(worker, 0.0):
                self._reap_again[worker] = now + self._conf.heartbeat
                returned += self._reap_one(worker, reason)
        if dead:
            self.discover()
            left = self._observer.records
            self._reap_again = {name: at for name, at in self._reap_again.items() if name in left}
        if returned:
            self._callbacks.announce_pending()
