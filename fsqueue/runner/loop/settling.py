"""Settles the claims of a worker when their executions have ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError
from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.attempt.publication import remove_cancelled, settle_timed_out
from fsqueue.runner.loop.give_back import give_back
from fsqueue.spool.features.body_reports import drop_progress
from fsqueue.spool.format.names import client_of
from fsqueue.spool.worker.gone_callers import clear_up_after

if TYPE_CHECKING:
    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.runner.loop.stopping import Stopping
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.worker.backlog.worker import WorkerBacklog
    from fsqueue.spool.worker.registration import Worker

log: logging.Logger = logging.getLogger(__name__)

# Endings of attempts that the executing thread or process has already settled.
_SETTLED = {Ending.FINISHED, Ending.GIVEN_BACK, Ending.WAITS, Ending.UNWANTED}


class Settling:
    """Settles what an execution has not settled itself. Its methods may be called from any thread.

    Args:
        context: the worker, as bodies see it.
        worker: holds the claims.
        stopping: tells whether the worker is leaving.
        processes: whether the slots are processes, which neither hold nor release claims.
    """

    def __init__(
        self,
        context: WorkerContext,
        worker: Worker,
        backlog: WorkerBacklog,
        stopping: Stopping,
        *,
        processes: bool,
    ) -> None:
        self._context, self._worker, self._backlog = context, worker, backlog
        self._store, self._stopping = context.store, stopping
        self._processes = processes
        self._gone_clients: set[str] = set()

    def settle(self, claim: Claim, ending: Ending | BaseException) -> None:
        """Release a claim, and give back or recover what its slot did not finish.

        The claim is released whatever the ending is. A slot process cannot release it, and nothing
        else releases an attempt whose file has vanished. If the worker kept the claim, it would
        give the call back when it stops.
        """
        try:
            self.note(claim.name.invocation_id, claim.origin, ending)
            settled = ending in _SETTLED
            if settled and not self._processes:
                return  # its thread has released it
            if self._worker.release(claim) and not settled:
                self._settle(claim, ending)
        except (OSError, SpoolError) as error:
            log.error("cannot settle %s, upkeep will: %s", claim.name, error)  # noqa: TRY400
        finally:
            self._worker.forget(claim)
            self._context.budget.give(claim.text)

    def note(self, invocation_id: str, origin: str, ending: Ending | BaseException) -> None:
        """Record how a slot has settled a call, before its claim is released.

        Args:
            origin: the path of the attempt when it was pending.
            ending: how its execution ended.
        """
        if ending is Ending.UNWANTED:
            self._gone_clients.add(client_of(invocation_id))
        if self._processes and ending in {Ending.FINISHED, Ending.UNWANTED}:
            # The slot process does not check whether calls wait for this one.
            self._store.dependencies.ended(invocation_id)
        if ending is Ending.FINISHED:
            self._backlog.was_run(origin)

    def clear_up(self) -> None:
        """Remove the results of clients that turned out to be gone. Called by upkeep."""
        while self._gone_clients:
            client = self._gone_clients.pop()
            try:
                clear_up_after(self._store, client)
            except OSError as error:
                log.info("the results of client %s stay until they expire: %s", client, error)

    def _settle(self, claim: Claim, ending: Ending | BaseException) -> None:
        drop_progress(self._store.files, claim.name)
        if ending is Ending.UNREADABLE:
            self._backlog.skip(claim.name)
            give_back(self._store, claim)
        elif ending is Ending.TOO_LONG:
            self._backlog.was_too_long(claim)
            give_back(self._store, claim)
        elif ending is Ending.CANCELLED:
            remove_cancelled(self._context, claim)
        elif ending is Ending.TIMED_OUT:
            settle_timed_out(self._context, claim)
        elif ending is Ending.NOT_STARTED or self._stopping.why:
            give_back(self._store, claim)
        else:
            reason = f"its slot failed: {ending}"
            log.warning("%s: %s", claim.name, reason, extra=claim.tags)
            self._store.recovery.recover(claim.path, claim.name, reason)
