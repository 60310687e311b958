"""Wakes callers in this process when their results arrive.

A file event names the outcome that has arrived in the mailbox. One of the waiting threads reads it;
see `spool.wakeups.watching`. As a safety net, and where there are no events, these threads also
poll, at intervals that grow to `poll_interval`. A poll lists the folder, because the client of a
network filesystem may answer "no such file" from its cache for half a minute.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError, SpoolReplacedError
from fsqueue.spool.caller.silence import Silence
from fsqueue.spool.caller.wait import CLOSED, Wait
from fsqueue.spool.format.names import client_of
from fsqueue.spool.wakeups import inotify
from fsqueue.spool.wakeups.pauses import Rhythm, first_pause
from fsqueue.spool.wakeups.sleeper import Sleeper
from fsqueue.spool.wakeups.watching import Watch, watches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fsqueue.spool.files.outcomes import Outcomes
    from fsqueue.spool.wakeups.tokens import Token

log: logging.Logger = logging.getLogger(__name__)

# A pause is at least this many times as long as the poll before it, so polls take at most a fifth
# of the time. It is never longer than the poll interval, because that poll may have hung.
_REST = 4
_REMOVED = 1000  # abandoned outcomes that are remembered, to be removed if they arrive twice
_MASK = inotify.ARRIVED | inotify.ONLY_FOLDER


class Waiter:
    """Waits for outcomes. A signal handler may raise an exception anywhere in its methods.

    Args:
        outcomes: the outcomes of the spool.
        client: the client whose mailbox belongs to this process.
        events: listen to file events.
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
        self._outcomes, self._fs = outcomes, outcomes.fs
        self._client = client
        self._events, self._poll_interval = events, poll_interval
        check = outcomes.files.check_spool
        self._silence = Silence(check, on_silence, remote=self._fs.remote)
        self._heard = False
        self._waiting: dict[str, list[Wait]] = {}
        self._abandoned: set[str] = set()
        # Removed outcomes, which may arrive again: the body of a cancelled call may still end.
        self._removed: dict[str, None] = {}
        self._sweeping: dict[str, Sleeper] = {}
        self._arrived: set[str] = set()
        self._watch = Watch(outcomes.layout.mailbox(client), _MASK, self._on_event)
        sleepers = outcomes.files.sleepers
        self._token = (
            sleepers.token(client, lambda: self._client, poll_interval, self._on_ring)
            if sleepers
            else None
        )
        self._closed = False
        # No event has named the outcomes that arrived before.
        self._missed = True
        self._next_poll = 0.0
        self._rhythm = Rhythm(remote=self._fs.remote, longest=poll_interval)
        self._pause = self._first_pause()

    def check_open(self) -> None:
        """Check, before a call is published, that this process can receive its result.

        Raises:
            RuntimeError: this process can no longer receive results.
        """
        if self._closed:
            raise RuntimeError(CLOSED)

    # -- waiting ------------------------------------------------------------------------

    def wait(
        self,
        invocation_ids: Sequence[str],
        timeout: float | None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Block until one of the outcomes has arrived; False if it has not within the timeout.

        Args:
            invocation_ids: the calls.
            timeout: longest wait, in seconds.
            is_over: called once, after the wait has begun; returns whether it is unnecessary.

        Raises:
            RuntimeError: this process can no longer receive results.
            SpoolError: the outcome cannot be received.
        """
        sleeper, shared = Sleeper(), watches()
        waits = list(map(Wait, invocation_ids, repeat(partial(shared.wake, sleeper))))
        deadline = float("inf") if timeout is None else self._fs.monotonic() + timeout
        try:
            for wait in waits:
                self.begin(wait)
            if not sleeper.rung and is_over():
                return True
            while not sleeper.rung:
                now = self._fs.monotonic()
                if now >= deadline:
                    return False
                if now >= self._next_poll:
                    self.poll()
                else:
                    until = min(deadline, self._next_poll, now + self._poll_interval)
                    shared.sleep(sleeper, until - now)
        finally:
            for wait in waits:
                self.end(wait)
        for wait in waits:
            if wait.error is not None:
                raise wait.error
        return True

    def begin(self, wait: Wait) -> None:
        """Begin a wait. The caller must listen and poll meanwhile.

        Raises:
            RuntimeError: this process can no longer receive results.
        """
        invocation_id = wait.invocation_id
        if not self._waiting:
            self._silence.begin(self._fs.monotonic())
        self._waiting.setdefault(invocation_id, []).append(wait)
        # In this order: `close`, and a thread that finds the outcome, check for waits last.
        if self._closed:
            self.end(wait)
            raise RuntimeError(CLOSED)
        if invocation_id in self._arrived:
            self._end(invocation_id)
        else:
            self._plan_poll(own=client_of(invocation_id) == self._client)

    def end(self, wait: Wait) -> None:
        """End a wait that its owner gives up."""
        waits = self._waiting.get(wait.invocation_id)
        if waits is None:
            return
        if wait in waits:
            waits.remove(wait)
        if not waits:
            # A wait that begins just now may miss the event, and then finds the outcome by polling.
            self._waiting.pop(wait.invocation_id, None)

    def _end(self, invocation_id: str, error: Exception | None = None) -> None:
        for wait in self._waiting.pop(invocation_id, ()):
            wait.end(error)

    def has_seen(self, invocation_id: str) -> bool:
        """Whether the outcome has arrived, so that there is no need to wait for it."""
        return invocation_id in self._arrived

    def forget(self, invocation_id: str) -> None:
        """Record that the outcome is not (or no longer) in the mailbox."""
        self._arrived.discard(invocation_id)

    def collected(self, invocation_id: str) -> None:
        """Wake the other waits for an outcome that left the mailbox; they find where it went."""
        self._arrived.discard(invocation_id)
        self._end(invocation_id)
        if self._closed:  # it may have kept the client, which leaves, from removing the mailbox
            with contextlib.suppress(OSError):  # then upkeep does it
                self._fs.rmdir(self._outcomes.layout.mailbox(self._client))

    def abandon(self, invocation_id: str) -> None:
        """Remove an outcome, now or when it arrives, because no caller will collect it."""
        if self._closed:
            return
        if invocation_id not in self._removed:
            self._abandoned.add(invocation_id)
        self._remove(invocation_id)
        if invocation_id in self._abandoned and not self._sweeping:
            # Not a `threading.Thread`, whose start a signal handler could interrupt. If no thread
            # can start, the next wait or `close` removes the outcome.
            with contextlib.suppress(RuntimeError):
                _thread.start_new_thread(self._sweep, ())

    def _sweep(self) -> None:
        """Wait for the outcomes of abandoned calls, in a separate thread while there are any."""
        sleeper, shared = Sleeper(), watches()
        if self._sweeping.setdefault("thread", sleeper) is not sleeper:
            return
        try:
            self._plan_poll(own=True)
            while self._abandoned and not self._closed:
                if self.until_poll > 0:
                    sleeper.rung = False
                    shared.sleep(sleeper, self.until_poll)
                else:
                    self.poll()
        finally:
            self._sweeping.clear()

    def close(self) -> None:
        """End the waits with an error, and remove abandoned outcomes."""
        self._closed = True
        self._fail(list(self._waiting), RuntimeError(CLOSED))
        for sleeper in list(self._sweeping.values()):
            watches().wake(sleeper)
        watches().remove(self._watch)
        if self._token is not None:
            self._token.end()
        for invocation_id in (*self._abandoned, *self._removed):
            self._remove(invocation_id)

    # -- events and polls ---------------------------------------------------------------

    def _on_event(self, name: str | None) -> None:
        if name is None:  # events were missed, or the mailbox was removed: list it
            self._missed, self._next_poll = True, 0.0
            for waits in list(self._waiting.values()):
                for wait in list(waits):
                    wait.wake()
            return
        self._heard = True
        self._arrived.add(name)
        self._end(name)
        if name in self._abandoned or name in self._removed:
            self._remove(name)

    def _on_ring(self) -> None:
        """Find out which outcome has arrived, for all waits. They go on polling for others."""
        self._pause = self._first_pause()
        self.poll()

    def _listen(self) -> None:
        """Watch the current folder of the mailbox, if possible."""
        if self._events and watches().add(self._watch):
            self._missed = True

    def _first_pause(self) -> float:
        events, longest = self._watch.works, self._poll_interval
        return self._rhythm.first or first_pause(self._fs, events=events, longest=longest)

    def _plan_poll(self, *, own: bool) -> None:
        """Plan the next poll for a wait that begins."""
        if own and not self._watch.works:
            self._listen()
        self._pause = self._first_pause()
        if self._missed or not own:
            self._next_poll = 0.0
            return
        # A new call has no outcome yet, but a poll for older waits is not postponed.
        now = self._fs.monotonic()
        due = now + max(self._pause, self._rhythm.begin(now))
        self._next_poll = due if len(self._waiting) == 1 else min(due, self._next_poll)

    @property
    def until_poll(self) -> float:
        """Seconds until a thread should poll, or check whether a ring has made that sooner."""
        return min(self._next_poll - self._fs.monotonic(), self._poll_interval)

    def poll(self) -> None:
        """List the mailboxes of the calls that are awaited, and end the waits."""
        began = self._fs.monotonic()
        token = self._token_for_all()
        rung = token is not None and token.expected
        pause, longer = self._rhythm.pauses(self._pause, began, rung=rung)
        # Other threads leave the poll to this one; if it hangs or raises, they poll later.
        self._next_poll = began + self._poll_interval
        self._pause = min(longer, self._poll_interval)
        self._missed = False
        settled, found_until = token is not None and token.settled, began
        try:
            self._poll()
        except OSError as error:
            log.warning("cannot check for results, trying again: %s", error)
            found_until = float("-inf")
        if settled and self._heard and token is not None:
            token.doubt()
        rest = min((self._fs.monotonic() - began) * _REST, self._poll_interval)
        pause = max(min(pause, self._pause), rest)
        self._watch_silence(began + pause)
        now = self._fs.monotonic()
        token = self._token_for_all()
        longest = pause if token is None else token.longer(pause, found_until)
        if self._waiting:
            longest = min(longest, max(pause, self._silence.ends - now))
        self._next_poll = 0.0 if self._missed else now + longest

    def _token_for_all(self) -> Token | None:
        """The token, if its ring will announce all that is awaited."""
        own = all(client_of(each) == self._client for each in [*self._waiting])
        return self._token if own else None

    def _watch_silence(self, next_poll: float) -> None:
        if self._heard:
            self._heard = False
            self._silence.begin(self._fs.monotonic())
        if self._waiting:
            try:
                self._silence.look_if_due(next_poll)
            except SpoolReplacedError as error:
                self._fail(list(self._waiting), error)

    def _poll(self) -> None:
        clients = {client_of(invocation_id) for invocation_id in list(self._waiting)}
        if self._abandoned or self._removed:
            clients.add(self._client)
        failure: OSError | None = None
        for client in clients:
            try:
                self._check(client)
            except OSError as error:  # the other mailboxes are still checked
                failure = error
        if failure is not None:
            raise failure

    def _check(self, client: str) -> None:
        before = self._arrived.copy()
        try:
            names = self._list(client)
        except NotADirectoryError as error:
            self._give_up(client, error)
        except SpoolReplacedError as error:
            self._fail(list(self._waiting), error)
        else:
            if client == self._client:  # events may have changed it since
                self._arrived.update(names)
                self._arrived.difference_update(before - names)
            self._deliver(names)

    def _list(self, client: str) -> set[str]:
        fs, layout, own = self._fs, self._outcomes.layout, client == self._client
        if own:
            self._listen()
            self._missed = False
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

    def _fail(self, invocations: Iterable[str], error: Exception) -> None:
        """End the waits for some invocations with an error."""
        for each in invocations:
            self._end(each, error)

    def _deliver(self, names: set[str]) -> None:
        done = names & set(self._waiting)
        if done:
            self._heard = True
            self._rhythm.end(self._fs.monotonic())
        for invocation_id in done:
            self._end(invocation_id)
        for invocation_id in names & {*self._abandoned, *self._removed}:
            self._remove(invocation_id)

    def _remove(self, invocation_id: str) -> None:
        """Remove an abandoned outcome, if it has arrived."""
        path = self._outcomes.layout.done(invocation_id)
        try:
            self._fs.unlink(path)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError) as error:
            log.warning("cannot remove %s, the outcome of an abandoned call: %s", path, error)
        self._abandoned.discard(invocation_id)
        self._removed[invocation_id] = None
        for oldest in list(self._removed)[:-_REMOVED]:
            self._removed.pop(oldest, None)
        self._arrived.discard(invocation_id)
