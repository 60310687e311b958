"""Turns: a slot process goes on with calls that it claims itself, while its queues have more.

docs/design/slots-and-processes.md has the protocol: what happens if a process dies at a step.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import time
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.errors import FSQueueError, SpoolError
from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.shared.resource_pool import NO_RESOURCES
from fsqueue.runner.slots.messages import Step
from fsqueue.spool.worker.backlogs import Backlogs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

    from fsqueue.runner.slots.messages import Work
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.history.entries import Entry
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

# After this many seconds a process asks its parent again, which may have reasons of its own.
_LONGEST = 0.5
# Of what the pipe of records holds, a turn uses half: the kernel does not fill each page. The
# parent empties it after each turn, so a record never has to wait.
_USUAL_SIZE = 64 << 10
_MOST_OF_ONE = 8 << 10
# After other endings, the parent has something to do with the call.
_SETTLED = {Ending.FINISHED, Ending.UNWANTED}


class Service(NamedTuple):
    """The queues of a worker; see `Backlogs`."""

    queues: Mapping[str, float]
    weighted: bool


class Turns:
    """The turns of one slot process.

    Args:
        store: the spool.
        service: the queues; None if there are no turns.
        pipe: from the parent; any message ends a turn.
        records: takes a record before each claim; the parent reads it later.

    Attributes:
        told: the end of the last call is recorded.
        recalled: a message from the parent was read in this turn.
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
        self._backlogs = None
        if service is not None:
            self._backlogs = Backlogs(
                store, service.queues, NO_RESOURCES, weighted=service.weighted
            )
        self.told: bool = False
        self.recalled: bool = False
        self._worker = ""
        self._until, self._room = 0.0, 0
        self._most_bytes = 0 if records is None else _size_of(records) // 2

    def begin(self, work: Work) -> None:
        """Begin a turn, after the call that the parent has given, if it has granted one."""
        self.told = self.recalled = False
        self._worker = work.claim.worker
        self._until = time.monotonic() + _LONGEST if work.turn else 0.0
        self._room = self._most_bytes

    def next(self, ending: Ending | FSQueueError, entries: list[Entry]) -> Claim | None:
        """Claim the next call; None if the turn is over, or nothing is due.

        Args:
            ending: how the call before has ended.
            entries: journal entries, which are taken out when they are recorded.
        """
        self.told = False
        if not isinstance(ending, Ending) or ending not in _SETTLED:
            return None
        if self._backlogs is None or self.recalled:
            return None
        if time.monotonic() > self._until or self._room < _MOST_OF_ONE or self._orders.poll(0):
            return None
        try:
            for origin in self._backlogs:
                if not self._record(Step(None if self.told else ending, entries, origin)):
                    return None
                self.told = True
                entries.clear()
                claim = self._store.claims.claim(origin, self._worker, shared=True)
                if claim is not None:
                    return claim
        except (OSError, SpoolError, UnicodeEncodeError) as error:
            log.info("the worker claims the next call, as this slot cannot: %s", error)
        return None

    def _record(self, step: Step) -> bool:
        frame = step.frame()
        if self._records is None or len(frame) > self._room:
            return False
        os.write(self._records.fileno(), frame)
        self._room -= len(frame)
        return True


def _size_of(pipe: Connection) -> int:
    """How many bytes a pipe holds: less than usual if this user has very many."""
    if not hasattr(fcntl, "F_GETPIPE_SZ"):
        return _USUAL_SIZE
    return fcntl.fcntl(pipe.fileno(), fcntl.F_GETPIPE_SZ)
