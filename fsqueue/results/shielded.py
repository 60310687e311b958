"""Runs what takes locks in threads that no signal handler interrupts.

A signal handler may raise an exception between any two instructions of the main thread, as Ctrl-C
does. In the wrong place that leaves a lock held: a `Condition`, an `Event` and a `Future` of the
standard library stay locked for ever, and every thread that needs them stands still. So the main
thread has its calls made by another thread, and only waits for a lock that nobody else needs.
"""

from __future__ import annotations

import _thread
import contextvars
import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from fsqueue.runner.attempt.context import current

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

R = TypeVar("R")

_MOST_IDLE = 2


class _Job(Generic[R]):
    """A function that another thread calls, in the context of who makes this."""

    def __init__(self, function: Callable[[], R]) -> None:
        self._call = function
        self._context = contextvars.copy_context()
        self._value: R | None = None
        self._error: BaseException | None = None
        # One acquisition by the C code is all that the waiting thread does with it.
        self.done = _thread.allocate_lock()
        self.done.acquire()

    def run(self) -> None:
        try:
            self._value = self._context.run(self._call)
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            self._error = error
        self.done.release()

    def result(self) -> R:
        if self._error is None:
            return self._value  # type: ignore[return-value]
        try:
            raise self._error
        finally:
            self._error = None  # it refers to this frame


class _Threads:
    """Threads that do jobs; at least one waits for the next job, whatever the others do."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[_Job[Any]] = SimpleQueue()
        self._idle = 0
        self._mutex = threading.Lock()  # of these threads alone
        self._begun = False

    def begin(self) -> bool:
        """Start the first one; False if no thread can be started."""
        if not self._begun:
            try:
                _thread.start_new_thread(self._work, ())
            except RuntimeError:  # too many, or Python is ending
                return False
            self._begun = True
        return True

    def _work(self) -> None:
        with self._mutex:
            self._idle += 1
        while True:
            job = self.jobs.get()
            with self._mutex:
                self._idle -= 1
                last = not self._idle
            if last:
                self._begun = False
                self.begin()
            job.run()
            del job
            with self._mutex:
                if self._idle >= _MOST_IDLE:
                    return
                self._idle += 1


_threads = _Threads()


def _renew() -> None:
    global _threads  # noqa: PLW0603 - a forked child has none of its parent's threads
    _threads = _Threads()


os.register_at_fork(after_in_child=_renew)


def shielded(function: Callable[[], R], drop: Callable[[], object]) -> R:
    """Call a function that no signal handler interrupts; in the main thread, by another thread.

    A body calls it itself: signals do not interrupt bodies.

    Args:
        function: the function.
        drop: called, also by another thread, when a signal handler raises an exception here
            meanwhile: `function` may have returned, be running, or not have begun.
    """
    threads = _threads
    if (
        threading.get_ident() != threading.main_thread().ident
        or current.get() is not None
        or not threads.begin()
    ):
        return function()
    job, dropping = _Job(function), _Job(drop)
    try:
        threads.jobs.put(job)
        job.done.acquire()
    except BaseException:
        threads.jobs.put(dropping)
        dropping.done.acquire()
        raise
    return job.result()


class Wait:
    """A wait for an outcome, which another thread may end."""

    def __init__(self) -> None:
        self.dropped = False
        self._arrival: Future[None] | None = None

    def begin(self, arrival: Future[None]) -> None:
        """Wait for this now."""
        self._arrival = arrival
        if self.dropped:
            arrival.cancel()

    def drop(self) -> None:
        """End it: the thread that waits gets `concurrent.futures.CancelledError`."""
        self.dropped = True
        if self._arrival is not None:
            self._arrival.cancel()


class Droppable(Protocol):
    """Calls that may be given up."""

    def abandon(self, *, stop: bool = False) -> None:
        """Nobody wants their outcomes any more."""


D = TypeVar("D", bound=Droppable)


class Submission(Generic[D]):
    """Calls that one thread makes and another one may give up in the meantime.

    Each side first says what it has done and then looks what the other one has. So the later one
    drops the calls.

    Args:
        submit: makes the calls.
    """

    def __init__(self, submit: Callable[[], D]) -> None:
        self._submit = submit
        self._made: D | None = None
        self._given_up = self._stop = False

    def make(self) -> D:
        """Make the calls."""
        self._made = made = self._submit()
        if self._given_up:
            made.abandon(stop=self._stop)
        return made

    def give_up(self, *, stop: bool = False) -> None:
        """Drop the calls, those that are not made yet as soon as they are.

        Args:
            stop: end the bodies that run.
        """
        self._stop, self._given_up = stop, True
        if self._made is not None:
            self._made.abandon(stop=stop)
