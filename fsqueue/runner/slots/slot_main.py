"""Main function of a slot process. It receives only names: claims, and the app's location."""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import pkgutil
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from fsqueue.codec.texts import summary
from fsqueue.common import logs
from fsqueue.environment import streams
from fsqueue.errors import ConfigError, FSQueueError, SpoolError, SpoolReplacedError
from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.attempt.context import WorkerContext, enter
from fsqueue.runner.attempt.endings import settle
from fsqueue.runner.attempt.execute import execute
from fsqueue.runner.host import apps_of, resolver_of
from fsqueue.runner.processes import descendants
from fsqueue.runner.processes.body_processes import end_processes_of_bodies
from fsqueue.runner.processes.signals import leave_to_the_worker
from fsqueue.runner.processes.threads import start_threads
from fsqueue.runner.shared.resource_pool import NO_RESOURCES, RemoteBudget
from fsqueue.runner.shared.time_left import ENDLESS, TimeLeft
from fsqueue.runner.slots.devices import ShownDevices
from fsqueue.runner.slots.messages import (
    Coroutine,
    Ended,
    Interrupt,
    Limit,
    Ready,
    Unfit,
    Work,
)
from fsqueue.runner.slots.self_claiming import SelfClaiming
from fsqueue.spool.disk.identity import Process, is_gone, this_process
from fsqueue.spool.format.records import NESTED
from fsqueue.spool.history.entries import take_notes
from fsqueue.spool.worker.registration import Worker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from fsqueue.common.logs import LogSetup
    from fsqueue.runner.attempt.context import Execution
    from fsqueue.runner.attempt.endings import Finished
    from fsqueue.runner.host import Host
    from fsqueue.runner.shared.resource_pool import ResourceBudget
    from fsqueue.runner.slots.messages import Message
    from fsqueue.runner.slots.self_claiming import Service
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.history.entries import Entry

log: logging.Logger = logging.getLogger(__name__)

_PREFIX = "FSQUEUE__"
_PARENT_CHECK = 0.25
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Setup:
    """How a slot process finds the application of its parent."""

    locator: str
    root: str
    spool: str
    path: tuple[str, ...]
    environ: dict[str, str]
    parent: Process
    logs: LogSetup | None
    gpu_variable: str
    """The environment variable that shows programs their GPUs; empty if these have no names."""
    time_left: TimeLeft
    """The time that the worker has left."""
    executor: bool = False
    """Whether it runs the calls of executors, too."""
    service: Service | None = None
    """The queues from which the process may claim calls itself; None if it never may."""

    @classmethod
    def of(
        cls,
        host: Host,
        gpu_variable: str = "",
        time_left: TimeLeft = ENDLESS,
        *,
        executor: bool = False,
        service: Service | None = None,
    ) -> Setup:
        """The setup of an application of this process.

        Args:
            gpu_variable: see `Setup`.
            time_left: see `Setup`.
            executor: see `Setup`.
            service: see `Setup`.

        Raises:
            ConfigError: the application cannot be imported by another process.
        """
        environ = {key: value for key, value in os.environ.items() if key.startswith(_PREFIX)}
        root, spool, path = host.store.layout.root, host.store.files.info.id, tuple(sys.path)
        return cls(
            host.locate(),
            root,
            spool,
            path,
            environ,
            this_process(),
            logs.chosen(),
            gpu_variable,
            time_left,
            executor,
            service,
        )

    def apply(self) -> Host:
        """Import the application and open its spool.

        Raises:
            ConfigError: the imported application uses another spool than the parent.
        """
        if self.logs is not None:
            logs.set_up(self.logs)
        for key in [key for key in os.environ if key.startswith(_PREFIX)]:
            del os.environ[key]  # a fork server keeps the environment in which it was started
        os.environ.update(self.environ)
        sys.path[:] = self.path
        host = cast("Host", pkgutil.resolve_name(self.locator))
        # Before the spool is opened, which would be tried until a spool appears there.
        if host.root != self.root:
            raise ConfigError(
                f"{self.locator} uses the spool {self.root} in the worker's main process, but "
                f"{host.root} in the process of a slot: its root must not depend on what only the "
                "main process knows. Set FSQUEUE__ROOT."
            )
        host.expect_spool(self.spool)
        _connect(host)
        return host


def _connect(host: Host) -> None:
    """Open the spool; try again while the shared directory fails.

    A process that gave up here would immediately fail every call that it gets later.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            host.store.files.sync_clock()
        except (OSError, SpoolError) as error:
            if not isinstance(error, OSError) and not isinstance(error.__cause__, OSError):
                raise  # the directory works, but holds no spool of this application
            log.warning("the shared directory fails (%s); trying again in %.2f s", error, pause)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            return


class _Claimant:
    """Registers a nested worker when a body first waits for a pending call.

    The nested worker never deregisters: its process is killed, and the parent cleans up.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._worker: Worker | None = None
        self._mutex = threading.Lock()

    def __call__(self) -> Worker:
        with self._mutex:
            if self._worker is None:
                worker = Worker(self._host.store, queues=(), runner=NESTED, concurrency=1)
                worker.register()
                try:
                    # Unlike a `threading.Thread`, it does not share a lock with this thread, which
                    # the signal handler of a body can interrupt.
                    _thread.start_new_thread(self._live, (worker,))
                except BaseException:
                    worker.deregister()
                    raise
                self._worker = worker
            return self._worker

    def _live(self, worker: Worker) -> None:
        pause = threading.Event()
        while not pause.wait(self._host.conf.heartbeat):
            try:
                worker.keep_alive()
            except SpoolReplacedError as error:
                log.error("the spool of worker %s is gone: %s", worker.name, error)  # noqa: TRY400
                return  # the parent ends this process
            except (OSError, SpoolError) as error:
                log.warning("worker %s cannot beat, trying again: %s", worker.name, error)


def _let_the_parent_decide(parent: Process) -> None:
    """Ignore stop signals, and exit when the parent has died.

    Raises:
        FSQueueError: this process cannot start the thread for that.
    """
    leave_to_the_worker()

    def watch() -> None:
        pause = threading.Event()
        while not is_gone(parent):
            pause.wait(_PARENT_CHECK)
        os._exit(1)

    start_threads(threading.Thread(target=watch, name="fsqueue-parent", daemon=True))


CANCELLED: Final = 76
"""Exit status of a slot's process whose coroutine was cancelled."""


def _belong_to_the_server() -> None:
    """Make sure that this process and all processes below it can be found and ended."""
    with contextlib.suppress(PermissionError):
        os.setsid()  # a body that signals its process group must reach no other slot
    descendants.adopt_orphans()
    if hasattr(signal, "SIGRTMIN"):
        signal.signal(signal.SIGRTMIN, signal.SIG_DFL)
    descendants.signal_when_parent_dies(signal.SIGKILL)


def _prepare(
    setup: Setup, budget: ResourceBudget, pipe: Connection, entries: list[Entry]
) -> WorkerContext:
    """Import the application and open its spool, once per process."""
    host = setup.apply()
    host.store.dependencies.leave_to_worker()
    context = WorkerContext(
        store=host.store,
        worker=_Claimant(host),
        resolve=resolver_of(host, executor=setup.executor),
        app_id=host.app_id,
        exclusive=True,
        budget=budget,
        record_attempt=entries.append,
        ended=host.triggers.ended,
    )
    context.on_limit = lambda seconds: _send(pipe, Limit(seconds))
    context.apps = apps_of(host, executor=setup.executor)
    context.time_left = setup.time_left
    if setup.gpu_variable:
        context.show_devices = ShownDevices(setup.gpu_variable)
    enter(context)
    return context


def serve(
    setup: Setup,
    pipe: Connection,
    resource_pipe: Connection | None,
    record_pipe: Connection | None,
) -> None:
    """Execute claims from the parent until the parent closes the pipe, or dies.

    Args:
        setup: where the application is.
        pipe: brings claims, and takes messages to the parent.
        resource_pipe: takes requests for resources; None if the worker has none.
        record_pipe: takes records of calls that the process claims itself; None if it never does.
    """
    _belong_to_the_server()
    streams.empty_stdin()
    entries: list[Entry] = []
    try:
        _let_the_parent_decide(setup.parent)
        budget = NO_RESOURCES if resource_pipe is None else RemoteBudget(resource_pipe)
        context = _prepare(setup, budget, pipe, entries)
    except BaseException as error:  # noqa: BLE001 - the parent logs it
        _tell(pipe, Unfit(summary(error), final=isinstance(error, ConfigError)))
        return
    claiming = SelfClaiming(context.store, setup.service, pipe, record_pipe)
    _heed_interrupts(context, pipe, claiming)
    if not _tell(pipe, Ready()):
        return
    while True:
        try:
            order = pipe.recv()
        except (EOFError, OSError):
            end_processes_of_bodies(keep=False)
            return
        if not isinstance(order, Work):
            continue  # its body has just ended
        if isinstance(budget, RemoteBudget):
            budget.was_given(order.claim.text, order.devices)
            context.show_devices(order.devices)
        ending = _ending_of(context, order.claim)
        claiming.begin(order)
        entries += take_notes(context.store)
        while (claim := claiming.next(ending, entries)) is not None:
            ending = _ending_of(context, claim)
            entries += take_notes(context.store)
        recorded, entries[:] = entries[:], []
        _send(pipe, Ended(None if claiming.told else ending, recorded))


def _tell(pipe: Connection, message: Message) -> bool:
    """Send a message to the parent; False if the parent has closed the pipe, or died."""
    try:
        pipe.send(message)
    except OSError:
        return False
    return True


def _send(pipe: Connection, message: Message) -> None:
    """Send a message to the parent; ends this process if there is none to receive it.

    Another worker will run the call again, so this error must not become the call's outcome.
    """
    if not _tell(pipe, message):
        end_processes_of_bodies(keep=False)
        os._exit(1)


def _heed_interrupts(context: WorkerContext, pipe: Connection, claiming: SelfClaiming) -> None:
    """Let the parent interrupt a coroutine while it runs.

    The parent must know which bodies are coroutines: it kills the process of a plain body at once.
    """

    def report_coroutine(execution: Execution) -> None:
        if execution.parent is None and threading.current_thread() is threading.main_thread():
            _send(pipe, Coroutine(execution.claim.text))

    def receive_interrupt() -> None:
        # Only the thread that receives claims reads the pipe.
        if threading.current_thread() is not threading.main_thread():
            return
        with contextlib.suppress(EOFError, OSError):  # the parent is gone, so this process will end
            if pipe.poll():
                order = pipe.recv()
                claiming.recalled = True  # any message from the parent ends the grant
                if isinstance(order, Interrupt):
                    context.interrupt(order.attempt, order.ending)

    context.on_coroutine, context.while_waiting = report_coroutine, receive_interrupt


def _publish(finished: Finished) -> Ending:
    """Publish the answer of a call. The parent holds the claim, and releases it later."""
    return settle(finished, lambda _: True)


def _ending_of(context: WorkerContext, claim: Claim) -> Ending | FSQueueError:
    try:
        ending = _publish(execute(context, claim, _publish, killable=True))
        if ending is Ending.CANCELLED:
            # Also ends whatever the body left running, like killing the process of a plain body.
            os._exit(CANCELLED)
    except BaseException as error:  # noqa: BLE001 - the parent logs it and gives the claim back
        # As text: the parent must be able to unpickle it, whatever the error is.
        return FSQueueError(summary(error))
    return ending
