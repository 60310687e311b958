"""The client: publishes a process's calls and receives their outcomes in its own mailbox."""

from __future__ import annotations

import itertools
import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fsqueue.common import tracing
from fsqueue.errors import SpoolError
from fsqueue.spool.caller.own_record import record_of
from fsqueue.spool.caller.waiter import Waiter
from fsqueue.spool.disk.identity import this_process
from fsqueue.spool.features.idempotency import fire
from fsqueue.spool.format.names import Slot, new_token
from fsqueue.spool.format.schedule import IMMEDIATE_SLACK, later
from fsqueue.spool.history.journal import write_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from filelock import BaseFileLock

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.disk.identity import Process
    from fsqueue.spool.features.deduplication import Key
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

# The most calls that a publisher puts into one slot. On a file server, its first slot takes fewer
# and each further one twice as many: a worker that claims from a slot to which others publish asks
# the server once more for each name that it knows.
_SLOT_SIZE, _FIRST_ON_SERVER = 1_000, 64
_SYNC_EVERY = 30.0


class Ticket(NamedTuple):
    """The id, slot and times that the client assigns to a call before it is published."""

    id: str
    spool: str
    slot: str
    now: float
    """The time, in seconds since the epoch by the file server's clock."""
    caller: Process
    """This process."""


class _Slot:
    """A slot to which this client publishes.

    Args:
        name: the name of its folder.
        second: the second in which it takes calls.
        size: the most calls that it takes.
    """

    __slots__ = ("count", "name", "second", "size")

    def __init__(self, name: str, second: int, size: int) -> None:
        self.name, self.second, self.size = name, second, size
        self.count = itertools.count(1)


class Draft(NamedTuple):
    """A call that is about to be published."""

    call: Call
    payload: Sequence[bytes | memoryview]
    """The segments of the payload; see `Call`."""
    buffers: Sequence[Buffer] = ()
    """Large parts of the values in the payload; see `Payload`."""
    once: Key | None = None
    """Deduplication key: at most one call under it is pending, from any publisher."""
    parent: str = ""
    """The call that this one waits for: the last one in `Call.after` that may not have ended."""


class IdempotencyKey(NamedTuple):
    """A key under which at most one call is ever published."""

    key: str
    wanted: Callable[[], bool] = lambda: True
    """Called once the key is taken; if it returns False, the key is released again."""


class Receipt(NamedTuple):
    """A published call."""

    invocation_id: str
    path: str
    """Its path in its slot, even if it first waits for another call."""
    content: str = ""
    """The content of the `Key` of the pending call."""


class Client:
    """One process's mailbox. It is created in the spool before the first call is published.

    Args:
        events: listen to file events, in addition to polling.
        poll_interval: longest pause between two polls, in seconds.
        on_silence: called when nothing came for a few seconds, until it returns True.
        keep_journal: write the record of this process, and what it cancels, for statistics.
        command: whether the record has the command line.
    """

    def __init__(
        self,
        store: Store,
        *,
        events: bool,
        poll_interval: float,
        on_silence: Callable[[], bool],
        keep_journal: bool = True,
        command: bool = True,
    ) -> None:
        self.store = store
        self._keep_journal, self._command = keep_journal, command
        self.name: str = new_token()
        self._process = this_process()
        self._events = events
        self._numbers = itertools.count(1)
        self._mutex = threading.Lock()
        self._lock: BaseFileLock | None = None
        self._entered = self._receives = False
        self._registered = self._recorded = False
        self._slots: dict[int, _Slot] = {}
        # By queue: the path of the last call, if it was published into its slot.
        self._last_published: dict[str, str] = {}
        self.waiter: Waiter = Waiter(
            store.outcomes,
            self.name,
            events=events,
            poll_interval=poll_interval,
            on_silence=on_silence,
        )

    def new_id(self) -> str:
        """An id for a call that is about to be published."""
        return f"{self.name}-{next(self._numbers)}"

    def ticket(self, priority: int, countdown: float = 0.0, eta: float = 0.0) -> Ticket:
        """A ticket for a call that is about to be published; all its times are from one clock read.

        Args:
            priority: 0 to 9; higher ones are served first.
            countdown: seconds before the call may start.
            eta: when it may start, in seconds since the epoch.
        """
        store = self.store
        self._register()
        now = store.clock.now()
        delay = max(countdown, eta - now)
        if delay > 0:
            slot = str(Slot(priority, later(now, delay)))
        else:
            slot = self._current_slot(priority, now - IMMEDIATE_SLACK)
        return Ticket(self.new_id(), store.files.info.id, slot, now, self._process)

    def publish(self, draft: Draft, *, ring: bool = True) -> Receipt:
        """Publish a call, or find the pending one with the same deduplication key.

        Args:
            draft: the call.
            ring: wake idle workers; if False, call `ring` later.

        Raises:
            OSError: the file could not be written to the shared directory; no call was made.
        """
        if tracing.in_use():
            with tracing.publishing(draft.call) as trace:
                receipt = self._publish(_traced(draft, trace) if trace else draft)
        else:
            receipt = self._publish(draft)
        if ring:
            self.ring(draft.call.queue)
        return receipt

    def _publish(self, draft: Draft) -> Receipt:
        call, payload, buffers, once, parent = draft
        self._last_published.pop(call.queue, None)
        self._receives = self._receives or not call.keep
        if once is not None:
            # Such a call does not wait here for its parent. The worker that claims it files it as
            # waiting, and by then its key is free.
            published = self.store.deduplication.publish(once, call, payload, buffers)
            return Receipt(published.invocation_id, published.path, published.content)
        if parent:
            return self._publish_waiting(call, payload, buffers, parent)
        path = self._last_published[call.queue] = self.store.publish(call, payload, buffers)
        return Receipt(call.id, path)

    def _publish_waiting(
        self,
        call: Call,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer],
        parent: str,
    ) -> Receipt:
        """Publish a call that waits for another one, and check whether it still has to.

        For a death in between, see `Store.publish_after`. An error after the rename does not fail
        the publication.
        """
        store, layout = self.store, self.store.layout
        path = store.publish_after(call, payload, buffers, parent)
        try:
            # The bell comes first: a worker that hears it late checks which calls have ended.
            store.fs.ring(layout.after_bell)
            if store.outcomes.exists(parent):
                store.waiting.move_on(path)
                store.fs.rmdir(layout.after(parent))
        except (OSError, SpoolError) as error:
            log.info("%s waits for %s until upkeep checks it: %s", call.id, parent, error)
        return Receipt(call.id, f"{layout.slot(call.queue, call.slot)}/{call.id}.1")

    def fire(self, idempotency: IdempotencyKey, draft: Draft) -> bool:
        """Publish a call unless one was published under this key before; True if it was published.

        Raises:
            OSError: the shared directory failed; the next try completes the publication.
        """
        files, (key, wanted) = self.store.files, idempotency
        with tracing.publishing(draft.call) as trace:
            call, payload, buffers, *_ = _traced(draft, trace) if trace else draft
            published = fire(files, key, call, payload, buffers, wanted=wanted)
        if published:
            self.ring(draft.call.queue)
        return published

    def saw_claim(self, queue: str) -> bool:
        """Whether the last call published to a queue of a file server has left its slot.

        Then a worker has taken it, unless it was cancelled. It is True once for each call, as that
        worker may die later. On a local disk, where looking for workers costs little: False.
        """
        if not self.store.fs.remote:
            return False
        folder, _, name = self._last_published.pop(queue, "").rpartition("/")
        return bool(name) and name not in self.store.fs.names(folder, fresh=True)

    def ring(self, queue: str) -> None:
        """Wake idle workers of this machine."""
        if self._events:
            self.store.fs.ring(self.store.layout.bell(queue))

    def now(self) -> float:
        """Seconds since the epoch on the file server."""
        self._register()
        return self.store.clock.now()

    def _current_slot(self, priority: int, now: float) -> str:
        """The slot for calls that are due now: one each second, more if many are published."""
        # Without a lock, because a signal handler may raise an exception here. At worst, two
        # threads begin a slot at once.
        slot, second = self._slots.get(priority), int(now)
        if slot is None or slot.second != second:
            size = _FIRST_ON_SERVER if self.store.fs.remote else _SLOT_SIZE
            if slot is not None and slot.second == second - 1:  # calls follow each other
                size = max(size, slot.size // 2)
            slot = self._slots[priority] = _Slot(str(Slot(priority, second)), second, size)
        elif next(slot.count) == slot.size:
            size = min(2 * slot.size, _SLOT_SIZE)
            slot = self._slots[priority] = _Slot(str(Slot(priority, now)), second, size)
        return slot.name

    def _register(self) -> None:
        """Make the mailbox, and read the file server's time."""
        if self._registered and self.store.clock.age <= _SYNC_EVERY:
            return
        with self._mutex:
            try:
                self._register_again()
            except FileNotFoundError:  # clients/ was removed, with the file of the lock
                self.store.files.make_folders(self.store.layout.clients_folder)
                if self._lock is not None:
                    self._lock.release()
                self._lock, self._registered = None, False
                self._register_again()

    def _register_again(self) -> None:
        fs, layout = self.store.fs, self.store.layout
        if not self._registered:
            self._entered = True
            # An earlier try may have taken it. It is kept, as a client without a lock seems gone.
            if self._lock is None:
                self._lock = fs.lock(layout.client_lock(self.name))
            # Both folders are made before another process can ask for them, because an NFS client
            # caches for half a minute that a folder was missing.
            self.store.files.make_folders(layout.mailbox(self.name))
            self.store.files.make_folders(layout.kept_mailbox(self.name))
            if (sleepers := self.store.files.sleepers) is not None:
                sleepers.enter(self.name)
            self._registered = True
        if self.store.clock.age > _SYNC_EVERY:
            self.store.clock.sync(layout.client_lock(self.name))
        if not self._recorded and self._keep_journal:
            self._recorded = True
            self._record()

    def _record(self) -> None:
        """Write the record by which people recognize this process. An error does not stop calls.

        If it fails, or the process dies before the rename, the run has only its id. The record
        stays after the client has left, for as long as results and journals do.
        """
        path = self.store.layout.client_record(self.name)
        try:
            record = record_of(self.name, self.store.clock.now(), command=self._command)
            self.store.files.replace_file(path, [msgspec.json.encode(record)])
        except (OSError, SpoolError) as error:
            log.info("the record of this process is not written: %s", error)

    def note_ends(self) -> None:
        """Record, for statistics, which calls this process has cancelled."""
        if not self._keep_journal:
            self.store.endings.notes.clear()
        write_notes(self.store, f"{self.name}-{new_token(4)}")

    def close(self) -> None:
        """Leave the spool. A mailbox that is not empty stays until it expires, for other processes.

        If an exception of a signal handler interrupts this, call it again.
        """
        self.waiter.close()
        fs, layout = self.store.fs, self.store.layout
        if self.store.endings.notes:
            self.note_ends()
        with self._mutex:
            # Even if an exception interrupted `_register_again`: otherwise it would stay for hours.
            if not self._entered:
                return
            fs.rmdir(layout.kept_mailbox(self.name))
            if not fs.rmdir(layout.mailbox(self.name)) and self._receives:
                from fsqueue.spool.worker.gone_callers import clear_up_at_end

                clear_up_at_end(self.store, self.name, self._process)
                fs.rmdir(layout.mailbox(self.name))
            if self.store.files.sleepers is not None:
                fs.rmdir(layout.tokens(self.name))
            fs.discard(layout.client_lock(self.name))
            if self._lock is not None:
                self._lock.release()
                self._lock = None
            self._entered = self._registered = False


def _traced(draft: Draft, trace: str) -> Draft:
    return draft._replace(call=msgspec.structs.replace(draft.call, trace=trace))
