"""How a worker reacts to signals. `REACTIONS` is the table; a worker has no other handlers."""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import select
import signal
import threading
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from fsqueue.errors import FSQueueError
from fsqueue.runner.processes.threads import start_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)


class Reaction(enum.Enum):
    """What a worker does on a signal."""

    DRAIN = "claim nothing more, let the running bodies finish within the grace, and leave"
    RETURN = "give the running calls back at once, and end"


class Former(enum.Enum):
    """Which handlers of the program a worker replaces while it runs; it restores them later."""

    ANY = "any handler"
    NONE_OF_ITS_OWN = "the default action, and that the signal is ignored"
    DEFAULT = "the default action only"


class Rule(NamedTuple):
    """One row of the table."""

    reaction: Reaction
    replaces: Former
    insists: bool = False
    """A second one of those for which this is set is a `Reaction.RETURN`."""


REACTIONS: Final[Mapping[signal.Signals, Rule]] = MappingProxyType(
    {
        # Ctrl-C and a stop by an operator, who may insist.
        signal.SIGINT: Rule(Reaction.DRAIN, Former.ANY, insists=True),
        signal.SIGTERM: Rule(Reaction.DRAIN, Former.ANY, insists=True),
        # The terminal has gone: a shell and the kernel may both say so. nohup(1) ignores it.
        signal.SIGHUP: Rule(Reaction.DRAIN, Former.DEFAULT),
        # Batch systems warn of the end of a job with these; the kernel repeats SIGXCPU each second.
        signal.SIGUSR1: Rule(Reaction.DRAIN, Former.DEFAULT),
        signal.SIGUSR2: Rule(Reaction.DRAIN, Former.DEFAULT),
        signal.SIGXCPU: Rule(Reaction.DRAIN, Former.DEFAULT),
        # Ctrl-\ in a terminal. A script's shell ignores it for what it starts in the background.
        signal.SIGQUIT: Rule(Reaction.RETURN, Former.NONE_OF_ITS_OWN),
    }
)

# timeout(1) and some batch systems signal a process and then its group, which it belongs to.
_ONE_SIGNAL = 0.1
# What passes through the pipe besides the numbers of signals.
_END, _ASKED = 0, 255


class Worker(Protocol):
    """What the signals of a process act on."""

    def drain(self, why: str) -> None:
        """Stop claiming, and leave when the running bodies have finished."""

    def abort(self, status: int, why: str) -> None:
        """Give the running calls back and end the process with an exit status."""


class StopSignals:
    """Catches the signals of this process. Made by `catching`, in the main thread.

    A handler runs between any two instructions of the main thread, which may hold any lock
    there. So it does nothing, and a thread that reads the signals from a pipe acts.
    """

    def __init__(self) -> None:
        self._received, self._sent = os.pipe()
        os.set_blocking(self._sent, False)
        self._worker: Worker | None = None
        self._grace = 0.0
        self._mutex = threading.Lock()
        self._thread = threading.Thread(target=self._act, name="fsqueue-signals", daemon=True)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Catch the signals in the block; then the former handlers are back.

        Raises:
            FSQueueError: this process may not have another thread.
        """
        try:
            start_threads(self._thread)
        except FSQueueError:
            os.close(self._received)
            os.close(self._sent)
            raise
        # Python's own C handler writes to the pipe in whatever thread the kernel has chosen. A
        # handler in Python waits for the main thread, which does not wake up if another thread
        # got the signal.
        former = signal.set_wakeup_fd(self._sent, warn_on_full_buffer=False)
        previous = {
            number: signal.signal(number, _do_nothing)
            for number, rule in REACTIONS.items()
            if _may_replace(number, rule.replaces)
        }
        try:
            yield
        finally:
            for number, action in previous.items():
                signal.signal(number, action)
            signal.set_wakeup_fd(former)
            self._send(_END)
            self._thread.join()
            os.close(self._received)
            os.close(self._sent)

    @contextlib.contextmanager
    def acting_on(self, worker: Worker, grace: float) -> Iterator[None]:
        """Let the signals act on a worker while the block runs."""
        with self._mutex:
            self._worker, self._grace = worker, grace
        try:
            yield
        finally:
            with self._mutex:
                self._worker = None

    def ask(self) -> None:
        """Drain the worker, as if it had got a signal."""
        self._send(_ASKED)

    def _send(self, what: int) -> None:
        os.write(self._sent, bytes([what]))

    # -- the thread -----------------------------------------------------------------------

    def _act(self) -> None:
        draining = Draining()
        while (number := self._next(draining.deadline)) != _END:
            with self._mutex:
                worker, grace = self._worker, self._grace
            if worker is None:
                _end_before_work(number)
            else:
                draining.react(worker, number, grace)

    def _next(self, deadline: float | None) -> int | None:
        """The next message that is for this thread; None if there is none until the deadline.

        Signals that the program itself has handlers for pass through the pipe too.
        """
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._received], [], [], left)[0]:
                return None
            number = os.read(self._received, 1)[0]
            if number in {_END, _ASKED} or _is_ours(number):
                return number


class Draining:
    """What has been done about the signals so far.

    Attributes:
        deadline: when the grace is over, by the steady clock; None before the first signal.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None
        self._insisted: float | None = None

    def react(self, worker: Worker, number: int | None, grace: float) -> None:
        """Act on one signal, or on the end of the grace if there is none."""
        if number is None:
            worker.abort(0, f"the grace of {grace:g} s is over")
            return
        name = _name(number)
        rule = REACTIONS.get(signal.Signals(number)) if number != _ASKED else None
        reaction = Reaction.DRAIN if rule is None else rule.reaction
        if rule is not None and rule.insists and self._is_second():
            reaction = Reaction.RETURN
        if reaction is Reaction.RETURN:
            worker.abort(128 + number, name)
        elif self.deadline is None:
            self.deadline = time.monotonic() + grace
            worker.drain(name)
        else:
            log.info("%s: this worker is stopping already", name)

    def _is_second(self) -> bool:
        """Whether this is the second signal of somebody who insists."""
        now = time.monotonic()
        if self._insisted is None:
            self._insisted = now
            return False
        return now >= self._insisted + _ONE_SIGNAL


_active: StopSignals | None = None


@contextlib.contextmanager
def catching() -> Iterator[StopSignals | None]:
    """Catch the signals of this process in the block; None outside of the main thread.

    ``fsqueue worker`` does so from its first step on. Until its worker begins, each signal ends
    the process: there is nothing to give back.
    """
    global _active  # noqa: PLW0603 - a process has one set of handlers
    if threading.current_thread() is not threading.main_thread():
        yield None
    elif _active is not None:
        yield _active
    else:
        signals = StopSignals()
        with signals.installed():
            _active = signals
            try:
                yield signals
            finally:
                _active = None


def leave_to_the_worker() -> None:
    """Let this process survive the signals that a worker reacts to; what is ignored stays ignored.

    Batch systems and terminals signal all processes of a job: the worker drains then, and its
    other processes are to go on. Handlers that do nothing are not passed on to programs that a
    body starts, as an ignored signal would be.
    """
    for number in REACTIONS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _do_nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, REACTIONS)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Start a process of the worker in the block, and no signal can end it at its start.

    It inherits that this thread holds the signals back, until it calls `leave_to_the_worker`.
    multiprocessing's resource tracker never does, and ends when the others have.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, REACTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _do_nothing(*_: object) -> None:
    """Handle a signal."""


def _end_before_work(number: int | None) -> None:
    if number is None or number == _ASKED:
        return
    log.info("%s: the process ends; its worker had not begun", _name(number))
    returns = REACTIONS[signal.Signals(number)].reaction is Reaction.RETURN
    os._exit(128 + number if returns else 0)


def _name(number: int) -> str:
    return "a request to drain" if number == _ASKED else signal.Signals(number).name


def _is_ours(number: int) -> bool:
    return number in REACTIONS and signal.getsignal(number) is _do_nothing


def _may_replace(number: signal.Signals, replaces: Former) -> bool:
    former = signal.getsignal(number)
    if former is None:
        return False  # set by something that is not Python, which could not get it back
    if replaces is Former.ANY:
        return True
    if former is signal.SIG_IGN:
        return replaces is Former.NONE_OF_ITS_OWN
    return former is signal.SIG_DFL and not _is_caught(number)


def _is_caught(number: int) -> bool:
    """Whether there is a handler that Python does not know of, as one of faulthandler's."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
