"""The worker's account of the calls that its slot processes claim themselves, in turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.runner.attempt.answers import NOT_RUN
from fsqueue.spool.format.claim import Claim
from fsqueue.spool.format.names import AttemptName

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.attempt.answers import Ending
    from fsqueue.runner.loop.claiming import Claiming
    from fsqueue.runner.loop.settling import Settling
    from fsqueue.runner.slots.turns import Service
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.registration import Worker


class Books:
    """See `fsqueue.runner.slots.process_slots.TurnBooks`.

    Args:
        store: the spool.
        worker: holds the claims.
        service: the queues.
        claiming: counts slots and calls.
        settling: settles the claims.
        may_grant: whether a process may have a turn now.
        end_turn: see there.
    """

    def __init__(
        self,
        store: Store,
        worker: Worker,
        service: Service,
        claiming: Claiming,
        settling: Settling,
        may_grant: Callable[[], bool],
        end_turn: Callable[[], None],
    ) -> None:
        self._layout, self._worker = store.layout, worker
        self._claiming, self._settling = claiming, settling
        self.service: Service = service
        self.grants_turn: Callable[[], bool] = may_grant
        self.end_turn: Callable[[], None] = end_turn

    def begin(self, origin: str) -> Claim | None:
        """Hold the claim of an attempt."""
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
        """Settle a claim in a turn that goes on."""
        if ending is None:
            self._worker.disown(claim)
            return
        self._settling.settle(claim, ending)
        self._claiming.count(ran=ending not in NOT_RUN)

    def note(self, origin: str, ending: Ending | None) -> None:
        """Note a claim that was not held here, because it is known to have ended already."""
        text = origin.rpartition("/")[2]
        if ending is None:
            self._worker.count(lost=AttemptName.parse(text) is not None)
            return
        self._worker.count(claimed=1)
        self._settling.note(text.partition(".")[0], origin, ending)
        self._claiming.count(ran=ending not in NOT_RUN)
