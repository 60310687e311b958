"""The signal handling of a worker. `REACTIONS` is the complete table of its handlers."""

from __future__ import annotations

import contextlib
import enum
import logging
import math
import os
import select
import signal
import threading
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from fsqueue.errors import FSQueueError
from fsqueue.runner.processes.job import kill_notice
from fsqueue.runner.processes.threads import start_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log: logging.Logger = logging.getLogger(__name__)


class Reaction(enum.Enum):
    """The reaction of a worker to a signal."""

    DRAIN = "claim nothing more, let the running bodies finish within the grace, and leave"
    CLOSE = "claim nothing more, and let the running bodies go on until the batch job ends"
    RETURN = "give the running calls back at once, and end"


class Former(enum.Enum):
    """The handlers of the program that a worker may replace while it runs, and restores later."""

    ANY = "any handler"
    NONE_OF_ITS_OWN = "the default action, and that the signal is ignored"
    DEFAULT = "the default action only"


class Rule(NamedTuple):
    """One row of the table."""

    reaction: Reaction
    replaces: Former
    insists: bool = False
    """A second signal of those with this flag causes a `Reaction.RETURN`."""


REACTIONS: Final[Mapping[signal.Signals, Rule]] = MappingProxyType(
    {
        # Ctrl-C and a stop by an operator, who may repeat it.
        signal.SIGINT: Rule(Reaction.DRAIN, Former.ANY, insists=True),
        signal.SIGTERM: Rule(Reaction.DRAIN, Former.ANY, insists=True),
        # The terminal is gone; a shell and the kernel may both send this. nohup(1) ignores it.
        signal.SIGHUP: Rule(Reaction.DRAIN, Former.DEFAULT),
        # Batch systems announce a job's end with these; the kernel repeats SIGXCPU each second.
        signal.SIGUSR1: Rule(Reaction.CLOSE, Former.DEFAULT),
        signal.SIGUSR2: Rule(Reaction.CLOSE, Former.DEFAULT),
        signal.SIGXCPU: Rule(Reaction.CLOSE, Former.DEFAULT),
        # Ctrl-\ in a terminal. The shell of a script ignores it for background processes.
        signal.SIGQUIT: Rule(Reaction.RETURN, Former.NONE_OF_ITS_OWN),
    }
)

# Signals within this many seconds count as one: timeout(1) and some batch systems signal a process
# and then its group.
_ONE_SIGNAL = 0.1
# Messages in the pipe besides signal numbers.
_END, _ASKED = 0, 255


class Worker(Protocol):
    """The worker that the signals of a process act on."""

    def drain(self, why: str) -> None:
        """Stop claiming, and leave when the running bodies have finished."""

    def close(self, why: str) -> float:
        """Drain, because the batch job ends soon.

        Returns:
            Seconds that running bodies may still take.
        """

    def abort(self, status: int, why: str) -> None:
        """Give the running calls back and end the process with an exit status."""


class StopSignals:
    """Catches the signals of this process. Made by `catching`, in the main thread.

    A handler runs between any two instructions of the main thread, which may hold any lock at that
    point. So the handlers do nothing, and a thread reads the signals from a pipe and acts.
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
        """Catch the signals in the block, and restore the former handlers after it.

        Raises:
            FSQueueError: this process cannot start another thread.
        """
        try:
            start_threads(self._thread)
        except FSQueueError:
            os.close(self._received)
            os.close(self._sent)
            raise
        # Python's C handler writes to the pipe in the thread that the kernel has chosen. A handler
        # in Python runs in the main thread, which does not wake up if another thread got the
        # signal.
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
        """The next message for this thread; None if none arrives before the deadline.

        The pipe also receives signals for which the program itself has handlers.
        """
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._received], [], [], left)[0]:
                return None
            number = os.read(self._received, 1)[0]
            if number in {_END, _ASKED} or _is_ours(number):
                return number


class Draining:
    """The state of a drain: the reactions to the signals so far.

    Attributes:
        deadline: when the running calls are given back, by the monotonic clock; None before the
            first signal.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None
        self._draining = False
        self._insisted: float | None = None
        self._kill_notice = kill_notice(os.environ)

    def react(self, worker: Worker, number: int | None, grace: float) -> None:
        """React to one signal, or to the deadline if `number` is None."""
        if number is None:
            worker.abort(0, "the time for running bodies is over")
            return
        name = _name(number)
        rule = REACTIONS.get(signal.Signals(number)) if number != _ASKED else None
        reaction = Reaction.DRAIN if rule is None else rule.reaction
        if number == self._kill_notice:
            reaction = Reaction.DRAIN
        if rule is not None and rule.insists and self._is_second():
            reaction = Reaction.RETURN
        if reaction is Reaction.RETURN:
            worker.abort(128 + number, name)
        elif reaction is Reaction.CLOSE and self.deadline is None:
            self.deadline = time.monotonic() + worker.close(name)
        elif reaction is Reaction.DRAIN and not self._draining:
            # A warning before it may have given the bodies more time than the system has now.
            self._draining = True
            self.deadline = min(self.deadline or math.inf, time.monotonic() + grace)
            worker.drain(name)
        else:
            log.info("%s: this worker is stopping already", name)

    def _is_second(self) -> bool:
        """Whether this is a second, separate stop signal of an operator."""
        now = time.monotonic()
        if self._insisted is None:
            self._insisted = now
            return False
        return now >= self._insisted + _ONE_SIGNAL


_active: StopSignals | None = None


@contextlib.contextmanager
def catching() -> Iterator[StopSignals | None]:
    """Catch the signals of this process in the block; None outside of the main thread.

    ``fsqueue worker`` does this from its first step. Until its worker begins, each signal ends the
    process, because there is nothing to give back.
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
    """Let this process survive the signals that a worker reacts to. Ignored signals stay ignored.

    Batch systems and terminals signal all processes of a job. The worker drains then, and its other
    processes must continue. Programs that a body starts would inherit ignored signals, but they do
    not inherit handlers that do nothing.
    """
    for number in REACTIONS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _do_nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, REACTIONS)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Block signals while the block starts a process of the worker, so that none can end it.

    The process inherits the blocked signals until it calls `leave_to_the_worker`.
    multiprocessing's resource tracker never calls it, and ends when the other processes have.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, REACTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _do_nothing(*_: object) -> None:
    """Handle a signal without any action."""


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
        return False  # not set by Python, so it could not be restored
    if replaces is Former.ANY:
        return True
    if former is signal.SIG_IGN:
        return replaces is Former.NONE_OF_ITS_OWN
    return former is signal.SIG_DFL and not _is_caught(number)


def _is_caught(number: int) -> bool:
    """Whether there is a handler that Python does not know, such as that of faulthandler."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
