"""The interface of slots, and the slots that are threads of the worker's process."""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
from typing import TYPE_CHECKING, Protocol

from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.event_loop.cleanup import CLEANUP

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.spool.format.claim import Claim

    # Called with a claim and how its execution ended; an exception means that its slot has died.
    OnEnd = Callable[[Claim, Ending | BaseException], None]

log: logging.Logger = logging.getLogger(__name__)


class Slots(Protocol):
    """A fixed number of slots that execute claims."""

    def has_room(self) -> bool:
        """Whether a slot is ready for a claim, given that not all of them have one."""

    def serves_alone(self) -> bool:
        """Whether one slot is enough for the calls that come, and hears of them itself."""

    def start(self, claim: Claim) -> None:
        """Execute a claim in a free slot; returns at once."""

    def cancel(self, claim: Claim) -> None:
        """End the execution of a claim whose call was cancelled, if it can be ended."""

    def recall(self) -> None:
        """Make slot processes stop claiming calls themselves. Threads ask before each claim."""

    def catch_up(self) -> set[str]:
        """Read what slots have claimed themselves; returns the names of the attempts."""

    def check(self) -> None:
        """Replace slots that have failed; called about once a second."""

    def close(self) -> None:
        """Wait for the claims that are being executed, and end the slots."""

    def drop(self) -> None:
        """End the slots at once, if they can be ended at all, and abandon their claims."""

    def kill(self, give_back: Callable[[set[int]], None]) -> None:
        """End the slots at once, if they can be ended at all.

        Args:
            give_back: called first, with the ids of the processes to be ended. They are stopped but
                not dead yet, so no reaper takes their claims for lost.
        """


class Place(Protocol):
    """The place of the one thread that waits for its next claim itself; see `Lingering`."""

    @property
    def active(self) -> bool:
        """Whether a thread has the place."""

    def serves_alone(self) -> bool:
        """Whether one thread is enough for the calls that come, and hears of them itself."""

    def begin(self) -> bool:
        """Take the place, if that is of use now and it is free."""

    def claim(self) -> Claim | None:
        """Claim the next call."""

    def wait(self) -> bool:
        """Wait for what may be a call; False when it is time to leave the place."""

    def interrupt(self) -> None:
        """End the wait of the thread."""

    def vacate(self) -> None:
        """End the wait of the thread; returns when it has left the place."""

    def end(self, *, claimed: bool) -> None:
        """Leave the place, with a claim or without."""


class ThreadSlots:
    """Slots that are threads of this process.

    A thread takes the next claim by itself, because a hand-over from the claim loop would cost two
    thread switches per call. The threads are not those of a `ThreadPoolExecutor`. If a body forked
    in one, Python would wait for all executor threads at the exit of the child, even for its only
    thread, and the exit code would be 1.

    The threads are daemons, unlike those of `concurrent.futures`. The body of a call that has timed
    out or was cancelled cannot be killed, and must not delay the end of the worker's process.

    Args:
        count: number of threads.
        work: takes a claim to its result, in the slot's thread.
        following: returns the next claim for this thread, or None if there is none.
        lingering: lets one thread wait for its next claim itself.
    """

    def __init__(
        self,
        context: WorkerContext,
        count: int,
        work: Callable[[Claim], None],
        following: Callable[[], Claim | None],
        lingering: Place,
    ) -> None:
        self._context, self._work, self._following = context, work, following
        self._live, self._lingering = context.live, lingering
        self._handed: queue.SimpleQueue[Claim | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads, self._count = 0, count
        # Number of claims that wait because a thread could not be started.
        self._waiting_claims = 0
        self._closed = False
        self._in_hand: set[str] = set()
        atexit.register(self._finish_at_exit)

    def has_room(self) -> bool:
        """Whether a thread may get a call: always, unless one is waiting for the next call."""
        return not self._lingering.active

    def serves_alone(self) -> bool:
        """Whether one thread is enough for the calls that come, and hears of them itself."""
        return self._lingering.serves_alone()

    def start(self, claim: Claim) -> None:
        """Execute a claim in a thread, which then takes further claims."""
        if self._closed:
            raise RuntimeError("no more calls can be run: the interpreter is about to exit")
        self._live.begin(claim)
        self._handed.put(claim)
        self._lingering.interrupt()
        idle = self._idle.acquire(blocking=False)
        if not idle and self._threads < self._count and not self._add_thread():
            self._waiting_claims += 1

    def _add_thread(self) -> bool:
        """Start a thread; False if this process cannot start another one now."""
        name = f"fsqueue-slot_{self._threads}"
        try:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        except RuntimeError as error:
            if not self._waiting_claims:
                log.warning("cannot start another thread for calls, trying again: %s", error)
            return False
        self._threads += 1
        return True

    def _serve(self) -> None:
        claim = self._handed.get()
        while claim is not None:
            try:
                self._serve_from(claim)
            except Exception:
                log.exception("a slot has failed after a call")
            self._idle.release()
            claim = self._linger() or self._handed.get()

    def _linger(self) -> Claim | None:
        """Wait a moment for the next call, and claim it in this thread; None if none came."""
        claim = None
        if self._closed or not self._lingering.begin():
            return None
        try:
            while not self._closed and self._handed.empty():
                claim = self._claim_lingering()
                if claim is not None or not self._lingering.wait():
                    break
        except Exception:
            log.exception("a slot has failed between two calls")
        finally:
            self._lingering.end(claimed=claim is not None)
        return claim

    def _claim_lingering(self) -> Claim | None:
        """Claim a call. This thread does not count as idle: calls handed over go to another."""
        if not self._idle.acquire(blocking=False):
            return None
        claim = None
        try:
            claim = self._lingering.claim()
        finally:
            if claim is None:
                self._idle.release()
        if claim is not None:
            self._live.begin(claim)  # while it has the place: see `close`
        return claim

    def _serve_from(self, claim: Claim | None) -> None:
        while claim is not None:
            following = None
            self._in_hand.add(claim.text)
            try:
                self._work(claim)
                following = None if self._closed else self._following()
                if following is not None:
                    self._live.begin(following)
            finally:
                self._in_hand.discard(claim.text)
                self._live.end(claim)
            claim = following

    def cancel(self, claim: Claim) -> None:
        """Cancel a coroutine. Do not wait for a plain body, which may check for cancellation."""
        if not self._context.interrupt(claim.name, Ending.CANCELLED):
            self._live.end(claim)
            self._end_programs(claim.text)

    def _end_programs(self, *names: str) -> None:
        for name in names:
            execution = self._context.executions.get(name)
            if execution is not None:
                execution.end_programs()

    def recall(self) -> None:
        """Nothing to do."""

    def catch_up(self) -> set[str]:
        """Nothing to learn."""
        return set()

    def check(self) -> None:
        """Try again to start threads for waiting claims."""
        while self._waiting_claims and self._add_thread():
            self._waiting_claims -= 1

    def close(self) -> None:
        """Wait for the bodies whose calls have not ended."""
        self._closed = True
        self._lingering.vacate()  # so each call that a thread has claimed is live
        while not self._threads and not self._handed.empty():
            claim = self._handed.get()
            if claim is not None:  # no thread could be started: the claim is given back
                self._live.end(claim)
        self._live.wait()
        self._end_threads()
        for name in sorted(self._in_hand):
            log.warning("not waiting for the body of %s: its call has ended", name)

    def drop(self) -> None:
        """Let each thread end when its body does, and end the programs of the bodies."""
        self._closed = True
        self._end_threads()
        self._end_programs(*list(self._context.executions))

    def _end_threads(self) -> None:
        atexit.unregister(self._finish_at_exit)
        for _ in range(self._threads):
            self._handed.put(None)
        self._lingering.interrupt()

    def kill(self, give_back: Callable[[set[int]], None]) -> None:
        """Let coroutines clean up. Threads cannot be killed: the caller ends the process."""
        interrupted = {
            each.claim.text
            for each in list(self._context.executions.values())
            if each.interrupt(Ending.INTERRUPTED)
        }
        self._live.wait(interrupted, CLEANUP)
        give_back(set())
        # In `fsqueue worker`, the guardian would also find them.
        self._end_programs(*list(self._context.executions))

    def _finish_at_exit(self) -> None:
        """Let the bodies finish when the program ends without stopping its runner."""
        self._closed = True
        if self._context.pid == os.getpid():
            self._lingering.vacate()
            self._live.wait()
