"""Slots that are processes, each with a pipe of its own.

They share nothing: no queue and no lock that a process could take along when it is killed. A
process is dead when its pipe is at its end or when its fork server says so, whatever its exit
code.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import selectors
import signal
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from fsqueue.errors import FSQueueError
from fsqueue.runner import child
from fsqueue.runner.cleanup import CLEANUP
from fsqueue.runner.execute import Ending
from fsqueue.runner.signals import held_back
from fsqueue.spool.identity import start_of
from fsqueue.workdir import in_existing_workdir

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext, SpawnContext

    from fsqueue.runner.budget import Lender, Question
    from fsqueue.runner.host import Host
    from fsqueue.runner.slots import OnEnd
    from fsqueue.spool.claim import Claim
    from fsqueue.spool.journal import Entry

log = logging.getLogger(__name__)

# A process that was killed is gone within milliseconds, unless it waits for a disk.
_DEATH = 1.0
_LOOK = 0.005
# An idle process ends at once, unless a body has left a thread behind.
_GOODBYE = 3.0
# A fork server that was killed may refuse connections for a moment before it counts as dead.
_PAUSES = (0.0, 0.005, 0.02, 0.08, 0.3, 1.0)


class ProcessSlots:
    """Slots that are processes: a body that takes its process down costs that attempt only.

    Args:
        host: the application.
        count: number of processes.
        on_end: called in a thread of this object after each claim.
        note: called with what the processes tell the journal.
        budget: the worker's resources, if it has some.
    """

    def __init__(
        self,
        host: Host,
        count: int,
        on_end: OnEnd,
        note: Callable[[Entry], object] = lambda _: None,
        budget: Lender | None = None,
    ) -> None:
        self._count, self._on_end, self._note = count, on_end, note
        self._budget = budget
        self._setup = child.Setup.of(host)
        self._context = _context()
        self._change = threading.Condition()
        self._members: set[_SlotProcess] = set()
        self._idle: list[_SlotProcess] = []
        self._failure: BaseException | None = None
        self._selector = selectors.DefaultSelector()
        # Readable, that is at its end, when watching is to stop.
        closing, writer = os.pipe()
        self._closing: int | None = writer
        self._selector.register(closing, selectors.EVENT_READ, closing)
        for _ in range(count):
            self._add()
        self._watcher = threading.Thread(target=self._watch, name="fsqueue-slots", daemon=True)
        self._watcher.start()
        # At its exit Python waits for processes, and they wait for the end of their pipes.
        atexit.register(self._dismiss)

    # -- called by the claim loop --------------------------------------------------------

    def start(self, claim: Claim) -> None:
        """Execute a claim in a free process."""
        while not self._hand_over(claim):
            self._add()

    def _hand_over(self, claim: Claim) -> bool:
        with self._change:
            while self._idle:
                slot = self._idle.pop()
                if slot.send(claim):
                    slot.claim = claim
                    return True
        return False

    def cancel(self, claim: Claim) -> None:
        """Kill the process that executes a claim; a coroutine has some time to clean up before."""
        with self._change:
            for slot in self._members:
                if slot.claim is claim and not slot.interrupt(Ending.CANCELLED):
                    slot.cancelled = True
                    slot.kill()

    def check(self) -> None:
        """Replace processes that have died. Not at once: they may die of being started.

        Raises:
            FSQueueError: nobody watches the processes any more.
        """
        if self._failure is not None:
            raise FSQueueError("the watcher of the slots has failed") from self._failure
        while len(self._members) < self._count:
            self._add()

    def close(self) -> None:
        """Wait for the bodies and end the processes."""
        with self._change:
            self._change.wait_for(lambda: not any(slot.claim for slot in self._members))
        self._stop_watching(None)
        self._dismiss()
        atexit.unregister(self._dismiss)
        deadline = time.monotonic() + _GOODBYE
        for slot in self._members:
            slot.end(deadline)
        self._selector.close()

    def kill(self, give_back: Callable[[set[int]], None]) -> None:
        """Kill the processes with the bodies that run in them."""
        import psutil

        self._interrupt_coroutines()
        # Or the watcher would take the claims of the killed while the caller gives all back,
        # and be ended in the middle of it with this process.
        self._stop_watching(CLEANUP)
        stopped = []
        for process in psutil.Process(os.getpid()).children(recursive=True):
            # multiprocessing's tracker is spared: it removes the semaphores of the others and
            # then ends by itself.
            with contextlib.suppress(psutil.NoSuchProcess):
                if "multiprocessing.resource_tracker" not in " ".join(process.cmdline()):
                    process.suspend()
                    stopped.append(process)
        try:
            give_back({process.pid for process in stopped})
        finally:
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            deadline = time.monotonic() + _DEATH
            while any(start_of(each.pid) for each in stopped) and time.monotonic() < deadline:
                time.sleep(_LOOK)

    def _interrupt_coroutines(self) -> None:
        """Cancel the coroutines that run, and let them clean up."""
        with self._change:
            told = [slot for slot in self._members if slot.interrupt(Ending.INTERRUPTED)]
            self._change.wait_for(lambda: not any(slot.claim for slot in told), CLEANUP)

    def _add(self) -> None:
        slot = self._started()
        # At once: it may be dead already, and then the watcher takes it out of all three.
        with self._change:
            for source in slot.sources:
                self._selector.register(source, selectors.EVENT_READ, slot)
            if slot.desk is not None:
                self._selector.register(slot.desk, selectors.EVENT_READ, slot)
            self._members.add(slot)
            self._idle.append(slot)

    def _started(self) -> _SlotProcess:
        """A new process; should the fork server die meanwhile, multiprocessing starts another."""
        for pause in _PAUSES:
            time.sleep(pause)
            try:
                return _SlotProcess(self._context, self._setup, self._budget)
            except (OSError, EOFError) as error:
                failure = error
        raise FSQueueError(
            f"the processes of the slots cannot be started ({failure!r}). Is the path of the "
            f"temporary folder, {tempfile.gettempdir()}, too long for a socket (about 100 "
            "characters)? Then set TMPDIR to a shorter one."
        ) from failure

    def _stop_watching(self, patience: float | None) -> None:
        with self._change:
            if self._closing is not None:
                os.close(self._closing)
                self._closing = None
        self._watcher.join(patience)

    def _dismiss(self) -> None:
        for slot in list(self._members):
            slot.pipe.close()
            if slot.desk is not None:
                slot.desk.close()

    # -- called by the watching thread ---------------------------------------------------

    def _watch(self) -> None:
        try:
            self._attend_all()
        except BaseException as error:  # noqa: BLE001 - `check` raises it, in the claim loop
            self._failure = error

    def _attend_all(self) -> None:
        while True:
            ready = [(key.data, key.fileobj) for key, _ in self._selector.select()]
            for slot, source in ready:
                if not isinstance(slot, _SlotProcess):
                    self._selector.unregister(slot)
                    os.close(slot)
                    return
                # Both sources of a process that has died are ready at once.
                if slot not in self._members:
                    continue
                if source is not slot.desk:
                    self._attend(slot)
                elif not slot.lend():
                    self._selector.unregister(source)

    def _attend(self, slot: _SlotProcess) -> None:
        ending: Ending | BaseException
        answer = slot.receive()
        if isinstance(answer, str):
            slot.coroutine = answer == child.COROUTINE
            return
        if answer is None:
            ending = self._bury(slot)
        else:
            ending, noted = answer
            for entry in noted:
                self._note(entry)
        with self._change:
            claim = slot.free()
            if slot in self._members:
                self._idle.append(slot)
            self._change.notify_all()
        if claim is not None:
            self._on_end(claim, ending)

    def _bury(self, slot: _SlotProcess) -> Ending | BaseException:
        with self._change:
            self._members.remove(slot)
            with contextlib.suppress(ValueError):
                self._idle.remove(slot)
        for source in slot.sources:
            self._selector.unregister(source)
        if slot.desk is not None:
            with contextlib.suppress(KeyError):  # it was at its end before
                self._selector.unregister(slot.desk)
            slot.desk.close()
        slot.kill()
        slot.pipe.close()
        code = slot.end(time.monotonic() + _DEATH)
        return Ending.CANCELLED if slot.cancelled else _ending_of(code)


class _SlotProcess:
    """A process that executes one claim after another.

    Attributes:
        claim: what it executes.
        cancelled: it ends because nobody waits for its claim any more.
        coroutine: the body that it runs is a coroutine, which can be interrupted.
        sources: what becomes readable when it answers, or dies.
        desk: where it asks for resources; None if there are none. A pipe of its own, as threads of
            a body ask at any time.
    """

    def __init__(
        self,
        context: ForkServerContext | SpawnContext,
        setup: child.Setup,
        budget: Lender | None,
    ) -> None:
        self.claim: Claim | None = None
        self.cancelled = self.coroutine = False
        self._deadline = float("inf")
        self._budget = budget
        self.pipe, theirs = context.Pipe()
        self.desk: Connection | None = None
        counter: Connection | None = None
        if budget is not None:
            self.desk, counter = context.Pipe()
        self._process = context.Process(target=child.serve, args=(setup, theirs, counter))
        try:
            with in_existing_workdir(), held_back():
                self._process.start()
        except BaseException:
            self.pipe.close()
            if self.desk is not None:
                self.desk.close()
            raise
        finally:
            theirs.close()  # so that the pipe is at its end when the process is
            if counter is not None:
                counter.close()
        self._pid = self._process.pid or 0
        self._start = start_of(self._pid)
        # The pipe alone may be held open by a process that a body has forked.
        self.sources = (self.pipe.fileno(), self._process.sentinel)

    def send(self, claim: Claim) -> bool:
        """Give it a claim; False if it has died."""
        try:
            self.pipe.send(claim)
        except OSError:
            return False
        return True

    def interrupt(self, ending: Ending) -> bool:
        """Have its coroutine cancelled; False if it is to be killed now."""
        if not self.coroutine or self.claim is None or time.monotonic() > self._deadline:
            return False
        if self._deadline == float("inf"):
            self._deadline = time.monotonic() + CLEANUP
            self.cancelled = ending is Ending.CANCELLED
            with contextlib.suppress(OSError):  # it has died
                self.pipe.send(child.Interrupt(self.claim.name, ending))
        return True

    def free(self) -> Claim | None:
        """Forget its claim, which has ended."""
        claim, self.claim = self.claim, None
        self.coroutine, self._deadline = False, float("inf")
        return claim

    def receive(self) -> tuple[Ending | FSQueueError, list[Entry]] | str | None:
        """How its claim ended, with notes for the journal, or `COROUTINE`; None if it is dead."""
        try:
            if self.pipe.poll():
                answer: tuple[Ending | FSQueueError, list[Entry]] | str = self.pipe.recv()
                return answer
        except (EOFError, OSError):
            pass
        return None

    def lend(self) -> bool:
        """Answer what its body asks for; False if it will not ask again."""
        claim, budget, desk = self.claim, self._budget, self.desk
        if budget is None or desk is None:
            return False
        try:
            question: Question = desk.recv()
            if question.needed is None:
                budget.give(question.name)
            else:
                # A thread that a body has started does not say whose it is.
                within = question.within or (str(claim.name) if claim else "")
                desk.send(claim is not None and budget.take(question.name, question.needed, within))
        except (EOFError, OSError):
            return False
        return True

    def kill(self) -> None:
        """Make sure that it is dead: when the fork server dies, all its processes look so."""
        if self._start is not None and start_of(self._pid) == self._start:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def end(self, deadline: float) -> int | None:
        """Wait for its end, and kill it at the deadline; returns its exit code if it is known."""
        self._process.join(max(0.0, deadline - time.monotonic()))
        code = self._process.exitcode
        if code is None:
            self.kill()
        else:
            self._process.close()
        return code


def _ending_of(code: int | None) -> Ending | BaseException:
    """How a claim ended, by the exit code of its process.

    Nothing follows from `TIMED_OUT`, as a body may exit so by itself: whoever recovers the attempt
    sees whether it was settled before.
    """
    if code == -signal.SIGALRM:
        return Ending.TIMED_OUT
    how = "a kill" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
    return FSQueueError(f"its process ended with {how}")


def _context() -> ForkServerContext | SpawnContext:
    # Never fork: this process has threads, and a fork copies locks that they hold.
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fsqueue.runner.forkserver", child.__name__])
    return context
