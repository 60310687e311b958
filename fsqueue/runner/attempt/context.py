"""The worker and the invocation that the current code runs in."""

from __future__ import annotations

import os
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.runner.event_loop.cleanup import CLEANUP
from fsqueue.runner.shared.live import LiveCalls
from fsqueue.runner.shared.resource_pool import NO_RESOURCES
from fsqueue.runner.shared.time_left import ENDLESS
from fsqueue.spool.format.names import split_profile
from fsqueue.spool.format.records import shown
from fsqueue.spool.worker.gone_callers import Callers

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.common.offloading import Threads
    from fsqueue.environment.module_code import ModuleCode
    from fsqueue.runner.attempt.answers import Answer, Ending
    from fsqueue.runner.attempt.dependencies import Parents
    from fsqueue.runner.event_loop.loop import BodyRun
    from fsqueue.runner.output.reporting import Flusher, Report
    from fsqueue.runner.processes.body_processes import BodyProcesses
    from fsqueue.runner.shared.held_permit import HeldPermit
    from fsqueue.runner.shared.resource_pool import ResourceBudget
    from fsqueue.spool.features.body_reports import Progress
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.names import AttemptName
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.history.entries import Entry
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.registration import Worker

# A body may check for cancellation in a tight loop.
_CHECK_EVERY = 0.25
_making = threading.Lock()


class Body(NamedTuple):
    """The function of a task, as a worker calls it."""

    function: Callable[..., Any]
    unpickles: bool = True
    """Whether calls of the task may be pickles."""
    awaited: bool = False
    """Whether its calls are awaited."""
    code: ModuleCode | None = None
    """Its module, as this process has loaded it; None: do not compare it with the caller's."""
    refuses: bool = False
    """Whether a call fails if its caller has other code."""


class WorkerContext:
    """What a worker provides for executing claims.

    Args:
        store: the spool.
        worker: returns the registered worker; a slot process registers one only when needed.
        resolve: returns the body of a task, by its name.
        app_id: the application whose tasks `resolve` knows.
        exclusive: this process does nothing but run bodies.
        budget: the resources for calls that a body of this worker runs itself.
        record_attempt: called with the journal entry of each attempt that has ended.
        ended: called with each answer before it is published, for triggers.

    Attributes:
        apps: the applications whose tasks `resolve` knows.
        aborted: set when the worker must end immediately.
        live: the calls that run here and whose outcome may still be needed.
        executions: the calls that run here, by the names of their attempts.
        on_coroutine: called with each execution whose body turns out to be a coroutine.
        while_waiting: called about four times a second while a slot waits for a coroutine.
        callers: knows which callers are gone.
        flusher: writes what bodies print and report; None is the one of this process.
        time_left: the end of the worker's time.
        show_devices: called with the names of the GPUs that the next body may use, if it runs in a
            process of its own.
        on_limit: called with the seconds that a body may take, if this process may be killed to end
            the body, and with None when the body has ended.
        pid: the process that it belongs to.
    """

    def __init__(
        self,
        *,
        store: Store,
        worker: Callable[[], Worker],
        resolve: Callable[[str], Body],
        app_id: str,
        exclusive: bool,
        budget: ResourceBudget = NO_RESOURCES,
        record_attempt: Callable[[Entry], object] = lambda _: None,
        ended: Callable[[Execution, Answer | None], object] = lambda *_: None,
    ) -> None:
        self.store: Store = store
        self.worker: Callable[[], Worker] = worker
        self.resolve: Callable[[str], Body] = resolve
        self.apps: frozenset[str] = frozenset({app_id})
        self.exclusive: bool = exclusive
        self.record_attempt: Callable[[Entry], object] = record_attempt
        self.ended: Callable[[Execution, Answer | None], object] = ended
        self.flusher: Flusher | None = None
        self.callers: Callers = Callers(store)
        self.budget = budget
        self.on_limit: Callable[[float | None], object] = lambda _: None
        self.time_left = ENDLESS
        self.show_devices: Callable[[tuple[str, ...]], object] = lambda _: None
        self.aborted: threading.Event = threading.Event()
        self.live: LiveCalls = LiveCalls()
        self.pid: int = os.getpid()
        self.executions: dict[str, Execution] = {}
        self.on_coroutine: Callable[[Execution], object] = lambda _: None
        self.while_waiting: Callable[[], None] = lambda: None

    def interrupt(self, attempt: AttemptName, ending: Ending) -> bool:
        """Cancel the coroutine of an attempt, if it runs here; see `Execution.interrupt`.

        Args:
            attempt: the attempt.
            ending: how its execution ends then.
        """
        execution = self.executions.get(str(attempt))
        return execution is not None and execution.interrupt(ending)


class Execution:
    """A call that is being run.

    Attributes:
        context: the worker.
        claim: the attempt.
        call: its header.
        parents: the outcomes that its arguments refer to.
        body: the task's function; None until it is needed.
        started: when it started, in seconds since the epoch by the file server's clock.
        body_ended: the body has ended.
        parent: the call whose body waits for this one in the same thread; None if there is none.
        permits: by lane, the permit that it holds or borrows.
        run: its coroutine, the latest one of a batch; None for a plain body.
        processes: the block in which its body runs.
        interrupted: how it ends because its coroutine was cancelled; None if it was not.
        stale: why the worker's code is not the caller's; empty if it is.
        caller_gone: the only process that can receive the outcome had ended when it was published.
    """

    # Most calls change few of these, so setting them once for all calls saves time.
    body: Body | None = None
    body_ended = False
    view: CurrentInvocation | None = None
    run: BodyRun | None = None
    interrupted: Ending | None = None
    stale = ""
    caller_gone = False
    processes: BodyProcesses | None = None
    _interrupted_at = 0.0
    _programs_ended = False
    _helper_threads: Threads | None = None
    _report: Report | None = None

    def __init__(
        self, context: WorkerContext, claim: Claim, call: Call, parents: Parents | None = None
    ) -> None:
        self.context: WorkerContext = context
        self.claim: Claim = claim
        self.call: Call = call
        self.parents = parents
        self.started: float = context.store.clock.now()
        self.parent: Execution | None = current.get()
        self.permits: dict[str, HeldPermit] = {}
        self._unsettled = threading.Lock()

    @property
    def tags(self) -> dict[str, Any]:
        """Extra fields of log records about it."""
        return {**self.claim.tags, **shown(self.call)}

    @property
    def is_running(self) -> bool:
        """Whether its body, or that of a later call of its batch, still runs."""
        return self.context.executions.get(self.claim.text) is self

    def settle(self) -> bool:
        """Claim the right to settle the call; True only for the first caller."""
        return self._unsettled.acquire(blocking=False)

    @property
    def is_settled(self) -> bool:
        """Whether its call has ended, for example by its time limit. No other body of it starts."""
        return self._unsettled.locked()

    def interrupt(self, ending: Ending) -> bool:
        """Cancel its coroutine, from any thread.

        Returns:
            False if it has none, or if the time to clean up after the first call has passed.

        Args:
            ending: how the execution ends, unless it is settled in another way.
        """
        if self.run is None:
            return False
        now = time.monotonic()
        if self.interrupted is None:
            # In this order, because a run that starts now checks whether it was interrupted.
            self.interrupted, self._interrupted_at = ending, now
            self.run.cancel()
        return now - self._interrupted_at <= CLEANUP

    def is_interrupted(self) -> bool:
        """Whether its coroutine was cancelled."""
        return self.interrupted is not None

    def end_programs(self) -> None:
        """End the programs that its body has started, since its call has ended; only once.

        The body runs in a thread and goes on. It may start others to clean up.
        """
        if self.processes is not None and not self._programs_ended:
            running = list(self.context.executions.values())
            inner = [each.processes for each in running if each.parent is self and each.processes]
            self._programs_ended = self.processes.end_now(inner)

    @property
    def helper_threads(self) -> Threads:
        """Threads in which its coroutine runs the calls that it waits for.

        Each execution has its own: shared threads could all wait for calls that need one of them.
        """
        if self._helper_threads is None:
            from fsqueue.common.offloading import Threads

            with _making:
                self._helper_threads = self._helper_threads or Threads()
        return self._helper_threads

    def end_helper_threads(self) -> None:
        """Release these threads when the body has ended."""
        if self._helper_threads is not None:
            self._helper_threads.end()

    @property
    def report(self) -> Report:
        """The output and progress of the body, created at its first use."""
        if self._report is None:
            from fsqueue.runner.output.reporting import Report

            with _making:
                self._report = self._report or Report(
                    self.context.store, self.claim.name, self.context.flusher
                )
        return self._report

    def end_report(self) -> None:
        """Write the rest of the report before the outcome, so that its readers find all output."""
        if self._report is not None:
            self._report.close()


class CurrentInvocation:
    """The invocation whose body is running. Returned by `current_invocation`.

    Attributes:
        id: its id.
        task: the task's name.
        queue: the queue's name.
        attempt: number of this attempt, from 1.
        retries: how many earlier attempts failed and were retried.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self.id: str = execution.call.id
        self.task: str = execution.call.task
        self.queue: str = split_profile(execution.call.queue)[0].rpartition(".")[2]
        self.attempt: int = execution.claim.name.attempt
        self.retries: int = execution.claim.name.retries
        self._checked = float("-inf")
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}, attempt {self.attempt}>"

    @property
    def devices(self) -> tuple[str, ...]:
        """The GPUs that this call may use, by name; none if it needs none, or they have no names.

        In a process slot, the environment (CUDA_VISIBLE_DEVICES) shows them too. Threads share
        their environment, so a body in a thread slot must choose its GPUs by these names.
        """
        return self._execution.context.budget.devices(self._execution.claim.text)

    @property
    def remaining(self) -> float | None:
        """Seconds until the timeout of this attempt; None without a timeout."""
        execution = self._execution
        if not execution.call.timeout:
            return None
        passed = execution.context.store.clock.now() - execution.started
        return max(0.0, execution.call.timeout - passed)

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled. Checks the spool at most four times a second."""
        store = self._execution.context.store
        now = store.fs.monotonic()
        if not self._cancelled and now - self._checked > _CHECK_EVERY:
            self._checked = now
            self._cancelled = store.endings.is_cancelled(self.id)
        return self._cancelled

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report the progress of the body to callers and operators.

        This returns at once and never raises an error of the shared directory: another thread
        writes the latest report, at most twice a second. The calls of a batch share one report.

        Args:
            done: how much is done, in any unit.
            total: how much there is to do, in the same unit; None if that is not known.
            message: what the body is doing; at most 200 characters are kept.

        Raises:
            TypeError: a count is not a number, or the message is not a string.
            ValueError: a count is negative or not finite.
        """
        from fsqueue.runner.output.reporting import checked_progress

        self._show(checked_progress(done, total, message))

    def _show(self, progress: Progress) -> None:
        self._execution.report.show(progress)


def current_invocation() -> CurrentInvocation | None:
    """The invocation whose body calls this; None outside of a body."""
    inner = inline.get()
    if inner is not None:
        return inner
    execution = current.get()
    if execution is None:
        return None
    if execution.view is None:
        execution.view = CurrentInvocation(execution)
    return execution.view


current: ContextVar[Execution | None] = ContextVar("fsqueue_execution", default=None)
inline: ContextVar[CurrentInvocation | None] = ContextVar("fsqueue_inline", default=None)

_open: list[WorkerContext] = []


def enter(context: WorkerContext) -> None:
    """Register a worker context whose slots are in this process."""
    _open.append(context)


def leave(context: WorkerContext) -> None:
    """Remove a worker context."""
    _open.remove(context)


def context_of_waiting_body(root: str, app_id: str) -> WorkerContext | None:
    """The worker context of the waiting body; None if the calling code belongs to no body.

    A body holds a slot while it waits, so it must run a pending call itself. A thread that a body
    has started does not know its body; but in a process that only runs bodies, every thread
    belongs to one.

    Args:
        root: the spool of the call.
        app_id: its application.
    """
    execution = current.get()
    if execution is None and not _open:
        return None
    found = [execution.context] if execution else [each for each in _open if each.exclusive]
    for context in found:
        # A process forked by a body is a copy of the worker, not the worker.
        here = context.pid == os.getpid() and context.store.layout.root == root
        if here and app_id in context.apps:
            return context
    return None
