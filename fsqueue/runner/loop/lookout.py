"""Counts the spool for everyone who looks at it. Only the worker in charge of upkeep does that."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from fsqueue.errors import FSQueueError, SpoolError
from fsqueue.runner.processes.threads import start_threads
from fsqueue.spool.admin.census import OFTEN
from fsqueue.spool.admin.glance import Looks, write_latest
from fsqueue.spool.history.gauges import Gauge, QueueGauge, append_gauge

if TYPE_CHECKING:
    from fsqueue.config import Config
    from fsqueue.spool.admin.glance import Glance
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.registration import Worker

log: logging.Logger = logging.getLogger(__name__)

# Counting takes at most this share of the time.
_REST = 10
_GAUGE_BEATS = 5
# Seconds for which a leaving worker waits for a count that is in progress.
_LAST_COUNT = 1.0


class Lookout:
    """Writes the latest glance at every heartbeat, and a line of gauges at every fifth.

    On a network filesystem it writes both at every fifth, because each file operation is a request.

    Args:
        worker: the worker that counts.
        conf: the heartbeat, and the time to live of results.
    """

    def __init__(self, store: Store, worker: Worker, conf: Config) -> None:
        self._store, self._worker, self._keep = store, worker, conf.journal_ttl > 0
        self._every = conf.heartbeat * (_GAUGE_BEATS if store.fs.remote else 1)
        self._gauge_every = conf.heartbeat * _GAUGE_BEATS
        self._looks = Looks(
            store, heartbeat=conf.heartbeat, result_ttl=conf.result_ttl, bounds=OFTEN
        )
        self._next = self._next_gauge = float("-inf")
        self._wrote = self._failing = False
        self._thread: threading.Thread | None = None

    def watch_aside(self) -> None:
        """Call `watch`, in a separate thread on a network filesystem.

        An NFSv4 server may delegate an open file to its client. If that host dies, reading the file
        blocks until its lease ends on the server. Returning the host's calls must not wait for
        that.
        """
        if not self._store.fs.remote:
            self.watch()
        elif self._is_due() and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._watch, name="fsqueue-look", daemon=True)
            try:
                start_threads(self._thread)
            except FSQueueError as error:
                log.debug("cannot count for those who look: %s", error)

    def _watch(self) -> None:
        try:
            self.watch()
        except SpoolError as error:  # upkeep notices it, too
            log.debug("cannot count for those who look: %s", error)

    def _is_due(self) -> bool:
        return self._keep and self._store.fs.monotonic() >= self._next

    def watch(self) -> None:
        """Count and write when it is due; if that fails, the next call tries again."""
        if not self._is_due():
            return
        now = self._store.fs.monotonic()
        self._next = now + self._every
        try:
            self._count(now)
            self._failing = False
        except OSError as error:
            if not self._failing:  # logged once, as a full disk would fill the log
                log.warning("cannot count for those who look, trying again: %s", error)
            self._failing = True

    def _count(self, now: float) -> None:
        glance = self._looks.take(self._worker.name)
        self._next = now + max(self._every, _REST * glance.took)
        self._wrote = True
        write_latest(self._store, glance)
        if now >= self._next_gauge:
            self._next_gauge = now + self._gauge_every
            append_gauge(self._store, self._worker.name, _gauge_of(glance))

    def leave(self) -> None:
        """Remove the glance, because it shows a worker that is about to leave.

        If the process dies before this, readers use the glance until it is half a minute old. If
        another worker replaced it meanwhile, its glance is missing until its next heartbeat.
        """
        fs, layout = self._store.fs, self._store.layout
        if self._thread is not None:
            self._thread.join(_LAST_COUNT)
            if self._thread.is_alive():
                log.info("%s stays: the file server does not answer", layout.latest)
                return
        if self._wrote:
            try:
                if fs.is_folder(layout.journal_folder):  # not a link out of the spool
                    fs.discard(layout.latest)
            except OSError as error:
                log.info("%s stays: %s", layout.latest, error)


def _gauge_of(glance: Glance) -> Gauge:
    snapshot, counts = glance.snapshot, glance.snapshot.counts
    alive = [each for each in snapshot.workers if each.is_alive]
    return Gauge(
        at=round(snapshot.time, 3),
        queues={
            each.name: QueueGauge(
                due=each.due,
                delayed=each.delayed,
                waiting=each.waiting,
                oldest=round(each.oldest or 0.0, 3),
                workers=each.workers,
                paused=each.paused,
                estimated=not each.exact,
            )
            for each in snapshot.queues
        },
        workers=len(alive),
        slots=sum(each.slots for each in alive),
        busy=sum(each.held for each in alive),
        parked=counts.parked,
        failed=counts.failed,
        quarantined=counts.quarantined,
        done=counts.waiting,
        kept=counts.kept,
        took=glance.took,
    )
