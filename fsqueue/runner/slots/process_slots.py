"""Process slots: a worker runs each body in a separate process, to which it has a pipe.

The processes share no queue and no lock, which a killed process could leave locked. A process is
dead when its pipe reports end-of-file or its fork server reports its end, whatever its exit code.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import selectors
import threading
import time
from typing import TYPE_CHECKING

from fsqueue.errors import FSQueueError
from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.event_loop.cleanup import CLEANUP
from fsqueue.runner.processes import descendants
from fsqueue.runner.processes.threads import start_threads
from fsqueue.runner.slots import messages, slot_main
from fsqueue.runner.slots.claim_records import ClaimRecords
from fsqueue.runner.slots.restarts import Restarts, why_not_started
from fsqueue.runner.slots.slot_process import SlotProcess, started
from fsqueue.runner.slots.slot_server import make_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.shared.resource_pool import ResourceBudget
    from fsqueue.runner.slots.claim_records import Ledger
    from fsqueue.runner.slots.thread_slots import OnEnd
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.history.entries import Entry

log: logging.Logger = logging.getLogger(__name__)

# Seconds to wait for the end of a killed process: milliseconds, unless it waits for a disk.
_DEATH = 1.0
# The longest wait of the watching thread, in seconds. The system call takes at most 24 days.
_A_DAY = 86400.0
# Seconds for an idle process to end: it does so at once unless a body left a thread running.
_GOODBYE = 3.0


class ProcessSlots:
    """A worker's process slots. A body that crashes its process costs only that attempt.

    Args:
        setup: how the processes find the application.
        count: number of processes.
        on_end: called in a thread of this object after each claim.
        record_attempt: called with the journal entries of the processes.
        budget: the worker's resources; None if it has none.
        on_ready: called in a thread of this object when a process is ready for its first claim, or
            must be replaced.
        ledger: of the calls that processes claim themselves; None if they never do.

    Raises:
        FSQueueError: this process cannot start another thread.
        OSError: it may not have more open files.
    """

    def __init__(
        self,
        setup: slot_main.Setup,
        count: int,
        on_end: OnEnd,
        record_attempt: Callable[[Entry], object] = lambda _: None,
        budget: ResourceBudget | None = None,
        on_ready: Callable[[], object] = lambda: None,
        ledger: Ledger | None = None,
    ) -> None:
        self._count, self._on_end, self._record_attempt = count, on_end, record_attempt
        self._budget, self._on_ready = budget, on_ready
        self._ledger, self._records = ledger, ClaimRecords(ledger, record_attempt)
        self._setup = setup
        self._server = make_server()
        self._restarts = Restarts()
        self._change = threading.Condition()
        # Held from the start of a process until it is a member, because in between it looks like an
        # orphan of a dead slot.
        self._starting = threading.Lock()
        self._members: set[SlotProcess] = set()
        # Dead processes whose last records were not read yet, so their claims are still known.
        self._dying: set[SlotProcess] = set()
        self._idle: list[SlotProcess] = []
        # Claims for which a process that has used other GPUs is being replaced.
        self._waiting: list[messages.Work] = []
        self._failure: BaseException | None = None
        self._selector = selectors.DefaultSelector()
        self._watcher = threading.Thread(target=self._watch, name="fsqueue-slots", daemon=True)
        self._closing: int | None = self._start_watching()
        # At exit Python waits for the processes, and they wait for the end of their pipes.
        atexit.register(self._close_pipes)
        try:
            self._fill()
        except FSQueueError:
            self.drop()
            raise

    def _start_watching(self) -> int:
        """Start the watching thread; returns the end of a pipe whose closing stops it."""
        closing, writer = os.pipe()
        self._selector.register(closing, selectors.EVENT_READ, closing)
        try:
            start_threads(self._watcher)
        except FSQueueError:
            self._selector.close()
            os.close(closing)
            os.close(writer)
            raise
        return writer

    # -- called by the claim loop --------------------------------------------------------

    def has_room(self) -> bool:
        """Whether a process is ready and free. One that cannot be set up gets no claim."""
        return bool(self._idle)

    def serves_alone(self) -> bool:
        """Whether one process is enough for the calls that come, and hears of them itself.

        It does if it has had to wait for a call since this was last asked.
        """
        with self._change:
            for slot in self._members:
                if slot.lingers:
                    self._records.read(slot)
                    waited, slot.has_waited = slot.has_waited, False
                    return waited or slot.has_just_begun
        return False

    def start(self, claim: Claim) -> None:
        """Execute a claim in a free process, or end it as not started if all have died.

        A process that has used other GPUs is replaced first, because it would keep using those.
        """
        devices = () if self._budget is None else self._budget.devices(claim.text)
        grant = None if self._ledger is None or devices else self._ledger.grant()
        work = messages.Work(claim, devices, grant)
        with self._change:
            if self._hand_over(work):
                return
            if self._idle:
                self._waiting.append(work)
                self._idle.pop(0).kill()
                return
        self._on_end(claim, Ending.NOT_STARTED)

    def _hand_over(self, work: messages.Work) -> bool:
        """Give a claim to a free process that has used no other GPUs; False if there is none."""
        devices = work.devices
        while True:
            fit = [each for each in self._idle if not devices or each.devices in {(), devices}]
            if not fit:
                return False
            # Keep processes with other GPUs for other calls, and let few listen to file events.
            slot = max(reversed(fit), key=lambda each: (each.devices == devices, each.has_lingered))
            self._idle.remove(slot)
            if slot.send(work):
                return True

    def _became_idle(self, slot: SlotProcess) -> None:
        self._idle.append(slot)
        self._waiting = [work for work in self._waiting if not self._hand_over(work)]

    def cancel(self, claim: Claim) -> None:
        """Kill the process that executes a claim; a coroutine gets time to clean up first."""
        if self._forget_waiting(claim):
            self._on_end(claim, Ending.CANCELLED)
            return
        with self._change:
            for slot in self._members:
                if slot.claim is not claim:
                    continue
                # In this order: after the recall it takes no further call. So if it has not
                # recorded the end of this one, this one is still what it executes.
                slot.recall()
                self._records.read(slot)
                if slot.claim is claim and not slot.interrupt(Ending.CANCELLED):
                    slot.cancelled = True
                    slot.kill()

    def recall(self) -> None:
        """Let the processes claim nothing more themselves."""
        with self._change:
            for slot in self._members:
                slot.recall()

    def catch_up(self) -> set[str]:
        """Read what the processes have claimed themselves; returns the names of the attempts."""
        with self._change:
            return set().union(*map(self._records.read, self._members | self._dying))

    def _forget_waiting(self, claim: Claim) -> bool:
        with self._change:
            before = len(self._waiting)
            self._waiting = [work for work in self._waiting if work.claim is not claim]
            return len(self._waiting) < before

    def check(self) -> None:
        """Replace dead processes, with a pause in case they die while they start.

        Raises:
            FSQueueError: the watching thread has failed, or no process can be set up.
        """
        if self._failure is not None:
            raise FSQueueError("the watcher of the slots has failed") from self._failure
        self._fill()

    def close(self) -> None:
        """Wait for the bodies and end the processes."""
        with self._change:
            unstarted, self._waiting = self._waiting, []
        for work in unstarted:  # the processes that they need are no longer started
            self._on_end(work.claim, Ending.NOT_STARTED)
        self.recall()
        with self._change:
            self._change.wait_for(lambda: not any(slot.is_busy for slot in self._members))
        self._stop_watching(None)
        self._close_pipes()
        atexit.unregister(self._close_pipes)
        deadline = time.monotonic() + _GOODBYE
        for slot in self._members:
            slot.end(deadline)
        self._server.stop()
        self._selector.close()

    def drop(self) -> None:
        """Kill the processes of the slots. May be called twice."""
        self._stop_watching(_DEATH)
        atexit.unregister(self._close_pipes)
        for slot in list(self._members):
            slot.kill()
            slot.end(time.monotonic() + _DEATH)
        self.catch_up()
        self._close_pipes()
        self._members.clear()
        self._server.stop()
        self._selector.close()

    def kill(self, give_back: Callable[[set[int]], None]) -> None:
        """Kill the processes with the bodies that run in them."""
        self._interrupt_coroutines()
        # Otherwise the watcher would settle the killed processes' claims while the caller gives
        # them back, and this process would end in the middle of that.
        self._stop_watching(CLEANUP)
        slots = self._server.processes({slot.pid for slot in self._members})
        # The server keeps running: it ends the rest if this process is killed meanwhile.
        try:
            stopped = descendants.stop(slots)
        except OSError as error:
            log.warning("bodies go on while their calls are given back: %s", error)
            stopped = set()
        self.catch_up()
        try:
            give_back(stopped)
        finally:
            descendants.end(slots)

    def _fill(self) -> None:
        while len(self._members) < self._count and self._restarts.allowed:
            try:
                self._add()
            except (OSError, EOFError) as error:
                self._restarts.failed(why_not_started(error))

    def _interrupt_coroutines(self) -> None:
        """Cancel the coroutines that run, and let them clean up."""
        self.recall()
        self.catch_up()
        with self._change:
            interrupted = [slot for slot in self._members if slot.interrupt(Ending.INTERRUPTED)]
            self._change.wait_for(lambda: not any(slot.is_busy for slot in interrupted), CLEANUP)

    def _add(self) -> None:
        with self._starting:
            slot = started(self._server, self._setup, self._budget)
            # In one step: if the process is already dead, the watcher undoes both.
            with self._change:
                for source in slot.sources:
                    self._selector.register(source, selectors.EVENT_READ, slot)
                if slot.resource_pipe is not None:
                    self._selector.register(slot.resource_pipe, selectors.EVENT_READ, slot)
                self._members.add(slot)

    def _stop_watching(self, patience: float | None) -> None:
        with self._change:
            if self._closing is not None:
                os.close(self._closing)
                self._closing = None
        self._watcher.join(patience)

    def _close_pipes(self) -> None:
        for slot in list(self._members):
            slot.close()
            slot.forget_records()

    # -- called by the watching thread ---------------------------------------------------

    def _watch(self) -> None:
        try:
            while self._handle_messages():
                for slot in list(self._members):
                    slot.kill_if_late()
        except BaseException as error:  # noqa: BLE001 - `check` raises it, in the claim loop
            self._failure = error

    def _handle_messages(self) -> bool:
        """Handle messages, waiting at most until the next deadline; False to stop watching."""
        deadlines = [slot.deadline for slot in list(self._members) if slot.deadline is not None]
        patience = min(max(0.0, min(deadlines) - time.monotonic()), _A_DAY) if deadlines else None
        ready = [(key.data, key.fileobj) for key, _ in self._selector.select(patience)]
        for slot, source in ready:
            if not isinstance(slot, SlotProcess):
                self._selector.unregister(slot)
                os.close(slot)
                return False
            # When a process dies, both of its sources become ready at once.
            if slot not in self._members:
                continue
            if source is not slot.resource_pipe:
                self._handle_message(slot)
            elif not slot.lend():
                self._selector.unregister(source)
        return True

    def _handle_message(self, slot: SlotProcess) -> None:
        message = slot.receive()
        match message:
            case messages.Ready():
                self._restarts.worked()
                slot.ready = True
                with self._change:
                    self._became_idle(slot)
                self._on_ready()
            case messages.Unfit():
                self._restarts.failed(message.reason, final=message.final)
            case messages.Limit():
                slot.limit(message.seconds)
            case messages.Coroutine():
                slot.coroutine = message.attempt
            case messages.Ended():
                with self._change:
                    self._records.read(slot)
                    if message.ending is None:
                        self._records.end(slot, None)
                for entry in message.entries:
                    self._record_attempt(entry)
                self._free(slot, message.ending or Ending.NOT_STARTED)
            case None:
                self._free(slot, self._remove_dead(slot))

    def _free(self, slot: SlotProcess, ending: Ending | BaseException) -> None:
        """Free a slot whose claim has ended, or whose process has died."""
        with self._change:
            claim, grant, slot.grant = slot.free(), slot.grant, None
            if slot in self._members:
                self._became_idle(slot)
            self._change.notify_all()
        if claim is not None:
            self._on_end(claim, ending)
        elif grant is not None and self._ledger is not None:
            self._ledger.end_grant()
        elif self._waiting:
            self._on_ready()

    def _remove_dead(self, slot: SlotProcess) -> Ending | BaseException:
        with self._change:
            self._members.remove(slot)
            self._dying.add(slot)
            with contextlib.suppress(ValueError):
                self._idle.remove(slot)
        for source in slot.sources:
            self._selector.unregister(source)
        if slot.resource_pipe is not None:
            with contextlib.suppress(KeyError):  # already removed, when it reported end-of-file
                self._selector.unregister(slot.resource_pipe)
        slot.close()  # first, as the next step needs a free descriptor
        slot.kill()
        ending = slot.end(time.monotonic() + _DEATH)
        with self._change:
            self._records.read(slot)
            slot.forget_records()
            self._dying.discard(slot)
        if not slot.ready and not slot.killed:
            self._restarts.failed(f"{ending} before it was ready")
        try:
            self._end_orphans(slot)
        except OSError as error:
            log.warning("programs of a dead slot go on until the next slot ends: %s", error)
        return ending

    def _end_orphans(self, dead: SlotProcess) -> None:
        with self._starting:
            orphans = self._server.orphans({each.pid for each in self._members})
            descendants.end(lambda known: orphans(known) + dead.find_session(known))
