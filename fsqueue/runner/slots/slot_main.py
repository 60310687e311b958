"""What runs in the process of a slot. Only names cross over: a claim, and where the app is."""

from __future__ import annotations

import contextlib
import logging
import os
import pkgutil
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from fsqueue.codec.texts import summary
from fsqueue.common import logs
from fsqueue.environment import streams
from fsqueue.errors import ConfigError, FSQueueError, SpoolError, SpoolReplacedError
from fsqueue.runner.attempt.context import WorkerContext, enter
from fsqueue.runner.attempt.execute import Ending, execute
from fsqueue.runner.attempt.resource_pool import NO_RESOURCES, RemoteBudget
from fsqueue.runner.processes import descendants
from fsqueue.runner.processes.body_processes import end_processes_of_bodies
from fsqueue.runner.processes.signals import leave_to_the_worker
from fsqueue.spool.disk.identity import Process, is_gone, this_process
from fsqueue.spool.worker.registration import Worker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from fsqueue.common.logs import LogSetup
    from fsqueue.runner.attempt.context import Execution
    from fsqueue.runner.attempt.resource_pool import ResourceBudget
    from fsqueue.runner.host import Host
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.names import AttemptName
    from fsqueue.spool.history.journal import Entry

log = logging.getLogger(__name__)

_PREFIX = "FSQUEUE__"
_PARENT_CHECK = 0.25
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Setup:
    """How a slot's process finds the application that its parent has."""

    locator: str
    root: str
    spool: str
    path: tuple[str, ...]
    environ: dict[str, str]
    parent: Process
    logs: LogSetup | None

    @classmethod
    def of(cls, host: Host) -> Setup:
        """The setup of an application of this process.

        Raises:
            ConfigError: the application cannot be imported by another process.
        """
        environ = {key: value for key, value in os.environ.items() if key.startswith(_PREFIX)}
        root, spool, path = host.store.layout.root, host.store.files.info.id, tuple(sys.path)
        return cls(host.locate(), root, spool, path, environ, this_process(), logs.chosen())

    def apply(self) -> Host:
        """Import the application and open its spool.

        Raises:
            ConfigError: what was imported uses another spool than the parent.
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
    """Open the spool, for as long as the shared directory does not let it.

    A process that gave up here would fail each call that it gets from then on, at once.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            host.store.files.sync_clock()
        except (OSError, SpoolError) as error:
            if not isinstance(error, OSError) and not isinstance(error.__cause__, OSError):
                raise  # it can be used, and is no spool of this application
            log.warning("the shared directory fails (%s); trying again in %.2f s", error, pause)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            return


class _Claimant:
    """Registers a worker of its own when a body waits for a call that is pending.

    It never leaves by itself: its process is ended, and the parent removes what is left.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._worker: Worker | None = None
        self._mutex = threading.Lock()

    def __call__(self) -> Worker:
        with self._mutex:
            if self._worker is None:
                worker = Worker(self._host.store, queues=(), runner="nested", concurrency=1)
                worker.register()
                try:
                    threading.Thread(target=self._live, args=(worker,), daemon=True).start()
                except RuntimeError:
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
                log.error("worker %s has no spool any more: %s", worker.name, error)  # noqa: TRY400
                return  # the parent ends this process
            except (OSError, SpoolError) as error:
                log.warning("worker %s cannot beat, trying again: %s", worker.name, error)


def _let_the_parent_decide(parent: Process) -> None:
    """Stop when the parent has died, and not when a signal comes."""
    leave_to_the_worker()

    def watch() -> None:
        pause = threading.Event()
        while not is_gone(parent):
            pause.wait(_PARENT_CHECK)
        os._exit(1)

    threading.Thread(target=watch, name="fsqueue-parent", daemon=True).start()


CANCELLED: Final = 76
"""Exit status of a slot's process whose coroutine was cancelled."""


class Interrupt(NamedTuple):
    """What the parent sends to have a coroutine cancelled."""

    attempt: AttemptName
    ending: Ending


@dataclass(frozen=True)
class Ready:
    """Said once: the application is imported and the spool open."""


@dataclass(frozen=True)
class Unfit:
    """Said instead, before the process ends.

    Attributes:
        reason: why no call can be run here.
        final: it will be the same in the next process.
    """

    reason: str
    final: bool


@dataclass(frozen=True)
class Limit:
    """The body that runs now may take so many seconds; None: it has ended.

    The parent keeps the time: a body may let no thread of its own process run, and signals and
    timers of the process are the body's.
    """

    seconds: float | None


@dataclass(frozen=True)
class Coroutine:
    """The body that runs now is a coroutine, which can be interrupted."""


@dataclass(frozen=True)
class Ended:
    """A claim has ended, and this is for the journal of the parent's worker."""

    ending: Ending | FSQueueError
    notes: list[Entry]


Message: TypeAlias = Ready | Unfit | Limit | Coroutine | Ended
"""What the process of a slot tells its parent."""


def _belong_to_the_server() -> None:
    """Make sure that this process, and all below it, can be found and ended."""
    with contextlib.suppress(PermissionError):
        os.setsid()  # a body that signals its own group reaches no other slot
    descendants.adopt_orphans()
    if hasattr(signal, "SIGRTMIN"):
        signal.signal(signal.SIGRTMIN, signal.SIG_DFL)
    descendants.signal_when_parent_dies(signal.SIGKILL)


def _prepare(
    setup: Setup, budget: ResourceBudget, pipe: Connection, notes: list[Entry]
) -> WorkerContext:
    """Import the application and open its spool, once per process."""
    host = setup.apply()
    host.store.dependencies.leave_to_worker()
    context = WorkerContext(
        store=host.store,
        worker=_Claimant(host),
        resolve=host.resolve,
        unpickles=host.unpickles,
        app_id=host.app_id,
        exclusive=True,
        note=notes.append,
        ended=host.triggers.ended,
    )
    context.budget = budget
    context.on_limit = lambda seconds: pipe.send(Limit(seconds))
    enter(context)
    return context


def serve(setup: Setup, pipe: Connection, resource_pipe: Connection | None) -> None:
    """Execute claims from the parent until it closes the pipe, or is gone.

    Args:
        setup: where the application is.
        pipe: claims come from there, and messages go there.
        resource_pipe: where resources are asked for, if the worker has some.
    """
    _belong_to_the_server()
    _let_the_parent_decide(setup.parent)
    streams.empty_stdin()
    notes: list[Entry] = []
    try:
        budget = NO_RESOURCES if resource_pipe is None else RemoteBudget(resource_pipe)
        context = _prepare(setup, budget, pipe, notes)
    except BaseException as error:  # noqa: BLE001 - the parent says it
        pipe.send(Unfit(summary(error), final=isinstance(error, ConfigError)))
        return
    _heed_interrupts(context, pipe)
    pipe.send(Ready())
    while True:
        try:
            claim = pipe.recv()
        except (EOFError, OSError):
            end_processes_of_bodies(keep=False)
            return
        if isinstance(claim, Interrupt):
            continue  # its body has just ended
        ending = _ending_of(context, claim)
        if ending is Ending.CANCELLED:
            # With all that the body has left, as the process of a plain body.
            os._exit(CANCELLED)
        noted, notes[:] = notes[:], []
        pipe.send(Ended(ending, noted))


def _heed_interrupts(context: WorkerContext, pipe: Connection) -> None:
    """While a coroutine runs, let the parent interrupt it.

    The parent is told of each coroutine, as it kills the process of a plain body at once.
    """

    def tell(execution: Execution) -> None:
        if execution.parent is None and threading.current_thread() is threading.main_thread():
            pipe.send(Coroutine())

    def attend() -> None:
        # Only the thread that waits for claims reads the pipe.
        if threading.current_thread() is not threading.main_thread():
            return
        with contextlib.suppress(EOFError, OSError):  # the parent is gone, and so this process
            if pipe.poll():
                order = pipe.recv()
                if isinstance(order, Interrupt):
                    context.interrupt(order.attempt, order.ending)

    context.on_coroutine, context.attend = tell, attend


def _ending_of(context: WorkerContext, claim: Claim) -> Ending | FSQueueError:
    try:
        return execute(context, claim, lambda _: True, killable=True)
    except BaseException as error:  # noqa: BLE001 - the parent says it, and gives the claim back
        # As text: the parent must be able to read it, whatever it is.
        return FSQueueError(summary(error))
