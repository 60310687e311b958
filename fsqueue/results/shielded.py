"""Runs functions that take locks in threads that no signal handler can interrupt.

A signal handler can raise an exception between any two instructions of the main thread, as Ctrl-C
does. In the wrong place this leaves a lock held: a `Condition`, an `Event` or a `Future` of the
standard library stays locked for ever, and every thread that needs it blocks. So another thread
runs these functions for the main thread, which only waits for a lock that no other thread needs.
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
    """A function that another thread calls, in the context of the thread that creates the job."""

    def __init__(self, function: Callable[[], R]) -> None:
        self._call = function
        self._context = contextvars.copy_context()
        self._value: R | None = None
        self._error: BaseException | None = None
        # The waiting thread only acquires it, in one step of C code.
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
    """Threads that run jobs. At least one of them is always waiting for the next job."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[_Job[Any]] = SimpleQueue()
        self._idle = 0
        self._mutex = threading.Lock()  # only these threads use it
        self._begun = False

    def begin(self) -> bool:
        """Start the first thread. False if the process cannot start a thread."""
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
    global _threads  # noqa: PLW0603 - a forked child has no threads of its parent
    _threads = _Threads()


os.register_at_fork(after_in_child=_renew)


def shielded(function: Callable[[], R], drop: Callable[[], object]) -> R:
    """Call a function protected from signal handlers: for the main thread, another thread calls it.

    A body calls it directly, because signals do not interrupt bodies.

    Args:
        function: the function.
        drop: called, also by another thread, if a signal handler raises an exception during the
            call. At that time `function` may have returned, be running, or not have begun.
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
    """A wait for an outcome that another thread can end."""

    def __init__(self) -> None:
        self.dropped = False
        self._arrival: Future[None] | None = None

    def begin(self, arrival: Future[None]) -> None:
        """Set the arrival that the thread waits for next."""
        self._arrival = arrival
        if self.dropped:
            arrival.cancel()

    def drop(self) -> None:
        """End the wait: the waiting thread gets `concurrent.futures.CancelledError`."""
        self.dropped = True
        if self._arrival is not None:
            self._arrival.cancel()


class Droppable(Protocol):
    """Calls that can be abandoned."""

    def abandon(self, *, stop: bool = False) -> None:
        """Abandon the calls."""


D = TypeVar("D", bound=Droppable)


class Submission(Generic[D]):
    """Calls that one thread publishes while another thread may give them up.

    Each thread first records what it has done and then checks what the other one has done. So the
    later one abandons the calls.

    Args:
        submit: publishes the calls.
    """

    def __init__(self, submit: Callable[[], D]) -> None:
        self._submit = submit
        self._made: D | None = None
        self._given_up = self._stop = False

    def make(self) -> D:
        """Publish the calls."""
        self._made = made = self._submit()
        if self._given_up:
            made.abandon(stop=self._stop)
        return made

    def give_up(self, *, stop: bool = False) -> None:
        """Abandon the calls now, or as soon as they are published.

        Args:
            stop: stop the bodies that are running.
        """
        self._stop, self._given_up = stop, True
        if self._made is not None:
            self._made.abandon(stop=stop)
