"""Resolver: one thread that waits for the outcomes of many calls, and calls back for each."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError
from fsqueue.spool.caller.wait import Wait
from fsqueue.spool.wakeups.sleeper import Sleeper
from fsqueue.spool.wakeups.watching import watches

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.results.pending_result import PendingResult
    from fsqueue.spool.caller.waiter import Waiter
    from fsqueue.spool.disk.content import Content

    Then = Callable[[Content | None, BaseException | None], object]

log: logging.Logger = logging.getLogger(__name__)

# Seconds for which the thread sleeps while it waits for nothing.
_IDLE = 3600.0
# Seconds by which a poll may be late. Without it, each new call would end the thread's sleep.
_LATE = 0.001
# With more than this many outcomes to wait for, the thread pauses briefly between checks and takes
# several at once, because each time it wakes up, it holds the GIL and delays the threads that make
# calls. The pause is shorter than the time in which a caller can make that many calls.
_MANY = 32
_GATHER_EACH = 5e-5
_GATHER = 0.02
# Seconds until an outcome is read again after the shared directory failed.
_AGAIN = 1.0


class _Entry(Wait):
    """One awaited outcome. It is its own `Wait` to save memory, since there may be thousands.

    Attributes:
        waiter: the waiter with which its wait has begun; None before that.
    """

    __slots__ = ("others", "pending_result", "resolver", "then", "troubled", "waiter")

    def __init__(self, resolver: Resolver, pending_result: PendingResult, then: Then) -> None:
        self.invocation_id: str = pending_result.id
        self.over: bool = False
        self.error: Exception | None = None
        self.resolver: Resolver = resolver
        self.pending_result: PendingResult = pending_result
        self.then: Then = then
        self.others: tuple[Then, ...] = ()
        self.waiter: Waiter | None = None
        self.troubled: bool = False

    def wake(self) -> None:
        """Let the resolver's thread check it."""
        self.resolver.wake(self)


class Resolver:
    """Waits for outcomes in one thread.

    The thread starts with the first outcome to wait for. If the application is closed, the waits
    end with its error. A forked child starts with nothing to wait for.

    Args:
        at_end: called by the thread as its last step. With it, the thread runs until `close`;
            without it, the thread ends whenever it waits for nothing.
        daemon: whether the process may exit while the thread runs.

    Attributes:
        thread: the thread; None if it has not begun, or has ended.
    """

    def __init__(self, at_end: Callable[[], object] | None = None, *, daemon: bool = True) -> None:
        self._at_end, self._daemon = at_end, daemon
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all outcomes and the thread. In a forked child, they are the parent's."""
        # Held while an entry is added, begins or ends a wait, or is removed; never during a read.
        # Reentrant: a finalizer may close this in a thread that holds the lock.
        self._mutex = threading.RLock()
        # Entries that the thread has to check. Any thread may append.
        self._woken: deque[_Entry] = deque()
        self._again: list[_Entry] = []
        self._entries: dict[PendingResult, _Entry] = {}
        self._waiters: Counter[Waiter] = Counter()
        self._sleeper = Sleeper()
        self._until = 0.0  # the thread sleeps until then
        self._step: tuple[float, Callable[[], object]] | None = None
        self._closed = False
        self.thread: threading.Thread | None = None

    def add(self, pending_result: PendingResult, then: Then, waiter: Waiter | None = None) -> None:
        """Wait for an outcome. From any thread.

        Args:
            pending_result: the pending result of the call or batch.
            then: called in the resolver's thread, once, with the outcome or with the reason why
                there is none.
            waiter: of this process, for a call that was just published, so that nothing else can
                have taken its outcome.

        Raises:
            RuntimeError: this process cannot start another thread.
        """
        with self._mutex:
            if self.thread is None:
                self.start()
            known = self._entries.get(pending_result)
            if known is not None:
                known.others += (then,)  # another call of a batch, or another future of the call
                return
            entry, begun = _Entry(self, pending_result, then), False
            try:
                self._entries[pending_result] = entry
                if waiter is not None:
                    waiter.begin(entry)
                    self._waiters[waiter] += 1
                    entry.waiter = waiter
                    begun = True
                else:
                    begun = pending_result.is_new and self._begins(entry)
            except (OSError, RuntimeError, SpoolError):
                pass  # the thread meets the same error, and passes it on
            finally:
                if not begun:  # even if a signal handler has raised an exception
                    self.wake(entry)
        # In this order: the thread sets `_until` before it looks for the next poll.
        if begun and self._until and self._sleeps_too_long(entry.waiter):
            watches().wake(self._sleeper)

    def _sleeps_too_long(self, waiter: Waiter | None) -> bool:
        """Whether the thread sleeps past the next poll that a wait needs."""
        return waiter is not None and time.monotonic() + waiter.until_poll < self._until - _LATE

    def call_at(self, due: float, step: Callable[[], object]) -> None:
        """Let the thread call a function soon; does nothing if another call of it is planned.

        Args:
            due: the time of the call, on the monotonic clock.
            step: the function, the same each time.
        """
        if self._step is None:
            self._step = due, step
            if due < self._until - _LATE:  # in this order, as in `_add`
                watches().wake(self._sleeper)

    def hurry(self) -> None:
        """Make the call that is planned, if there is one, in this thread and now."""
        planned = self._step
        if planned is not None:
            # In this order: a call that another thread has planned meanwhile is made by this one.
            self._step = None
            try:
                planned[1]()
            except Exception:
                log.exception("cannot wake workers, which find the calls by themselves")

    def discard(self, pending_result: PendingResult) -> None:
        """Wait no longer for an outcome. From any thread."""
        with self._mutex:
            entry = self._entries.pop(pending_result, None)
            if entry is not None and entry.waiter is not None:
                entry.waiter.end(entry)
                self._release(entry)

    def start(self) -> None:
        """Start the thread, unless it runs.

        Raises:
            RuntimeError: this process cannot start another thread.
        """
        with self._mutex:
            if self.thread is None:
                thread = threading.Thread(
                    target=self._run, name="fsqueue-resolver", daemon=self._daemon
                )
                thread.start()
                self.thread = thread

    def close(self) -> None:
        """Let the thread end when it has nothing left to wait for; without a thread, end now."""
        with self._mutex:
            self._closed, thread = True, self.thread
        if thread is None and self._at_end is not None:
            self._at_end()
        watches().wake(self._sleeper)

    def join(self) -> None:
        """Wait until the thread has ended. A call of `then` does not wait for that."""
        thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- waits ----------------------------------------------------------------------------

    def _begins(self, entry: _Entry) -> bool:
        """Begin a wait for an outcome; False if it can be read now. The mutex is held."""
        waiter = entry.pending_result.waiter
        entry.over, entry.error = False, None
        if not entry.pending_result.begins(entry, waiter):
            return False
        self._waiters[waiter] += 1
        entry.waiter = waiter
        return True

    def _release(self, entry: _Entry) -> None:
        """Forget the wait of an entry. The mutex is held."""
        waiter, entry.waiter = entry.waiter, None
        if waiter is not None:
            self._waiters[waiter] -= 1
            if self._waiters[waiter] <= 0:
                del self._waiters[waiter]

    def wake(self, entry: _Entry) -> None:
        """Let the thread check an entry."""
        # In this order: the thread resets its wake-up before it looks at the woken entries.
        self._woken.append(entry)
        if not self._sleeper.rung:
            try:
                watches().wake(self._sleeper)
            except BaseException:  # of a signal handler: all others rely on a thread that was rung
                watches().wake(self._sleeper)
                raise

    # -- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        self._sleeper.thread = threading.get_ident()
        try:
            while not self._is_over():
                self._sleep()
                self._check_woken()
        except BaseException as error:
            log.exception("the thread that waits for results ends")
            with self._mutex:
                self.thread = None  # the next call starts another
            for entry in list(self._entries.values()):
                self._pass_on(entry, None, error)
        finally:
            if self._closed and self._at_end is not None:
                self._at_end()

    def _is_over(self) -> bool:
        with self._mutex:
            if self._entries or (self._at_end is not None and not self._closed):
                return False
            if self._at_end is None:
                self.thread = None
            return True

    def _sleep(self) -> None:
        """Sleep until an entry is woken or a mailbox must be polled, and poll it."""
        self._until = float("inf")
        pauses = [waiter.until_poll for waiter in list(self._waiters)]
        if self._again:
            pauses.append(_AGAIN)
        if (planned := self._step) is not None:
            pauses.append(planned[0] - time.monotonic())
        pause = min(pauses, default=_IDLE)
        if pause > 0:
            self._until = time.monotonic() + pause
            if (count := len(self._entries)) > _MANY:
                self._sleeper.doze(min(count * _GATHER_EACH, _GATHER, pause))
            watches().sleep(self._sleeper, pause)
        self._until = 0.0
        self._sleeper.rung = False
        if (planned := self._step) is not None and planned[0] <= time.monotonic():
            self.hurry()
        for waiter in list(self._waiters):
            if waiter.until_poll <= 0:
                _poll(waiter)

    def _check_woken(self) -> None:
        again, self._again = self._again, []
        self._woken.extend(again)
        while self._woken:
            self._check(self._woken.popleft())

    def _check(self, entry: _Entry) -> None:
        """Pass on an outcome, or wait for it (again)."""
        if self._entries.get(entry.pending_result) is not entry:
            return  # it was passed on or discarded
        content: Content | None = None
        failure: BaseException | None = None
        try:
            content = self._content(entry)
        except OSError as error:
            self._try_again(entry, error)
        except BaseException as error:  # noqa: BLE001 - for the caller
            failure = error
        if content is not None or failure is not None:
            self._pass_on(entry, content, failure)

    def _content(self, entry: _Entry) -> Content | None:
        """The outcome if it has arrived; otherwise begins a wait for it and returns None."""
        pending_result = entry.pending_result
        with self._mutex:  # `add` may be beginning the wait, which wakes the entry
            begun, over = entry.waiter is not None, entry.over
            if begun and over:
                self._release(entry)
        if not begun:
            content = pending_result.known_content()
        elif not over:
            return None  # missed events wake all entries; the next poll shows which have ended
        else:
            if entry.error is not None:
                raise entry.error
            content = pending_result.read()
        while content is None:
            with self._mutex:
                if self._entries.get(pending_result) is not entry:
                    return None  # it was discarded
                if self._begins(entry):
                    return None
            content = pending_result.read()
        return content

    def _try_again(self, entry: _Entry, error: OSError) -> None:
        if not entry.troubled:
            log.warning(
                "cannot read the result of %s, trying again: %s", entry.pending_result.id, error
            )
        entry.troubled = True
        self._again.append(entry)

    def _pass_on(
        self, entry: _Entry, content: Content | None, failure: BaseException | None
    ) -> None:
        with self._mutex:
            self._entries.pop(entry.pending_result, None)
            if entry.waiter is not None:
                self._release(entry)
        for then in (entry.then, *entry.others):
            try:
                then(content, failure)
            except BaseException:
                log.exception("cannot pass on the result of %s", entry.pending_result.id)


def _poll(waiter: Waiter) -> None:
    try:
        waiter.poll()
    except Exception:
        # All calls of the resolver rely on this.
        log.exception("cannot check for results, trying again")


shared_resolver: Resolver = Resolver()
"""Resolves the futures of invocations. Its thread runs only while such futures are pending."""
os.register_at_fork(after_in_child=shared_resolver.begin_anew)
