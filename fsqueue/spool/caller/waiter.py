"""Looks into mailboxes for everybody in this process who waits.

Whenever the client's bell rings; and in any case a thread does, after a pause that grows to the
poll interval. It looks by listing: a network filesystem's client may answer "no such file" from
its cache for half a minute.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError, SpoolReplacedError
from fsqueue.spool.disk.bell import listening
from fsqueue.spool.format.names import client_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fsqueue.spool.store.outcomes import Outcomes

log = logging.getLogger(__name__)

_FIRST_PAUSE_POLLING = 0.001
_FIRST_PAUSE_EVENTS = 0.02
_GROWTH = 1.3
# A look that takes longer than this is followed by a rest, so that looking takes a fifth of
# the time at most; but by none that is longer than the poll interval: the look may have hung.
_QUICK_LOOK = 0.0005
_REST = 4
# So long the bell may ring unheard after it has rung for what nobody waits for.
_UNHEARD = 0.002
# With so many outcomes in the mailbox at the last look, and so few that are waited for, asking for
# these comes first: results of a fan-out arrive in another order than they are waited for.
_LONG_LISTING = 50
_FEW = 4
# So long nothing came when somebody looks whether there are workers; then in growing steps, as
# each look asks the file server for all of them.
_SILENCE = 3.0
_LONGEST_SILENCE = 60.0
# So many seconds after a failure to listen it is tried again, when somebody waits.
_LISTEN_AGAIN = 30.0
# How many outcomes that nobody wants are removed if they come twice.
_REMOVED = 1000
_CLOSED = (
    "the connection to the spool is closed, by app.close() or because the process is ending, so no "
    "result can be received. In a handler of atexit, calls work if it was registered after the "
    "first call: handlers run in reverse order, and fsqueue leaves by one of them."
)


class Waiter:
    """Waits for outcomes.

    Args:
        outcomes: of the spool.
        client: the client whose mailbox is this process's own.
        events: listen to the client's bell.
        poll_interval: longest pause between two looks, in seconds.
        on_silence: called when nothing came for a few seconds, and ever more seldom after that,
            until it returns True.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        client: str,
        *,
        events: bool,
        poll_interval: float,
        on_silence: Callable[[], bool],
    ) -> None:
        self._outcomes = outcomes
        self._client = client
        self._events = events
        self._poll_interval = poll_interval
        self._on_silence = on_silence
        self._silent_since = float("inf")
        self._silence = _SILENCE
        self._mutex = threading.Lock()
        self._waiting: dict[str, list[Future[None]]] = {}
        self._abandoned: set[str] = set()
        # Removed, and may come again: the body of a cancelled call may end after that.
        self._removed: deque[str] = deque(maxlen=_REMOVED)
        self._arrived: set[str] = set()
        self._wake = threading.Event()
        self._looking = threading.Lock()
        self._quick = True
        self._heard = False
        self._renewed = False
        self._news = True
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._pause = _FIRST_PAUSE_POLLING
        self._warned = False

    def check_open(self) -> None:
        """Before a call is published whose result only this process can receive.

        Raises:
            RuntimeError: no result can be received any more.
        """
        with self._mutex:
            if self._closing.is_set():
                raise RuntimeError(_CLOSED)

    def watch(self, invocation_id: str) -> Future[None]:
        """A future that is done once the outcome is there. Cancel it to stop waiting."""
        future: Future[None] = Future()
        with self._mutex:
            if self._closing.is_set():
                future.set_exception(RuntimeError(_CLOSED))
                return future
            if invocation_id in self._arrived:
                future.set_result(None)
                return future
            if not self._waiting:
                self._hear()
            self._waiting.setdefault(invocation_id, []).append(future)
            self._renewed = True
            self._pause = _FIRST_PAUSE_POLLING
            own = client_of(invocation_id) == self._client
            self._news = self._news or not own
            self._start()
            bell_will_ring = own and self._heard and not self._news
        if not bell_will_ring:
            self._wake.set()
        return future

    def has_seen(self, invocation_id: str) -> bool:
        """Whether the outcome was there at the last look, so that nobody need wait for it."""
        return invocation_id in self._arrived

    def collected(self, invocation_id: str) -> None:
        """The outcome has left the mailbox; who else waits for it finds it where it went."""
        with self._mutex:
            self._arrived.discard(invocation_id)
            futures = self._waiting.pop(invocation_id, [])
        _finish(futures)

    def abandon(self, invocation_id: str) -> None:
        """Nobody will ever collect this outcome: remove it when it comes."""
        with self._mutex:
            if self._closing.is_set():
                return
            if invocation_id not in self._removed:
                self._abandoned.add(invocation_id)
            arrived = invocation_id in self._arrived
            self._renewed = self._news = True  # it may have come while nobody looked
            self._start()
        if arrived:
            self._remove(invocation_id)
        self._wake.set()

    def close(self) -> None:
        """End the thread; who still waits gets an error."""
        with self._mutex:
            self._closing.set()
            waiting, self._waiting = self._waiting, {}
            thread, abandoned = self._thread, [*self._abandoned, *self._removed]
        self._wake.set()
        for future in [future for futures in waiting.values() for future in futures]:
            if future.set_running_or_notify_cancel():
                future.set_exception(RuntimeError(_CLOSED))
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        for invocation_id in abandoned:
            self._remove(invocation_id)

    # -- without a thread ---------------------------------------------------------------

    def wait(self, arrival: Future[None], timeout: float | None) -> None:
        """Wait for a future of `watch`, and look meanwhile if this object's thread cannot.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        deadline = None if timeout is None else self._outcomes.fs.monotonic() + timeout
        while True:
            pause = self.look_instead()
            left = None if deadline is None else max(0.0, deadline - self._outcomes.fs.monotonic())
            if pause is None or (left is not None and left <= pause):
                return arrival.result(left)
            with contextlib.suppress(TimeoutError):
                return arrival.result(pause)

    def look_instead(self) -> float | None:
        """Look in the calling thread if this object's own thread cannot be started.

        Returns the pause until the next look, in seconds; None if the thread looks.
        """
        with self._mutex:
            if self._closing.is_set() or self._start():
                return None
        with self._looking:
            self._look_safely()
        self._warn_of_silence()
        self._pause = min(self._pause * _GROWTH, self._poll_interval)
        return self._pause

    @property
    def needs_help(self) -> bool:
        """Whether nobody looks unless those who wait call `look_instead`."""
        return self._thread is None or not self._thread.is_alive()

    def _start(self) -> bool:
        """Start the thread if it does not run; False if this process may not have another one."""
        if not self.needs_help:
            return True
        thread = threading.Thread(target=self._run, name="fsqueue-waiter", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "cannot start a thread that waits for results (%s), so each caller looks for "
                    "its own. Is the limit of processes reached (ulimit -u, pids.max)?",
                    error,
                )
            return False
        self._thread = thread
        return True

    def _ring(self) -> None:
        """The bell rings. Looking at once, in the bell's thread, saves a change of threads."""
        self._news = True
        if not self._is_worth_a_look():
            # Who waits from now on has a look of his own, as there is news. In a busy moment, as
            # when this process publishes a group, the rings of a while are one event.
            self._closing.wait(_UNHEARD)
            return
        if self._quick and self._looking.acquire(blocking=False):
            try:
                self._look_safely()
            finally:
                self._looking.release()
        else:
            self._wake.set()

    def _is_worth_a_look(self) -> bool:
        """Whether somebody waits; and if the listing is long, whether for what is there."""
        if not self._waiting and not self._abandoned and not self._removed:
            return False
        may_miss_names = self._outcomes.fs.remote
        if may_miss_names or self._abandoned or self._removed or len(self._arrived) < _LONG_LISTING:
            return True
        with self._mutex:
            wanted = list(self._waiting)
        try:
            return len(wanted) > _FEW or any(map(self._outcomes.exists, wanted))
        except OSError:
            return True  # for the look to report

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen_and_look()
            except Exception:
                # All who wait rely on this thread.
                log.exception("cannot wait for results, trying again")
                self._closing.wait(self._poll_interval)

    def _listen_and_look(self) -> None:
        with contextlib.ExitStack() as stack:
            if self._events:
                bell = self._outcomes.layout.bell(self._client)
                self._heard = stack.enter_context(listening(self._outcomes.fs, bell, self._ring))
                stack.callback(self._stop_hearing)
                self._wake.set()  # it may have rung before
            if self._heard or not self._events:
                self._loop(_FIRST_PAUSE_EVENTS if self._heard else _FIRST_PAUSE_POLLING)
            else:
                self._loop(_FIRST_PAUSE_POLLING, self._outcomes.fs.monotonic() + _LISTEN_AGAIN)

    def _stop_hearing(self) -> None:
        self._heard = False

    def _loop(self, first_pause: float, until: float = float("inf")) -> None:
        pause = first_pause
        while not self._closing.is_set() and self._outcomes.fs.monotonic() < until:
            idle = not self._waiting and not self._abandoned
            # With a bell nobody wakes this thread for a new wait.
            longest = self._poll_interval if self._heard else None
            self._wake.wait(longest if idle else pause)
            self._wake.clear()
            if self._renewed:
                self._renewed = False
                pause = first_pause
                if not self._news:
                    continue  # a call just made has no outcome yet
            with self._looking:
                took = self._look_safely()
            self._warn_of_silence()
            if not self._quick:
                self._closing.wait(min(took * _REST, self._poll_interval))
            pause = min(pause * _GROWTH, self._poll_interval)

    def _look_safely(self) -> float:
        began = self._outcomes.fs.monotonic()
        try:
            self._look()
        except OSError as error:
            log.warning("cannot look for results, trying again: %s", error)
        took = self._outcomes.fs.monotonic() - began
        self._quick = took <= _QUICK_LOOK
        return took

    def _hear(self) -> None:
        self._silent_since, self._silence = self._outcomes.fs.monotonic(), _SILENCE

    def _warn_of_silence(self) -> None:
        now = self._outcomes.fs.monotonic()
        if self._waiting and now - self._silent_since > self._silence:
            self._silence = min(2 * self._silence, _LONGEST_SILENCE)
            try:
                self._outcomes.files.check_spool()
                self._silent_since = float("inf") if self._on_silence() else now
            except SpoolReplacedError as error:
                self._fail(list(self._waiting), error)
            except OSError as error:
                log.warning("cannot look for workers: %s", error)

    def _look(self) -> None:
        with self._mutex:
            for invocation_id, futures in list(self._waiting.items()):
                if all(future.cancelled() for future in futures):
                    del self._waiting[invocation_id]
            clients = {client_of(invocation_id) for invocation_id in self._waiting}
            if self._abandoned or self._removed:
                clients.add(self._client)
            if self._client in clients:
                self._news = False
        for client in clients:
            try:
                names = self._list(client)
            except NotADirectoryError as error:
                self._give_up(client, error)
            except SpoolReplacedError as error:
                self._fail(list(self._waiting), error)
            else:
                self._sort_in(client, names)

    def _list(self, client: str) -> set[str]:
        fs, layout, own = self._outcomes.fs, self._outcomes.layout, client == self._client
        try:
            names = set(fs.names(layout.mailbox(client), fresh=True, strict=True, required=own))
        except FileNotFoundError:
            self._outcomes.files.check_spool()
            names = set()
        if client != self._client:
            names.update(fs.names(layout.kept_mailbox(client), fresh=True))
        return names

    def _give_up(self, client: str, reason: OSError) -> None:
        """Tell those who wait that what came for them was lost."""
        message = (
            f"{reason.filename} is a file or a link, and was a folder: results that came meanwhile "
            "are lost. Remove it, look who put it there, and make the calls again."
        )
        lost = [each for each in list(self._waiting) if client_of(each) == client]
        self._fail(lost, SpoolError(message))

    def _fail(self, invocations: Iterable[str], error: SpoolError) -> None:
        """Let those who wait for some invocations have an error."""
        with self._mutex:
            futures = [future for each in invocations for future in self._waiting.pop(each, [])]
        for future in futures:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _sort_in(self, client: str, names: set[str]) -> None:
        done: list[Future[None]] = []
        with self._mutex:
            if client == self._client:
                self._arrived = names
            for invocation_id in names & self._waiting.keys():
                done.extend(self._waiting.pop(invocation_id))
            unwanted = names & {*self._abandoned, *self._removed}
        if done:
            self._hear()
        _finish(done)
        for invocation_id in unwanted:
            self._remove(invocation_id)

    def _remove(self, invocation_id: str) -> None:
        path = self._outcomes.layout.done(invocation_id)
        try:
            self._outcomes.fs.discard(path)
        except (IsADirectoryError, PermissionError) as error:
            log.warning("cannot remove %s, which nobody wants: %s", path, error)
        with self._mutex:
            if invocation_id in self._abandoned:
                self._abandoned.discard(invocation_id)
                self._removed.append(invocation_id)
            self._arrived.discard(invocation_id)


def _finish(futures: list[Future[None]]) -> None:
    for future in futures:
        if future.set_running_or_notify_cancel():
            future.set_result(None)
