"""Self-claiming: with a grant, a slot process goes on with calls that it claims itself.

docs/design/slots-and-processes.md describes the protocol, and what happens if a process dies at
each step.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from fsqueue.errors import FSQueueError, SpoolError
from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.shared.resource_pool import NO_RESOURCES
from fsqueue.runner.slots.messages import Step
from fsqueue.spool.wakeups.watching import Alarm
from fsqueue.spool.worker.backlog.worker import WorkerBacklog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

    from fsqueue.runner.slots.messages import Work
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.history.entries import Entry
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

QUICK: Final = 0.002
"""Seconds for which a slot that has ended a call waits for the next one itself, and for which the
claim loop then leaves new calls to a slot that has just claimed one."""

# Seconds after which a process returns to its parent, which may have other plans for it.
_LONGEST = 0.5
# A grant uses at most half of the record pipe's capacity, because the kernel does not fill each
# page. The parent empties the pipe after each grant, so writing a record never blocks.
_USUAL_SIZE = 64 << 10
_MOST_OF_ONE = 8 << 10
# After any other ending, the parent must settle the call.
_SETTLED = {Ending.FINISHED, Ending.UNWANTED}


class Service(NamedTuple):
    """The queues of a worker; see `WorkerBacklog`."""

    queues: Mapping[str, float]
    weighted: bool


class SelfClaiming:
    """Claims calls for one slot process, within the grants of its parent.

    Args:
        service: the queues; None if it may claim nothing.
        pipe: the pipe from the parent; any message ends a grant.
        records: takes a record before each claim; the parent reads it later.

    Attributes:
        told: whether the end of the last call is recorded.
        recalled: whether a message from the parent was read since the grant.
        longest: how long a grant holds, in seconds.
    """

    def __init__(
        self,
        store: Store,
        service: Service | None,
        pipe: Connection,
        records: Connection | None,
    ) -> None:
        self._store, self._records = store, records
        self._orders = select.poll()
        self._orders.register(pipe, select.POLLIN)
        self._backlog = None
        if service is not None:
            self._backlog = WorkerBacklog(
                store, service.queues, NO_RESOURCES, weighted=service.weighted
            )
        self.told: bool = False
        self.recalled: bool = False
        self.longest: float = _LONGEST
        self._alarm = Alarm()
        self._listening = contextlib.ExitStack()
        self._patience, self._listens = 0.0, False
        self._worker = ""
        self._until, self._room = 0.0, 0
        self._most_bytes = 0 if records is None else _size_of(records) // 2

    def begin(self, work: Work) -> None:
        """Begin after a call from the parent, with the grant that came with it, if any."""
        self.told = self.recalled = False
        self._worker = work.claim.worker
        self._until = time.monotonic() + self.longest if work.grant else 0.0
        self._patience = work.grant.patience if work.grant else 0.0
        self._room = self._most_bytes

    def next(self, ending: Ending | FSQueueError, entries: list[Entry]) -> Claim | None:
        """Claim the next call; None if the grant is over.

        The grant ends when no call is due, or, if it has patience, when none came in that time.

        Args:
            ending: how the previous call ended.
            entries: journal entries, which are removed when they are recorded.
        """
        self.told = False
        claim = None
        if isinstance(ending, Ending) and ending in _SETTLED:
            try:
                claim = self._claim(ending, entries)
                if claim is None and self._patience:
                    claim = self._linger(ending, entries)
            except (OSError, SpoolError, UnicodeEncodeError) as error:
                log.info("the worker claims the next call, as this slot cannot: %s", error)
        if claim is None and self._listens:
            self._listens = False
            self._listening.close()
        return claim

    def _goes_on(self) -> bool:
        over = time.monotonic() > self._until or self._room < _MOST_OF_ONE
        return not (self.recalled or over or self._orders.poll(0))

    def _claim(self, ending: Ending, entries: list[Entry]) -> Claim | None:
        if self._backlog is None or not self._goes_on():
            return None
        if self._patience and not self._listens:
            self._listens = True
            self._listening.enter_context(self._backlog.listening(self._on_event))
            self._backlog.expire()
        for origin in self._backlog:
            if not self._record(ending, entries, origin):
                return None
            claim = self._store.claims.claim(origin, self._worker, shared=True)
            if claim is not None:
                return claim
        return None

    def _linger(self, ending: Ending, entries: list[Entry]) -> Claim | None:
        """Record the end of this call for the parent, and wait a moment for the next one."""
        if self._backlog is None or not (self._goes_on() and self._record(ending, entries, "")):
            return None
        until = time.monotonic() + self._patience
        while True:
            self._alarm.clear()
            claim = self._claim(ending, entries)
            left = until - time.monotonic()
            if claim is not None or left <= 0 or not self._alarm.wait(left):
                return claim

    def _on_event(self) -> None:
        if self._backlog is not None:
            self._backlog.bell_rang(needs=False)
        self._alarm.set()

    def _record(self, ending: Ending, entries: list[Entry], origin: str) -> bool:
        """Record the next step, and the end of the previous call if it is not recorded yet."""
        frame = Step(None if self.told else ending, entries, origin).frame()
        if self._records is None or len(frame) > self._room:
            return False
        os.write(self._records.fileno(), frame)
        self._room -= len(frame)
        self.told = True
        entries.clear()
        return True


def _size_of(pipe: Connection) -> int:
    """How many bytes a pipe holds; less than usual if this user has very many pipes."""
    if not hasattr(fcntl, "F_GETPIPE_SZ"):
        return _USUAL_SIZE
    return fcntl.fcntl(pipe.fileno(), fcntl.F_GETPIPE_SZ)
