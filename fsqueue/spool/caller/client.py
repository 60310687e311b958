"""A process that publishes calls and waits for their outcomes in its own mailbox."""

from __future__ import annotations

import itertools
import logging
import platform
import threading
from typing import TYPE_CHECKING, NamedTuple, Required, TypedDict, Unpack, cast

from fsqueue.common import tracing
from fsqueue.errors import SpoolError
from fsqueue.spool.caller.waiter import Waiter
from fsqueue.spool.disk.identity import this_process
from fsqueue.spool.format.names import DEFAULT_PRIORITY, Slot, client_of, new_token
from fsqueue.spool.format.records import Call
from fsqueue.spool.format.schedule import IMMEDIATE_SLACK, later
from fsqueue.spool.store.idempotency import fire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from filelock import BaseFileLock

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.format.records import Payload, RetryPolicy
    from fsqueue.spool.store.deduplication import Key
    from fsqueue.spool.store.store import Store

log = logging.getLogger(__name__)

# A publisher that has put so many calls into a slot begins another one.
_SLOT_SIZE = 1_000
_SYNC_EVERY = 30.0
_PYTHON = ".".join(platform.python_version_tuple()[:2])


class CallFields(TypedDict, total=False):
    """Fields of a `Call` that the caller chooses."""

    max_attempts: Required[int]
    codec: str
    keep: Required[bool]
    members: int
    blob: str
    timeout: float
    expires: float
    retry: RetryPolicy
    capture: bool
    lanes: tuple[str, ...]
    within: dict[str, str]
    cache: str
    cache_ttl: float
    after: tuple[str, ...]
    countdown: float


class CallOptions(CallFields, total=False):
    """These fields, and what becomes of the call."""

    once: Key | None
    """Under this key one call is pending, whoever has published it."""
    parent: str
    """The last of `after` that may not be over, if there is one: the call waits for it."""


class IdempotencyKey(NamedTuple):
    """What a call is published for, once for all."""

    key: str
    wanted: Callable[[], bool] = lambda: True
    """Asked when the key is taken: False takes that back."""


class Receipt(NamedTuple):
    """A published call: its id, and where it was pending."""

    invocation_id: str
    path: str
    """In its slot, also if it is parked and will come there."""
    content: str = ""
    """What the `Key` of the call said that is pending."""


class Client:
    """One process's mailbox. Appears in the spool with the first call that it publishes.

    Args:
        store: the spool.
        events: wake by file events, not by polling alone.
        poll_interval: longest pause between two looks, in seconds.
        on_silence: called when nothing came for a few seconds, until it returns True.
    """

    def __init__(
        self,
        store: Store,
        *,
        events: bool,
        poll_interval: float,
        on_silence: Callable[[], bool],
    ) -> None:
        self.store = store
        self.name = new_token()
        self._process = this_process()
        self._events = events
        self._numbers = itertools.count(1)
        self._mutex = threading.Lock()
        self._lock: BaseFileLock | None = None
        self._present = False
        self._slots: dict[int, tuple[str, int, int]] = {}
        self.waiter = Waiter(
            store.outcomes,
            self.name,
            events=events,
            poll_interval=poll_interval,
            on_silence=on_silence,
        )

    def new_id(self) -> str:
        """An id for a call that is about to be published."""
        return f"{self.name}-{next(self._numbers)}"

    def publish(
        self,
        invocation_id: str,
        task: str,
        queue: str,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer] = (),
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: float = 0.0,
        ring: bool = True,
        **options: Unpack[CallOptions],
    ) -> Receipt:
        """Make a call pending, or find the one that is.

        Args:
            invocation_id: from `new_id`.
            task: the task's name.
            queue: the queue's folder name.
            payload: segments; see `Call`.
            buffers: large parts of the values in the payload; see `Payload`.
            priority: 0 to 9; higher ones are served first.
            delay: seconds before it may start.
            ring: wake idle workers; if not, call `ring` later.
            options: see there.

        Raises:
            OSError: the shared directory did not take the file; the call was not made.
        """
        slot = self._slot_of(priority, delay)
        once, parent = options.pop("once", None), options.pop("parent", "")
        with tracing.publishing(task, queue, invocation_id, options.get("members", 0)) as trace:
            call = self._call(invocation_id, task, queue, slot, payload, trace, options)
            receipt = self._publish(call, payload, buffers, once, parent)
        if ring:
            self.ring(queue)
        return receipt

    def _publish(
        self,
        call: Call,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer],
        once: Key | None,
        parent: str,
    ) -> Receipt:
        if once is None and parent:
            return self._park(call, payload, buffers, parent)
        if once is None:
            return Receipt(call.id, self.store.publish(call, payload, buffers))
        # Without parking: the worker that claims it does that, and its key is free then.
        published = self.store.deduplication.publish(once, call, payload, buffers)
        return Receipt(published.invocation_id, published.path, published.content)

    def _park(
        self,
        call: Call,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer],
        parent: str,
    ) -> Receipt:
        """Publish a call that waits for another one, and see whether it still has to.

        Dies in between: see `Store.publish_after`. An error after the rename is none of the call's.
        """
        store, layout = self.store, self.store.layout
        path = store.publish_after(call, payload, buffers, parent)
        try:
            # First the bell: a worker that hears it later looks what it has ended meanwhile.
            store.fs.ring(layout.after_bell)
            if store.outcomes.exists(parent):
                store.waiting.move_on(path)
                store.fs.rmdir(layout.after(parent))
        except (OSError, SpoolError) as error:
            log.info("%s waits for %s until upkeep looks: %s", call.id, parent, error)
        return Receipt(call.id, f"{layout.slot(call.queue, call.slot)}/{call.id}.1")

    def fire(
        self,
        occasion: IdempotencyKey,
        task: str,
        queue: str,
        payload: Payload,
        *,
        priority: int,
        delay: float,
        **options: Unpack[CallOptions],
    ) -> bool:
        """Make a call pending, unless that was done for its key before; True if it was done now.

        Raises:
            OSError: the shared directory failed; the next try does what is left to do.
        """
        invocation_id, slot = self.new_id(), self._slot_of(priority, delay)
        segments = [payload.data]
        with tracing.publishing(task, queue, invocation_id, 0) as trace:
            call = self._call(invocation_id, task, queue, slot, segments, trace, options)
            published = fire(
                self.store.files,
                occasion.key,
                call,
                segments,
                payload.buffers,
                wanted=occasion.wanted,
            )
        if published:
            self.ring(queue)
        return published

    def _call(
        self,
        invocation_id: str,
        task: str,
        queue: str,
        slot: str,
        payload: Sequence[bytes | memoryview],
        trace: str,
        options: CallOptions,
    ) -> Call:
        options.setdefault("codec", "cloudpickle")
        return Call(
            id=invocation_id,
            spool=self.store.files.info.id,
            task=task,
            queue=queue,
            slot=slot,
            created=round(self.store.clock.now(), 3),
            python=_PYTHON,
            segments=tuple(len(segment) for segment in payload),
            trace=trace,
            caller=None if options["keep"] else self._process,
            **cast("CallFields", options),
        )

    def ring(self, queue: str) -> None:
        """Wake idle workers of this machine."""
        if self._events:
            self.store.fs.ring(self.store.layout.bell(queue))

    def now(self) -> float:
        """Seconds since the epoch on the file server."""
        with self._mutex:
            self._appear()
            return self.store.clock.now()

    def _slot_of(self, priority: int, delay: float) -> str:
        with self._mutex:
            self._appear()
            now = self.store.clock.now()
            if delay > 0:
                return str(Slot(priority, later(now, delay)))
            return self._current_slot(priority, now - IMMEDIATE_SLACK)

    def _current_slot(self, priority: int, now: float) -> str:
        """The slot for calls that are due at once: one a second, more if many are published."""
        name, second, count = self._slots.get(priority, ("", 0, 0))
        if int(now) != second:
            name, second, count = str(Slot(priority, int(now))), int(now), 0
        elif count and count % _SLOT_SIZE == 0:
            name = str(Slot(priority, now))
        self._slots[priority] = (name, second, count + 1)
        return name

    def _appear(self) -> None:
        fs, layout = self.store.fs, self.store.layout
        if not self._present:
            # A former try may have taken it: who lets it go is taken for gone.
            if self._lock is None:
                self._lock = fs.lock(layout.client_lock(self.name))
            # Both before anybody can ask for them: an NFS client remembers for half a minute
            # that a folder was missing.
            self.store.files.make_folders(layout.mailbox(self.name))
            self.store.files.make_folders(layout.kept_mailbox(self.name))
            self._present = True
        if self.store.clock.age > _SYNC_EVERY:
            self.store.clock.sync(layout.client_lock(self.name))

    def owns(self, invocation_id: str) -> bool:
        """Whether the outcome comes into this client's own mailbox."""
        return client_of(invocation_id) == self.name

    def close(self) -> None:
        """Leave the spool. A mailbox that is not empty stays for others until it expires."""
        self.waiter.close()
        fs, layout = self.store.fs, self.store.layout
        with self._mutex:
            fs.discard(layout.bell(self.name))
            if not self._present:
                return
            self._present = False
            fs.rmdir(layout.kept_mailbox(self.name))
            fs.rmdir(layout.mailbox(self.name))
            fs.discard(layout.client_lock(self.name))
            if self._lock is not None:
                self._lock.release()
                self._lock = None
