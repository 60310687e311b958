"""Stops a worker: it claims no more calls, and gives back what does not finish."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from functools import partial
from typing import TYPE_CHECKING

from fsqueue.runner.loop.give_back import drop_cancelled, give_all_back, give_path_back
from fsqueue.spool.worker.reaper import give_back_of_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsqueue.errors import SpoolReplacedError
    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.runner.job.lifetime import Departure
    from fsqueue.runner.job.own_job import OwnJob
    from fsqueue.runner.slots.thread_slots import Slots
    from fsqueue.spool.fleets.records import EndReason
    from fsqueue.spool.history.journal import Journal
    from fsqueue.spool.wakeups.watching import Alarm
    from fsqueue.spool.worker.registration import Worker

log: logging.Logger = logging.getLogger(__name__)


class Stopping:
    """The end of one run of a worker. Its methods may be called from any thread.

    A run ends in three steps. First it stops claiming calls; whatever the reason, this happens in
    `claim_no_more`. Then the running bodies go on for as long as the cause of the stop allows.
    Finally, calls that have not finished are given back: in `abort`, which ends the process, or in
    `leave`.

    Args:
        context: the worker, as bodies see it.
        worker: holds the claims.
        journal: the journal of calls that the worker has finished.
        wake: wakes the claim loop to notice a change.
        grace: seconds that running bodies get to finish.
        job: its batch job.
        report: reports to the fleet why the worker leaves; called before it leaves the spool.

    Attributes:
        why: why the worker has stopped claiming; empty while it claims.
        reason: the same in one word, for statistics of fleets.
        replaced: the error if the root now holds another spool; otherwise None.
    """

    def __init__(
        self,
        context: WorkerContext,
        worker: Worker,
        journal: Journal,
        wake: Alarm,
        grace: float,
        job: OwnJob,
        report: Callable[[EndReason], object],
    ) -> None:
        self._context, self._worker, self._journal = context, worker, journal
        self._store, self._wake, self._grace = context.store, wake, grace
        self._job, self._report = job, report
        self._mutex = threading.RLock()  # reentrant: a request to drain comes back here
        self._aborting = threading.Lock()
        self._asked = ""
        self._slots: Slots | None = None
        self._request_drain: Callable[[], object] | None = None
        self.why: str = ""
        # The reason stays "error" unless another one is given.
        self.reason: EndReason = "error"
        self.replaced: SpoolReplacedError | None = None

    def claim_no_more(self, why: str, reason: EndReason) -> bool:
        """Stop claiming; `WorkerLoop.run` returns when the running bodies have finished.

        Returns:
            False if it had already stopped, for another reason.
        """
        with self._mutex:
            if first := not self.why:
                self.why, self.reason = why, reason
        self._wake.set()
        return first

    # -- reasons ------------------------------------------------------------------------

    def drain(self, why: str) -> None:
        """Stop because of a signal or a request of another process."""
        text = (
            "stopping on %s; running calls get %g s to finish: %d; a second SIGTERM stops at once"
        )
        self.claim_no_more(self._asked or why, "drained" if self._asked else "signal")
        log.info(text, self._asked or why, self._grace, len(self._worker.claims))

    def close(self, why: str) -> float:
        """Stop because the batch system has announced the end of the job.

        Returns:
            Seconds until `abort`. If the end of the job is known, it counts, because the
            announcement may come much too early.
        """
        left, until = self._grace, "stop_grace is over"
        if self._job.end.known:
            left = max(0.0, self._job.end.last_call - self._store.fs.monotonic())
            until = "the job ends"
        text = "stopping on %s; running calls get %.4g s to finish, until %s: %d"
        self.claim_no_more(why, "walltime")
        log.info(text, why, left, until, len(self._worker.claims))
        return left

    def depart(self, departure: Departure) -> None:
        """Stop because the worker itself has a reason. Its running bodies may finish."""
        if self.claim_no_more(departure.text, departure.reason):
            text = "this worker leaves: %s; running calls: %d"
            log.info(text, departure.text, len(self._worker.claims))

    def lose_spool(self, error: SpoolReplacedError) -> None:
        """Stop because the root holds another spool."""
        self.replaced = error
        self.claim_no_more(str(error), "error")

    @contextlib.contextmanager
    def on_request(self, request_drain: Callable[[], object]) -> Iterator[None]:
        """In the block, let other processes ask this worker to drain."""
        with self._mutex:
            self._request_drain = request_drain
        try:
            yield
        finally:
            with self._mutex:
                self._request_drain = None

    def drain_as_asked(self, why: str = "a request to drain") -> bool:
        """Drain because another process has asked; False if that is not possible now."""
        with self._mutex:
            if self._request_drain is None:
                return False  # the worker has not begun yet, or is leaving
            log.info("worker %s was asked to drain", self._worker.name)
            self._asked = self._asked or why
            self._request_drain()
            return True

    # -- the end ------------------------------------------------------------------------

    def have(self, slots: Slots) -> None:
        """Set the slots that `abort` ends."""
        self._slots = slots

    def abort(self, status: int, why: str, reason: EndReason = "signal") -> None:
        """Give everything back and end the process, since threads cannot be killed.

        If two threads call this, the first one ends the process, and the other waits for that.
        """
        self._aborting.acquire()
        try:
            log.warning("%s: giving the running calls back at once", why)
            self.claim_no_more(why, reason)
            self._context.aborted.set()
            if self._slots is None:
                self._give_all_back(set())
            else:
                self._slots.kill(self._give_all_back)
        except OSError as error:
            log.error("cannot give the calls back, a reaper will: %s", error)  # noqa: TRY400
        finally:
            os._exit(status)

    def _give_all_back(self, processes: set[int]) -> None:
        if self._worker.name:
            # Even if a signal ends the bodies now: the job's end was near, and they were too long.
            ended = self._job.ended() if self.reason == "walltime" else None
            give_all_back(self._store, self._worker, ended)
            give_back_of_processes(
                self._store, processes, partial(give_path_back, self._store, ended)
            )
            self._report(self.reason)
            self._worker.deregister()
            self._journal.close(self._worker.name)

    def leave(self) -> None:
        """Leave the spool after the slots were closed; give back what they have not finished."""
        drop_cancelled(self._context, self._worker)
        give_all_back(self._store, self._worker)
        self._report(self.reason)
        self._worker.deregister()
        self._journal.close(self._worker.name)

    def abandon(self, slots: Slots) -> None:
        """Leave without touching the spool, which has been replaced by another one."""
        self._context.aborted.set()
        slots.drop()
        self._worker.abandon()
