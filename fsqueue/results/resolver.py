"""Resolver: one thread that waits for the outcomes of many calls, and calls back for each."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING

from fsqueue.spool.wakeups.sleeper import Sleeper
from fsqueue.spool.wakeups.watching import watches

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.results.pending_result import PendingResult
    from fsqueue.spool.caller.waiter import Wait, Waiter
    from fsqueue.spool.disk.content import Content

    Then = Callable[[Content | None, BaseException | None], object]

log: logging.Logger = logging.getLogger(__name__)

# Seconds for which the thread sleeps while it waits for nothing.
_IDLE = 3600.0


class _Entry:
    """One outcome that is awaited. The resolver's thread alone changes it."""

    __slots__ = ("ended", "pending_result", "then", "wait", "waiter")

    def __init__(self, pending_result: PendingResult, then: Then) -> None:
        self.pending_result = pending_result
        self.then = [then]
        self.wait: Wait | None = None
        self.waiter: Waiter | None = None
        self.ended = False


class Resolver:
    """Waits for outcomes in one thread.

    The thread starts with the first outcome to wait for. If the application is closed, the waits
    end with its error. A forked child of the process waits for nothing.

    Args:
        lasting: the thread runs until `close`; otherwise it ends whenever it waits for nothing.
    """

    def __init__(self, *, lasting: bool = False) -> None:
        self._lasting = lasting
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        # Held only to start the thread and to let it end.
        self._mutex = threading.Lock()
        # New entries, and those whose wait has ended. Any thread may append.
        self._woken: deque[_Entry] = deque()
        self._entries: dict[PendingResult, _Entry] = {}
        self._waiters: Counter[Waiter] = Counter()
        self._sleeper = Sleeper()
        self._thread: threading.Thread | None = None

    def add(self, pending_result: PendingResult, then: Then) -> None:
        """Wait for an outcome.

        Args:
            pending_result: of the call or batch.
            then: called in the resolver's thread, once, with the outcome or with the reason why it
                cannot be read.

        Raises:
            RuntimeError: this process may not have another thread.
        """
        if self._pid != os.getpid():
            self._begin_anew()
        entry = _Entry(pending_result, then)
        self._woken.append(entry)
        with self._mutex:
            # The thread decides under the same lock that it has nothing left to do.
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="fsqueue-resolver", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    self._woken.remove(entry)
                    raise
                self._thread = thread
        watches().wake(self._sleeper)

    def close(self, *, wait: bool = True) -> None:
        """Let the thread end when it waits for nothing more.

        Args:
            wait: block until it has ended. A call of `then` may not wait for that.
        """
        if self._pid != os.getpid():
            return
        with self._mutex:
            self._lasting, thread = False, self._thread
        watches().wake(self._sleeper)
        if wait and thread is not None:
            thread.join()

    # -- the thread ---------------------------------------------------------------------

    def _run(self) -> None:
        sleeper = self._sleeper
        sleeper.thread = threading.get_ident()
        while True:
            sleeper.rung = False
            while self._woken:
                self._check(self._woken.popleft())
            due = [waiter for waiter in self._waiters if waiter.until_poll <= 0]
            for waiter in due:
                _poll(waiter)
            if due:
                continue
            with self._mutex:
                if not (self._lasting or self._entries or self._woken):
                    self._thread = None
                    return
            left = [waiter.until_poll for waiter in self._waiters]
            watches().sleep(sleeper, min(left, default=_IDLE))

    def _check(self, entry: _Entry) -> None:
        """Pass on an outcome, or wait for it (again)."""
        known = self._entries.setdefault(entry.pending_result, entry) if not entry.ended else entry
        if known is not entry:
            known.then += entry.then  # another call of a batch, or another future of the call
            return
        if entry.ended or (entry.wait is not None and not entry.wait.over):
            return  # all are woken if events were missed; the next poll shows which have ended
        content: Content | None = None
        failure: BaseException | None = None
        try:
            content = self._content(entry)
        except BaseException as error:  # noqa: BLE001 - for the caller
            failure = error
        if content is None and failure is None:
            return
        entry.ended = True
        del self._entries[entry.pending_result]
        for then in entry.then:
            try:
                then(content, failure)
            except BaseException:
                log.exception("cannot pass on the result of %s", entry.pending_result.id)

    def _content(self, entry: _Entry) -> Content | None:
        """The outcome if it has arrived; otherwise a wait for it has begun."""
        pending_result = entry.pending_result
        if entry.wait is None:
            content = pending_result.known_content()
        else:
            self._end_wait(entry, entry.wait)
            content = pending_result.read()
        while content is None:
            waiter = pending_result.waiter
            entry.wait = pending_result.begin(waiter, partial(self._wake, entry))
            if entry.wait is not None:
                entry.waiter = waiter
                self._waiters[waiter] += 1
                break
            content = pending_result.read()
        return content

    def _end_wait(self, entry: _Entry, wait: Wait) -> None:
        waiter, entry.wait = entry.waiter, None
        if waiter is not None:
            self._waiters[waiter] -= 1
            if self._waiters[waiter] <= 0:
                del self._waiters[waiter]
        if wait.error is not None:
            raise wait.error

    def _wake(self, entry: _Entry) -> None:
        self._woken.append(entry)
        watches().wake(self._sleeper)


def _poll(waiter: Waiter) -> None:
    try:
        waiter.poll()
    except Exception:
        # All calls of the resolver rely on this.
        log.exception("cannot check for results, trying again")


shared_resolver: Resolver = Resolver()
"""Resolves the futures of invocations. Its thread runs only while such futures are pending."""
