"""The worker's ledger of the calls that its slot processes claim themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.runner.attempt.answers import NOT_RUN
from fsqueue.runner.slots.self_claiming import QUICK
from fsqueue.spool.format.claim import Claim
from fsqueue.spool.format.names import AttemptName

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.attempt.answers import Ending
    from fsqueue.runner.loop.claiming import Claiming
    from fsqueue.runner.loop.settling import Settling
    from fsqueue.runner.slots.messages import Grant
    from fsqueue.runner.slots.self_claiming import Service
    from fsqueue.spool.history.journal import Journal
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.backlog.worker import WorkerBacklog
    from fsqueue.spool.worker.registration import Worker


class ClaimLedger:
    """See `fsqueue.runner.slots.claim_records.Ledger`.

    Args:
        worker: holds the claims.
        service: the queues.
        backlog: the worker's view of its pending calls.
        claiming: counts slots and calls.
        settling: settles the claims.
        journal: counts the busy slots.
        may_grant: returns the grant that a process may have now, or None.
    """

    def __init__(
        self,
        store: Store,
        worker: Worker,
        service: Service,
        backlog: WorkerBacklog,
        claiming: Claiming,
        settling: Settling,
        journal: Journal,
        may_grant: Callable[[], Grant | None],
    ) -> None:
        self._layout, self._worker, self._backlog = store.layout, worker, backlog
        self._claiming, self._settling, self._journal = claiming, settling, journal
        self.service: Service = service
        self.grant: Callable[[], Grant | None] = may_grant

    def begin(self, origin: str) -> Claim | None:
        """Hold the claim of an attempt."""
        self._backlog.was_taken(origin)
        text = origin.rpartition("/")[2]
        name = AttemptName.parse(text)
        if name is None:  # a foreign file, which the slot sets aside
            return None
        worker = self._worker.name
        path = f"{self._layout.running(worker)}/{text}"
        claim = Claim(name, path, self._layout.home(origin), worker, text)
        self._worker.adopt(claim)
        return claim

    def end(self, claim: Claim, ending: Ending | None) -> None:
        """Settle a claim while the grant goes on."""
        if ending is None:
            self._worker.disown(claim)
            return
        self._settling.settle(claim, ending)
        self._claiming.count(ran=ending not in NOT_RUN)

    def note(self, origin: str, ending: Ending | None) -> None:
        """Record a claim that has already ended, and so was never held here."""
        self._backlog.was_taken(origin)
        text = origin.rpartition("/")[2]
        if ending is None:
            self._worker.count(lost=AttemptName.parse(text) is not None)
            return
        self._worker.count(claimed=1)
        self._settling.note(text.partition(".")[0], origin, ending)
        self._claiming.count(ran=ending not in NOT_RUN)

    def end_grant(self) -> None:
        """Free the slot after a grant whose last claim has already ended."""
        self._journal.hold(-1)
        self._claiming.free(ran=False, idle_for=QUICK)
