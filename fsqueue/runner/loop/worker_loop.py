"""The claim loop of a worker, from its registration to its departure."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError, SpoolReplacedError
from fsqueue.runner.attempt import context, journal_entries
from fsqueue.runner.attempt.context import WorkerContext
from fsqueue.runner.attempt.execute import Ending, remove_cancelled, settle_timed_out
from fsqueue.runner.attempt.live import ended_elsewhere
from fsqueue.runner.attempt.resource_pool import ResourcePool, claim_within
from fsqueue.runner.loop.bells import WorkerBells
from fsqueue.runner.loop.give_back import drop_cancelled, give_all_back, give_back
from fsqueue.runner.loop.thread_pacing import ThreadPacer
from fsqueue.runner.loop.trigger_thread import TriggerThread
from fsqueue.runner.loop.upkeep import Upkeep
from fsqueue.runner.processes.signals import catching
from fsqueue.runner.slots.process_slots import ProcessSlots
from fsqueue.runner.slots.thread_slots import Slots, ThreadSlots
from fsqueue.spool.features.body_reports import drop_progress
from fsqueue.spool.format.resources import profile_of
from fsqueue.spool.history.journal import Journal
from fsqueue.spool.store.opening import check_folder
from fsqueue.spool.worker.reaper import give_back_of_processes
from fsqueue.spool.worker.registration import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsqueue.runner.host import Host
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.history.journal import Entry
    from fsqueue.spool.worker.backlog import Backlogs

log = logging.getLogger(__name__)

_FIRST_PAUSE_POLLING = 0.001
_FIRST_PAUSE_EVENTS = 0.02
_GROWTH = 1.3
# Seconds for which the queues count as empty. Shorter than any pause of the claim loop.
_RECHECK_AFTER = 0.0009
_SETTLED = {Ending.FINISHED, Ending.GIVEN_BACK, Ending.WAITS, Ending.UNWANTED}


class WorkerLoop:
    """One run of a worker, from its registration to its departure."""

    def __init__(
        self, host: Host, kind: str, concurrency: int, backlogs: Backlogs, budget: ResourcePool
    ) -> None:
        self._host, self._kind, self._concurrency = host, kind, concurrency
        self._store = host.store
        self._backlogs, self._budget = backlogs, budget
        self._worker = Worker(
            self._store,
            queues=backlogs.queues,
            runner=kind,
            concurrency=concurrency,
            resources=profile_of(budget.total),
        )
        conf, keep = host.conf, host.conf.journal_ttl > 0
        self._journal = Journal(self._store, concurrency, heartbeat=conf.heartbeat, keep=keep)
        self._context = WorkerContext(
            store=self._store,
            worker=lambda: self._worker,
            resolve=host.resolve,
            unpickles=host.unpickles,
            app_id=host.app_id,
            exclusive=threading.current_thread() is threading.main_thread(),
            record_attempt=self._record_attempt,
            ended=host.triggers.ended,
        )
        self._pacer = ThreadPacer(waits=self._store.fs.remote or self._store.fs.durable)
        self._mutex = threading.Lock()
        self._busy = 0
        self._full = False
        self._dependencies = self._store.dependencies
        self._empty_since, self._empty_until = -1, 0.0
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._bells = WorkerBells(host, backlogs, self._wake, with_resources=bool(budget.total))
        self._slots: Slots | None = None
        self._upkeep: Upkeep | None = None
        self._triggers = TriggerThread(host)
        self._request_drain: Callable[[], object] | None = None
        self._replaced: SpoolReplacedError | None = None
        self._context.budget = budget
        budget.on_give = self._wake.set

    @property
    def stopping(self) -> bool:
        """Whether it has stopped claiming."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Make `run` return, after the running bodies have finished. From any thread."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """Claim and run calls in this thread; see `Runner.run`."""
        with catching() as signals:
            if signals is None:
                self._run(lambda: self.drain("a request"))
                return
            with signals.acting_on(self, self._host.conf.stop_grace):
                self._run(signals.ask)

    def _run(self, request_drain: Callable[[], object]) -> None:
        for queue in self._backlogs.queues:
            # Before the first listing: an NFS client remembers a missing folder for half a minute.
            folder = self._store.layout.queue(queue)
            self._store.files.make_folders(folder)
            check_folder(self._store.fs, folder)
        self._dependencies.watch()
        slots = self._slots = self._make_slots()
        try:
            self._worker.register()
            self._journal.begin()
            upkeep = self._start_upkeep()
        except BaseException:
            slots.close()
            raise
        self._triggers.start_if_needed()
        context.enter(self._context)
        try:
            with self._drainable(request_drain), self._bells.listening() as heard:
                name, root = self._worker.name, self._store.layout.root
                text = "worker %s serves %s with %d %s slots"
                log.info(text, name, root, self._concurrency, self._kind)
                self._loop(slots, _FIRST_PAUSE_EVENTS if heard else _FIRST_PAUSE_POLLING)
                if self._replaced is None:
                    # The worker still beats and handles signals here: bodies may take their time.
                    slots.close()
                    self._triggers.stop()
        except BaseException:
            slots.drop()  # no body may go on when its call is given back
            raise
        finally:
            context.leave(self._context)
            self._triggers.stop()
            upkeep.stop()
            if self._replaced is None:
                self._leave(upkeep)
            else:
                self._abandon(slots)
        if self._replaced is not None:
            raise self._replaced

    def _start_upkeep(self) -> Upkeep:
        self._upkeep = Upkeep(
            self._store,
            self._worker,
            self._host.conf,
            self._bells.announce_pending,
            self._end_cancelled,
            self._drain_as_asked,
            lambda: self._journal.flush(self._worker.name),
            self._lose_spool,
        )
        self._upkeep.start()
        return self._upkeep

    def _lose_spool(self, error: SpoolReplacedError) -> None:
        """End the run: the root holds another spool. Called by upkeep."""
        self._replaced = error
        self.stop()

    def _abandon(self, slots: Slots) -> None:
        """Leave without touching the spool, which has been replaced by another one."""
        self._context.aborted.set()
        self._dependencies.unwatch()
        slots.drop()
        self._worker.abandon()

    def _leave(self, upkeep: Upkeep) -> None:
        self._dependencies.unwatch()
        drop_cancelled(self._context, self._worker)
        give_all_back(self._store, self._worker)
        self._worker.deregister()
        self._journal.close(self._worker.name)
        if self._kind == "process":
            # The slot processes were killed and could not clean up.
            upkeep.clear_up_slots()
        worker, text = self._worker, "worker %s has left; calls claimed: %d, lost to others: %d"
        log.info(text, worker.name, worker.claimed, worker.lost)

    def _make_slots(self) -> Slots:
        if self._kind == "process":
            return ProcessSlots(
                self._host,
                self._concurrency,
                self._finished,
                self._journal.add,
                self._budget if self._budget.total else None,
                self._wake.set,
            )
        return ThreadSlots(
            self._context, self._concurrency, self._next_claim_of_thread, self._finished
        )

    # -- claiming -----------------------------------------------------------------------

    def _loop(self, slots: Slots, first_pause: float) -> None:
        pause = first_pause
        while not self._stopping.is_set():
            self._bells.refresh_dependencies()
            claim = self._next_claim()
            if claim is not None:
                self._journal.hold(1)
                slots.start(claim)
                pause = first_pause
                while self._kind == "thread" and self._pacer.keeps_up(self._wake, self._is_at_work):
                    self._bells.refresh_dependencies()
                continue
            with self._mutex:
                self._full = self._busy >= self._concurrency
            until_due = self._backlogs.next_due - self._store.fs.monotonic()
            rung = self._wake.wait(max(0.0, min(pause, until_due)))
            self._wake.clear()
            slots.check()
            self._triggers.start_if_needed()
            pause = first_pause if rung else min(pause * _GROWTH, self._host.conf.poll_interval)

    def _is_at_work(self) -> bool:
        return self._busy > 0 and not self._stopping.is_set()

    def _next_claim_of_thread(self) -> Claim | None:
        """The next claim for a thread that has just finished one; None if it should idle."""
        with self._mutex:
            leaves = self._pacer.is_too_large(self._busy)
            if leaves and self._full:
                self._wake.set()  # the claim loop checks again whether the other threads keep up
        claim = None if leaves else self._next_claim()
        if claim is None:
            self._journal.hold(-1)
        return claim

    def _next_claim(self) -> Claim | None:
        """Claim the next call and take a slot for it; None if there is no free slot or no call."""
        with self._mutex:
            if self._busy >= self._concurrency or self._stopping.is_set():
                return None
            if self._slots is not None and not self._slots.has_room():
                return None
            self._busy += 1
        try:
            claim = self._claim()
        except PermissionError as error:
            self._store.files.pass_over(error.filename, error)
            claim = None
        except (OSError, SpoolError) as error:
            log.warning("cannot claim, trying again: %s", error)
            claim = None
        if claim is None:
            self._free_slot()
        return claim

    def _free_slot(self, *, quietly: bool = False) -> None:
        with self._mutex:
            self._busy -= 1
            if self._full and not quietly:
                self._wake.set()

    def _claim(self) -> Claim | None:
        rings = self._bells.count
        if self._empty_since == rings and time.monotonic() < self._empty_until:
            return None  # another thread has just found the queues empty
        for origin in self._backlogs:
            try:
                claim = claim_within(self._budget, self._worker, origin)
            except OSError:
                self._backlogs.defer(origin)
                raise
            if claim is not None:
                return claim
        self._empty_since, self._empty_until = rings, time.monotonic() + _RECHECK_AFTER
        return None

    # -- endings ------------------------------------------------------------------------

    def _record_attempt(self, entry: Entry) -> None:
        """Record an attempt that has an answer."""
        self._pacer.add(entry.run)
        self._journal.add(entry)

    def _finished(self, claim: Claim, ending: Ending | BaseException) -> None:
        try:
            self._settle(claim, ending)
        except (OSError, SpoolError) as error:
            log.error("cannot settle %s, upkeep will: %s", claim.name, error)  # noqa: TRY400
        finally:
            self._worker.forget(claim.name)
            self._budget.give(str(claim.name))
            self._pacer.ended += 1
            if self._kind == "process":
                self._journal.hold(-1)
                self._free_slot()
            else:
                self._free_slot(quietly=True)  # its thread claims the next call itself

    def _settle(self, claim: Claim, ending: Ending | BaseException) -> None:
        """Release a claim, and give back or requeue what its slot did not finish.

        The claim is released whatever the ending is. A slot process cannot release it, and nothing
        else releases an attempt that has vanished. The worker would give back a claim that it
        still had when it stops.
        """
        if ending is Ending.UNWANTED and self._upkeep is not None:
            self._upkeep.clear_up_after(claim.name.invocation_id)
        if self._kind == "process" and ending in {Ending.FINISHED, Ending.UNWANTED}:
            self._dependencies.ended(
                claim.name.invocation_id
            )  # the slot process does not check for waiting calls
        held = self._worker.release(claim)
        if ending in _SETTLED or not held:
            return
        drop_progress(self._store.files, claim.name)
        if ending is Ending.UNREADABLE:
            self._backlogs.skip(claim.name)
            give_back(self._store, claim)
        elif ending is Ending.CANCELLED:
            remove_cancelled(self._context, claim)
        elif ending is Ending.TIMED_OUT:
            settle_timed_out(self._context, claim)
        elif ending is Ending.NOT_STARTED or self._stopping.is_set():
            give_back(self._store, claim)
        else:
            reason = f"its slot failed: {ending}"
            log.warning("%s: %s", claim.name, reason, extra=claim.tags)
            self._journal.add(journal_entries.lost(self._store, claim))
            self._store.recover(claim.path, claim.name, reason)

    def _end_cancelled(self) -> None:
        """End the executions of calls that have been cancelled, or finished elsewhere."""
        leaving = self._stopping.is_set()
        for claim in ended_elsewhere(self._store, self._worker, leaving=leaving):
            if self._slots is not None:
                self._slots.cancel(claim)

    # -- signals ------------------------------------------------------------------------

    @contextlib.contextmanager
    def _drainable(self, request_drain: Callable[[], object]) -> Iterator[None]:
        """In the block, let other processes ask this worker to drain."""
        with self._mutex:
            self._request_drain = request_drain
        try:
            yield
        finally:
            with self._mutex:
                self._request_drain = None

    def _drain_as_asked(self) -> bool:
        with self._mutex:
            if self._request_drain is None:
                return False  # it has not begun yet, or is leaving
            log.info("worker %s was asked to drain", self._worker.name)
            self._request_drain()
            return True

    def drain(self, why: str) -> None:
        """Stop because of a signal or a request of another process."""
        text = (
            "stopping on %s; running calls get %g s to finish: %d; a second SIGTERM stops at once"
        )
        log.info(text, why, self._host.conf.stop_grace, self._busy)
        self.stop()

    def _give_all_back(self, processes: set[int]) -> None:
        if self._worker.name:
            give_all_back(self._store, self._worker)
            give_back_of_processes(self._store, processes)
            self._worker.deregister()
            self._journal.close(self._worker.name)

    def abort(self, status: int, why: str) -> None:
        """Give everything back and end the process, since threads cannot be killed."""
        try:
            log.warning("%s: giving the running calls back at once", why)
            self._stopping.set()
            self._context.aborted.set()
            if self._slots is None:
                self._give_all_back(set())
            else:
                self._slots.kill(self._give_all_back)
        except OSError as error:
            log.error("cannot give the calls back, a reaper will: %s", error)  # noqa: TRY400
        finally:
            os._exit(status)
