"""Wakes callers in this process when their results arrive.

The client's bell, a file event, triggers a poll of the mailbox. As a fallback, a thread polls at
intervals that grow to `poll_interval`. A poll lists the folder, because a network filesystem's
client may answer "no such file" from its cache for half a minute.
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

    from fsqueue.spool.files.outcomes import Outcomes

log = logging.getLogger(__name__)

_FIRST_PAUSE_POLLING = 0.001
_FIRST_PAUSE_EVENTS = 0.02
_GROWTH = 1.3
# After a poll that takes longer than this, the thread rests, so that polling takes at most a fifth
# of the time. The rest is at most the poll interval, because the poll may have hung.
_QUICK_POLL = 0.0005
_REST = 4
# Seconds for which rings are ignored after a ring for an outcome that no caller waits for.
_DEAF_FOR = 0.002
# If the last listing had this many outcomes, and at most a few are awaited, these are checked by
# name before a listing: the results of a fan-out arrive in another order than they are awaited.
_LONG_LISTING = 50
_FEW = 4
# Seconds of silence before `on_silence` runs, which asks the file server for all workers.
_SILENCE = 3.0
_LONGEST_SILENCE = 60.0
# Seconds after which listening is tried again if it failed.
_LISTEN_AGAIN = 30.0
# The number of abandoned outcomes that are remembered, to be removed if they arrive twice.
_REMOVED = 1000
_CLOSED = (
    "the connection to the spool is closed, by app.close() or because the process is ending, so no "
    "result can be received. An atexit handler can make calls if it was registered after the "
    "first call: handlers run in reverse order, and fsqueue disconnects in one of them."
)


class Waiter:
    """Waits for outcomes.

    Args:
        outcomes: the outcomes of the spool.
        client: the client whose mailbox belongs to this process.
        events: listen to the client's bell.
        poll_interval: longest pause between two polls, in seconds.
        on_silence: called at growing intervals while nothing comes, until it returns True.
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
        # Removed outcomes, which may arrive again: the body of a cancelled call may end later.
        self._removed: deque[str] = deque(maxlen=_REMOVED)
        self._arrived: set[str] = set()
        self._wake = threading.Event()
        self._polling = threading.Lock()
        self._quick = True
        self._bell_works = False
        self._wait_added = False
        self._news = True
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._pause = _FIRST_PAUSE_POLLING
        self._warned = False

    def check_open(self) -> None:
        """Check, before a call is published, that this process can receive its result.

        Raises:
            RuntimeError: no result can be received any more.
        """
        with self._mutex:
            if self._closing.is_set():
                raise RuntimeError(_CLOSED)

    def watch(self, invocation_id: str) -> Future[None]:
        """A future that is done once the outcome has arrived. Cancel it to stop waiting."""
        future: Future[None] = Future()
        with self._mutex:
            if self._closing.is_set():
                future.set_exception(RuntimeError(_CLOSED))
                return future
            if invocation_id in self._arrived:
                future.set_result(None)
                return future
            if not self._waiting:
                self._reset_silence()
            self._waiting.setdefault(invocation_id, []).append(future)
            self._wait_added = True
            self._pause = _FIRST_PAUSE_POLLING
            own = client_of(invocation_id) == self._client
            self._news = self._news or not own
            self._start()
            bell_will_ring = own and self._bell_works and not self._news
        if not bell_will_ring:
            self._wake.set()
        return future

    def has_seen(self, invocation_id: str) -> bool:
        """Whether the last poll found the outcome, so that there is no need to wait for it."""
        return invocation_id in self._arrived

    def collected(self, invocation_id: str) -> None:
        """Wake the other waits for an outcome that left the mailbox; they find where it went."""
        with self._mutex:
            self._arrived.discard(invocation_id)
            futures = self._waiting.pop(invocation_id, [])
        _finish(futures)

    def abandon(self, invocation_id: str) -> None:
        """Remove an outcome when it arrives, because no caller will collect it."""
        with self._mutex:
            if self._closing.is_set():
                return
            if invocation_id not in self._removed:
                self._abandoned.add(invocation_id)
            arrived = invocation_id in self._arrived
            self._wait_added = self._news = True  # it may have arrived between two polls
            self._start()
        if arrived:
            self._remove(invocation_id)
        self._wake.set()

    def close(self) -> None:
        """End the thread; callers that still wait get an error."""
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

    def wait(self, arrival: Future[None], timeout: float | None) -> None:
        """Wait for a future of `watch`, and poll in this thread if the waiter's own cannot run.

        Raises:
            TimeoutError: `timeout` seconds have passed.
        """
        deadline = None if timeout is None else self._outcomes.fs.monotonic() + timeout
        while True:
            pause = self.poll_instead()
            left = None if deadline is None else max(0.0, deadline - self._outcomes.fs.monotonic())
            if pause is None or (left is not None and left <= pause):
                return arrival.result(left)
            with contextlib.suppress(TimeoutError):
                return arrival.result(pause)

    def poll_instead(self) -> float | None:
        """Poll in the calling thread if the waiter's own thread cannot be started.

        Returns the pause until the next poll, in seconds; None if the waiter's thread polls.
        """
        with self._mutex:
            if self._closing.is_set() or self._start():
                return None
        with self._polling:
            self._poll_safely()
        self._warn_of_silence()
        self._pause = min(self._pause * _GROWTH, self._poll_interval)
        return self._pause

    @property
    def lacks_thread(self) -> bool:
        """Whether no thread polls, so that callers that wait must call `poll_instead`."""
        return self._thread is None or not self._thread.is_alive()

    def _start(self) -> bool:
        """Start the thread if it does not run; False if this process may not start any more."""
        if not self.lacks_thread:
            return True
        thread = threading.Thread(target=self._run, name="fsqueue-waiter", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "cannot start a thread that waits for results (%s), so each caller polls for "
                    "its own. Is the limit of processes reached (ulimit -u, pids.max)?",
                    error,
                )
            return False
        self._thread = thread
        return True

    def _ring(self) -> None:
        """Handle a ring of the bell. Polling here, in the bell's thread, saves a thread switch."""
        self._news = True
        if not self._should_poll():
            # A later `watch` triggers a poll, as there is news. In a busy moment, such as the
            # publication of a group, several rings are handled as one.
            self._closing.wait(_DEAF_FOR)
            return
        if self._quick and self._polling.acquire(blocking=False):
            try:
                self._poll_safely()
            finally:
                self._polling.release()
        else:
            self._wake.set()

    def _should_poll(self) -> bool:
        """Whether any outcome is awaited and, if the listing is long, may have arrived."""
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
            return True  # the poll reports the error

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen_and_poll()
            except Exception:
                # All callers that wait rely on this thread.
                log.exception("cannot wait for results, trying again")
                self._closing.wait(self._poll_interval)

    def _listen_and_poll(self) -> None:
        with contextlib.ExitStack() as stack:
            if self._events:
                bell, fs = self._outcomes.layout.bell(self._client), self._outcomes.fs
                self._bell_works = stack.enter_context(listening(fs, bell, self._ring))
                stack.callback(self._stop_listening)
                self._wake.set()  # it may have rung before
            if self._bell_works or not self._events:
                self._loop(_FIRST_PAUSE_EVENTS if self._bell_works else _FIRST_PAUSE_POLLING)
            else:
                self._loop(_FIRST_PAUSE_POLLING, self._outcomes.fs.monotonic() + _LISTEN_AGAIN)

    def _stop_listening(self) -> None:
        self._bell_works = False

    def _loop(self, first_pause: float, until: float = float("inf")) -> None:
        pause = first_pause
        while not self._closing.is_set() and self._outcomes.fs.monotonic() < until:
            idle = not self._waiting and not self._abandoned
            # With a bell, a new wait does not wake this thread.
            longest = self._poll_interval if self._bell_works else None
            self._wake.wait(longest if idle else pause)
            self._wake.clear()
            if self._wait_added:
                self._wait_added = False
                pause = first_pause
                if not self._news:
                    continue  # a new call has no outcome yet
            with self._polling:
                took = self._poll_safely()
            self._warn_of_silence()
            if not self._quick:
                self._closing.wait(min(took * _REST, self._poll_interval))
            pause = min(pause * _GROWTH, self._poll_interval)

    def _poll_safely(self) -> float:
        began = self._outcomes.fs.monotonic()
        try:
            self._poll()
        except OSError as error:
            log.warning("cannot check for results, trying again: %s", error)
        took = self._outcomes.fs.monotonic() - began
        self._quick = took <= _QUICK_POLL
        return took

    def _reset_silence(self) -> None:
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
                log.warning("cannot check for workers: %s", error)

    def _poll(self) -> None:
        with self._mutex:
            for invocation_id, futures in list(self._waiting.items()):
                if all(future.cancelled() for future in futures):
                    del self._waiting[invocation_id]
            clients = {client_of(invocation_id) for invocation_id in self._waiting}
            if self._abandoned or self._removed:
                clients.add(self._client)
            if self._client in clients:
                self._news = False
        failure: OSError | None = None
        for client in clients:
            try:
                self._look_into(client)
            except OSError as error:  # the outcomes in other mailboxes do not wait for this one
                failure = error
        if failure is not None:
            raise failure

    def _look_into(self, client: str) -> None:
        try:
            names = self._list(client)
        except NotADirectoryError as error:
            self._give_up(client, error)
        except SpoolReplacedError as error:
            self._fail(list(self._waiting), error)
        else:
            self._deliver(client, names)

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
        """Fail the waits for a client's outcomes, because outcomes have been lost."""
        message = (
            f"{reason.filename} is a file or a link and no longer a folder: results that arrived "
            "meanwhile are lost. Find out who put it there, remove it, and make the calls again."
        )
        lost = [each for each in list(self._waiting) if client_of(each) == client]
        self._fail(lost, SpoolError(message))

    def _fail(self, invocations: Iterable[str], error: SpoolError) -> None:
        """Fail the waits for some invocations with an error."""
        with self._mutex:
            futures = [future for each in invocations for future in self._waiting.pop(each, [])]
        for future in futures:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _deliver(self, client: str, names: set[str]) -> None:
        done: list[Future[None]] = []
        with self._mutex:
            if client == self._client:
                self._arrived = names
            for invocation_id in names & self._waiting.keys():
                done.extend(self._waiting.pop(invocation_id))
            unwanted = names & {*self._abandoned, *self._removed}
        if done:
            self._reset_silence()
        _finish(done)
        for invocation_id in unwanted:
            self._remove(invocation_id)

    def _remove(self, invocation_id: str) -> None:
        path = self._outcomes.layout.done(invocation_id)
        try:
            self._outcomes.fs.discard(path)
        except (IsADirectoryError, PermissionError) as error:
            log.warning("cannot remove %s, the outcome of an abandoned call: %s", path, error)
        with self._mutex:
            if invocation_id in self._abandoned:
                self._abandoned.discard(invocation_id)
                self._removed.append(invocation_id)
            self._arrived.discard(invocation_id)


def _finish(futures: list[Future[None]]) -> None:
    for future in futures:
        if future.set_running_or_notify_cancel():
            future.set_result(None)
