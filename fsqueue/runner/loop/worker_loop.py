"""The claim loop of a worker, from its registration to its departure."""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from typing import TYPE_CHECKING

from fsqueue.runner.attempt import context
from fsqueue.runner.attempt.answers import NOT_RUN, Ending
from fsqueue.runner.attempt.context import WorkerContext
from fsqueue.runner.attempt.endings import settle
from fsqueue.runner.attempt.execute import execute
from fsqueue.runner.host import apps_of, resolver_of
from fsqueue.runner.job.lifetime import Departure, Lifetime
from fsqueue.runner.job.own_job import OwnJob
from fsqueue.runner.loop.bells import WorkerBells
from fsqueue.runner.loop.claim_ledger import ClaimLedger
from fsqueue.runner.loop.claiming import Claiming
from fsqueue.runner.loop.dozing import Dozing
from fsqueue.runner.loop.lingering import Lingering
from fsqueue.runner.loop.resting import Resting
from fsqueue.runner.loop.settling import Settling
from fsqueue.runner.loop.stopping import Stopping
from fsqueue.runner.loop.thread_pacing import ThreadPacer
from fsqueue.runner.loop.trigger_thread import TriggerThread
from fsqueue.runner.loop.upkeep import Callbacks, Upkeep
from fsqueue.runner.processes.signals import catching
from fsqueue.runner.shared.live import ended_elsewhere
from fsqueue.runner.slots.messages import Grant
from fsqueue.runner.slots.process_slots import ProcessSlots
from fsqueue.runner.slots.self_claiming import QUICK
from fsqueue.runner.slots.slot_main import Setup
from fsqueue.runner.slots.thread_slots import Slots, ThreadSlots
from fsqueue.spool.disk.listing import Listing
from fsqueue.spool.history.journal import Journal
from fsqueue.spool.store.open_spool import check_folder
from fsqueue.spool.wakeups.pauses import GROWTH, first_pause
from fsqueue.spool.wakeups.watching import Alarm

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.host import Host
    from fsqueue.runner.loop.worker_options import WorkerOptions
    from fsqueue.spool.fleets.records import EndReason
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.history.entries import Entry

log: logging.Logger = logging.getLogger(__name__)


class WorkerLoop:
    """One run of a worker, from its registration to its departure.

    A thread slot takes a call from its claim to its result in `_run_claim`; a slot process does the
    same in `slot_main`.

    Args:
        options: what the worker serves.
    """

    def __init__(self, host: Host, options: WorkerOptions) -> None:
        self._host, self._options, self._store = host, options, host.store
        store, conf, threads = host.store, host.conf, options.kind == "thread"
        self._wake = wake = Alarm()
        self._job = job = OwnJob(store, options.terms, os.environ)
        self._lifetime = Lifetime(options.terms, job.end, store.fs.monotonic())
        self._budget = budget = options.resource_pool(wake.set, job)
        self._backlog = backlog = options.backlog(store, budget)
        self._worker = worker = options.worker(store, job)
        self._journal = journal = Journal(
            store, options.concurrency, heartbeat=conf.heartbeat, keep=conf.journal_ttl > 0
        )
        self._pacer = ThreadPacer(waits=store.fs.remote or store.fs.durable)
        self._context = own = self._make_context()
        self._bells = bells = WorkerBells(host, backlog, wake)
        self._stopping = stopping = Stopping(
            own, worker, journal, wake, conf.stop_grace, job, self._report
        )
        self._claiming = claiming = Claiming(
            store, worker, backlog, budget, options.concurrency, self._lifetime, stopping, bells
        )
        queues, interval = backlog.queues, conf.poll_interval
        self._resting = resting = Resting(
            bells, claiming, store.layout, queues, interval, polls_rarely=threads
        )
        self.lingering: Lingering = Lingering(bells, claiming, resting, self._pacer, journal)
        self._dozing = Dozing(store, backlog, worker, interval, bells.search)
        self._settling = Settling(own, worker, backlog, stopping, processes=not threads)
        self._publish = partial(settle, release=worker.release)
        self._triggers = TriggerThread(host)

    def _make_context(self) -> WorkerContext:
        host, executor = self._host, self._options.executor
        made = WorkerContext(
            store=self._store,
            worker=lambda: self._worker,
            resolve=resolver_of(host, executor=executor),
            app_id=host.app_id,
            exclusive=threading.current_thread() is threading.main_thread(),
            budget=self._budget,
            record_attempt=self._record_attempt,
            ended=host.triggers.ended,
        )
        made.apps = apps_of(host, executor=executor)
        return made

    @property
    def stopping(self) -> bool:
        """Whether the worker has stopped claiming."""
        return bool(self._stopping.why)

    @property
    def reason(self) -> EndReason:
        """Why the worker has left."""
        return self._stopping.reason

    def stop(self) -> None:
        """Make `run` return, after the running bodies have finished. From any thread."""
        self._stopping.claim_no_more("a request of the program", "drained")

    def run(self) -> None:
        """Claim and run calls in this thread; see `Runner.run`."""
        with catching() as signals:
            if signals is None:
                self._run(lambda: self._stopping.drain("a request"))
            else:
                with signals.acting_on(self._stopping, self._host.conf.stop_grace):
                    self._run(signals.ask)

    def _run(self, request_drain: Callable[[], object]) -> None:
        self._job.find_end()
        self._context.time_left = self._job.end.time_left
        self._prepare_queues()
        self._store.dependencies.watch()
        slots = self._make_slots()
        self._stopping.have(slots)
        self._worker.catch_up = slots.catch_up
        watch = self._job.watch(
            lambda departure: self._stopping.abort(0, departure.text, departure.reason)
        )
        try:
            self._worker.register()
            self._journal.begin()
            upkeep = self._make_upkeep(slots)
            upkeep.start()
            watch.start()
        except BaseException:
            slots.close()
            raise
        self._triggers.start_if_needed()
        context.enter(self._context)
        try:
            with self._stopping.on_request(request_drain), self._bells.listening() as heard:
                longest = self._host.conf.poll_interval
                self._serve(slots, first_pause(self._store.fs, events=heard, longest=longest))
                if self._stopping.replaced is None:
                    # Heartbeats and signal handling go on here, since bodies may take long.
                    slots.close()
                    self._triggers.stop()
        except BaseException:
            slots.drop()  # no body may continue when its call is given back
            raise
        finally:
            context.leave(self._context)
            self._triggers.stop()
            watch.stop()
            upkeep.stop()
            self._leave(slots, upkeep)

    def _serve(self, slots: Slots, first_pause: float) -> None:
        name, root, count = self._worker.name, self._store.layout.root, self._options.concurrency
        log.info("worker %s serves %s with %d %s slots", name, root, count, self._options.kind)
        if (why := self._job.ask_fleet()) and not self._stopping.why:
            self._stopping.depart(Departure("drained", why))
        try:
            self._claim_calls(slots, first_pause)
        finally:
            self._resting.leave()
            self._dozing.end()

    def _prepare_queues(self) -> None:
        for queue in self._backlog.queues:
            # Before the first listing: an NFS client caches a missing folder for half a minute.
            folder = self._store.layout.queue(queue)
            self._store.files.make_folders(folder)
            check_folder(self._store.fs, folder)
        self._dozing.enter()

    def _leave(self, slots: Slots, upkeep: Upkeep) -> None:
        self._store.dependencies.unwatch()
        if self._stopping.replaced is not None:
            self._stopping.abandon(slots)
            raise self._stopping.replaced
        self._stopping.leave()
        if self._options.kind == "process":  # they were killed and could not clean up
            upkeep.clear_up_slots()
        worker, text = self._worker, "worker %s has left; calls claimed: %d, lost to others: %d"
        log.info(text, worker.name, worker.claimed, worker.lost)

    def _make_slots(self) -> Slots:
        if self._options.kind == "process":
            ledger = self._make_ledger()
            setup = Setup.of(
                self._host,
                self._options.gpu_variable,
                self._context.time_left,
                executor=self._options.executor,
                service=None if ledger is None else ledger.service,
            )
            return ProcessSlots(
                setup,
                self._options.concurrency,
                self._end_of_process_claim,
                self._record_attempt,
                self._budget if self._budget.total else None,
                self._wake.set,
                ledger,
            )
        count, following = self._options.concurrency, self._next_claim_of_thread
        return ThreadSlots(self._context, count, self._run_claim, following, self.lingering)

    def _make_ledger(self) -> ClaimLedger | None:
        """The ledger of slot processes that claim calls themselves; None if they may not.

        On a file server, only one process of a node claims. If the worker has to count calls, or
        lend resources to each, it claims each call itself.
        """
        terms = self._options.terms
        counted = self._budget.total or terms.max_tasks is not None or self._job.end.known
        if counted or self._store.fs.remote or not self._host.events:
            return None
        self._worker.shared = True
        return ClaimLedger(
            self._store,
            self._worker,
            self._options.service,
            self._backlog,
            self._claiming,
            self._settling,
            self._journal,
            self._grant,
        )

    def _grant(self) -> Grant | None:
        dependencies = self._store.dependencies
        checks = dependencies.has_waiters or not dependencies.bell_works
        if checks or self._stopping.why or self._job.end.known:
            return None
        listens = self._bells.hears_all and not self._resting.leads
        patience = QUICK if listens and self._claiming.gap < QUICK else 0.0
        return Grant(patience) if patience or self._backlog.has_more else None

    def _make_upkeep(self, slots: Slots) -> Upkeep:
        marks = Listing(self._store.fs, self._store.layout.cancel_folder)

        def end_cancelled() -> None:
            leaving = bool(self._stopping.why)
            slots.catch_up()
            for claim in ended_elsewhere(self._store, self._worker, marks, leaving=leaving):
                slots.cancel(claim)

        def note_peers(peers: int) -> None:
            # Workers with resources or a time limit get different calls, so each listens.
            like_others = not self._budget.total and not self._job.end.known
            self._resting.note_crowd(peers if like_others and self._host.events else 0)

        callbacks = Callbacks(
            self._bells.announce_pending,
            end_cancelled,
            self._settling.clear_up,
            self._stopping.drain_as_asked,
            lambda: self._journal.flush(self._worker.name),
            self._look_at_fleet,
            self._stopping.lose_spool,
            note_peers,
        )
        return Upkeep(self._store, self._worker, self._host.conf, callbacks)

    # -- from a claim to its result -------------------------------------------------------

    def _claim_calls(self, slots: Slots, first_pause: float) -> None:
        """Claim calls and hand them to slots, until there is a reason to stop claiming.

        The reason comes from a signal, a request or upkeep, or is found here between two claims. It
        always ends up in `Stopping.claim_no_more`.
        """
        threads, pause = self._options.kind == "thread", first_pause
        claiming, resting = self._claiming, self._resting
        while not self._stopping.why:
            if self._bells.refresh_dependencies():
                slots.recall()  # the worker checks whether calls wait for those that end
            claim = claiming.next() if slots.has_room() and self._dozing.searches(pause) else None
            if claim is not None:
                self._dozing.claimed(claim)
                self._journal.hold(1)
                slots.start(claim)
                resting.after_claim(more=self._backlog.has_more)
                pause = first_pause
                while threads and self._pacer.keeps_up(claiming.pause, claiming.is_at_work):
                    self._bells.refresh_dependencies()
                continue
            if claiming.leave_if_done(ready=slots.has_room()):
                break
            wait = resting.before_wait(pause)
            rests, alert = resting.rests, resting.leads
            rung = claiming.wait(wait, slots.serves_alone, delayed=not rests, alert=alert)
            resting.after_wait(rung=rung)
            if not rung:
                self._backlog.expire()
            slots.check()
            self._triggers.start_if_needed()
            pause = first_pause if rung else min(pause * GROWTH, resting.longest_pause)

    def _run_claim(self, claim: Claim) -> None:
        """Take a call from its claim to its result, in the thread of a slot."""
        ending: Ending | BaseException
        try:
            finished = execute(self._context, claim, self._publish)
            ending = self._publish(finished)
        except BaseException as error:  # whatever it is: the slot must not be lost
            log.exception("executing %s failed", claim.name)
            ending = error
        self._settling.settle(claim, ending)
        self._claiming.free(ran=ending not in NOT_RUN, quietly=True)

    def _next_claim_of_thread(self) -> Claim | None:
        claim = self._claiming.next(self._pacer)
        if claim is None:
            self._journal.hold(-1)
            self._resting.note_room()
        return claim

    def _end_of_process_claim(self, claim: Claim, ending: Ending | BaseException) -> None:
        """Handle the end of a call in a slot process, whether or not it has a result."""
        self._settling.settle(claim, ending)
        self._journal.hold(-1)
        self._claiming.free(ran=ending not in NOT_RUN)

    def _record_attempt(self, entry: Entry) -> None:
        self._pacer.add(entry.run)
        self._job.end.ran(entry.run)
        self._journal.add(entry)

    def _look_at_fleet(self) -> None:
        """Drain if the worker's fleet is stopped, or cancels its job. Called at each heartbeat."""
        if not self._stopping.why and (why := self._job.ask_fleet()):
            self._stopping.drain_as_asked(why)

    def _report(self, reason: EndReason) -> None:
        self._job.tell_fleet(reason, self._lifetime.allowance.done, self._worker.name)
