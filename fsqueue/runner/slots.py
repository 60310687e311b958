"""Where claims are executed: threads of this process, or processes of their own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Protocol

from fsqueue.errors import FSQueueError
from fsqueue.runner import child
from fsqueue.runner.deadlines import TIMED_OUT
from fsqueue.runner.execute import Ending, execute
from fsqueue.spool.identity import start_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pebble import ProcessPool

    from fsqueue.runner.context import Workplace
    from fsqueue.runner.host import Host
    from fsqueue.spool.store import Claim

    # Called with a claim and how its execution ended: an exception is the death of its slot.
    OnEnd = Callable[[Claim, Ending | BaseException], None]

log = logging.getLogger(__name__)

# A free process takes a claim up within milliseconds.
_STUCK = 5.0
# A process that was killed is gone within milliseconds, unless it waits for a disk.
_DEATH = 1.0
_LOOK = 0.005


class Slots(Protocol):
    """A fixed number of places to execute claims."""

    def start(self, claim: Claim) -> None:
        """Execute a claim in a free slot; returns at once."""

    def cancel(self, claim: Claim) -> None:
        """End the execution of a claim, if it can be ended: nobody waits for it any more."""

    def check(self) -> None:
        """Mend what is stuck; called about once a second."""

    def close(self) -> None:
        """Wait for the claims that are being executed, and end the slots."""

    def kill(self) -> set[int]:
        """End the slots at once, if they can be ended at all; returns the processes ended."""


class ThreadSlots:
    """Slots that are threads of this process.

    A thread goes on with the next claim by itself: handing each one over from the claim loop
    would cost two switches of threads a call.

    Args:
        workplace: where claims are executed.
        count: number of threads.
        following: gives the next claim, or None if there is none.
        on_end: called in the slot's thread after each claim.
    """

    def __init__(
        self,
        workplace: Workplace,
        count: int,
        following: Callable[[], Claim | None],
        on_end: OnEnd,
    ) -> None:
        self._workplace, self._following, self._on_end = workplace, following, on_end
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="fsqueue-slot")

    def start(self, claim: Claim) -> None:
        """Execute a claim, and those that follow it."""
        self._pool.submit(self._work, claim)

    def _work(self, claim: Claim | None) -> None:
        while claim is not None:
            ending: Ending | BaseException
            try:
                ending = execute(self._workplace, claim, self._workplace.worker().release)
            except Exception as error:
                log.exception("executing %s failed", claim.name)
                ending = error
            self._on_end(claim, ending)
            claim = self._following()

    def cancel(self, claim: Claim) -> None:
        """A thread cannot be ended: its body may ask `CurrentInvocation.cancelled`."""

    def check(self) -> None:
        """Threads do not get stuck but by their bodies."""

    def close(self) -> None:
        """Wait for the bodies."""
        self._pool.shutdown(wait=True)

    def kill(self) -> set[int]:
        """Threads cannot be killed: whoever calls this ends the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        return set()


def _ending_of(code: int) -> Ending | BaseException:
    """How a claim ended, by the exit code of its process."""
    if code == TIMED_OUT:
        return Ending.FINISHED
    if code == -signal.SIGALRM:
        return Ending.TIMED_OUT
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return FSQueueError(f"its process ended with {how}")


class ProcessSlots:
    """Slots that are processes: a body that takes its process down costs that attempt only.

    Args:
        host: the application.
        count: number of processes.
        on_end: called in a thread of the pool after each claim.
    """

    def __init__(self, host: Host, count: int, on_end: OnEnd) -> None:
        self._host, self._count, self._on_end = host, count, on_end
        self._setup = child.Setup.of(host)
        self._executing: dict[Future[Ending], tuple[Claim, float]] = {}
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPool:
        from pebble import ProcessPool

        # Never fork: this process has threads, and a fork copies locks that they hold.
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            context.set_forkserver_preload([child.__name__, "fsqueue.runner.forkserver"])
        pool = ProcessPool(
            max_workers=self._count,
            initializer=child.prepare,
            initargs=(self._setup,),
            context=context,
        )
        try:
            _ = pool.active  # looking at it is what starts the processes
        except (OSError, BrokenProcessPool) as error:
            raise FSQueueError(
                f"the processes of the slots cannot be started ({error!r}). Is the path of the "
                f"temporary folder, {tempfile.gettempdir()}, too long for a socket (about 100 "
                "characters)? Then set TMPDIR to a shorter one."
            ) from error
        return pool

    def start(self, claim: Claim) -> None:
        """Execute a claim in a free process."""
        try:
            future = self._pool.schedule(child.run, args=(claim,))
        except RuntimeError as error:
            # The pool gives up when a process dies while it has nothing to do.
            self._restart(str(error))
            future = self._pool.schedule(child.run, args=(claim,))
        self._executing[future] = (claim, time.monotonic())
        future.add_done_callback(self._ended)

    def _ended(self, future: Future[Ending]) -> None:
        from pebble import ProcessExpired

        claim, _ = self._executing.pop(future, (None, 0.0))
        if claim is None:
            return  # settled by a restart
        error = None if future.cancelled() else future.exception()
        if isinstance(error, ProcessExpired):
            self._on_end(claim, _ending_of(error.exitcode))
        elif future.cancelled():
            self._on_end(claim, Ending.CANCELLED)
        else:
            self._on_end(claim, future.result() if error is None else error)

    def cancel(self, claim: Claim) -> None:
        """Kill the process that executes a claim."""
        for future, (executed, _) in list(self._executing.items()):
            if executed is claim:
                future.cancel()

    def check(self) -> None:
        """Start the processes anew if a claim is not taken up though a process is free for it.

        A process that was killed while it held the lock of the pool's channel leaves it locked.
        """
        late = time.monotonic() - _STUCK
        if any(
            begun < late and not (future.running() or future.done())
            for future, (_, begun) in list(self._executing.items())
        ):
            self._restart("a claim was not taken up")

    def _restart(self, reason: str) -> None:
        log.warning("the processes of the slots are started anew: %s", reason)
        broken, self._pool = self._pool, self._new_pool()
        broken.stop()  # type: ignore[no-untyped-call]
        broken.join()
        for future in list(self._executing):
            claim, _ = self._executing.pop(future, (None, 0.0))
            if claim is not None:
                begun = future.running() or future.done()
                lost = FSQueueError("its process was stopped together with a broken one")
                self._on_end(claim, lost if begun else Ending.NOT_STARTED)

    def close(self) -> None:
        """Wait for the bodies and end the processes."""
        self._pool.close()  # type: ignore[no-untyped-call]
        self._pool.join()

    def kill(self) -> set[int]:
        """Kill the processes with the bodies that run in them."""
        import psutil

        killed = set()
        for process in psutil.Process(os.getpid()).children(recursive=True):
            try:
                # multiprocessing's tracker is spared: it removes the semaphores of the others and
                # then ends by itself.
                if "multiprocessing.resource_tracker" not in " ".join(process.cmdline()):
                    process.kill()
                    killed.add(process.pid)
            except psutil.NoSuchProcess:
                continue
        deadline = time.monotonic() + _DEATH
        while any(map(start_of, killed)) and time.monotonic() < deadline:
            time.sleep(_LOOK)
        return killed
