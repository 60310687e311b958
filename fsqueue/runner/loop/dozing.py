"""Dozing: an idle worker searches rarely, because callers ring for it through its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.spool.worker.backlog.folder import FRESH_FOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.wakeups.tokens import Token
    from fsqueue.spool.worker.backlog.worker import WorkerBacklog
    from fsqueue.spool.worker.registration import Worker


class Dozing:
    """The tokens of one worker, one for each queue. Its claim loop calls the methods.

    The tokens exist while the worker has a free slot and has found nothing for a while. Its first
    claim removes them, because a ring must reach a worker that can take the call.

    Args:
        worker: whose tokens they are.
        poll_interval: the longest pause between two searches without tokens, in seconds.
        wake: called after a ring; the next search must cover everything.
    """

    def __init__(
        self,
        store: Store,
        backlog: WorkerBacklog,
        worker: Worker,
        poll_interval: float,
        wake: Callable[[], object],
    ) -> None:
        self._fs, self._backlog = store.fs, backlog
        self._sleepers = store.files.sleepers
        self._tokens: dict[str, Token] = {}
        if self._sleepers is not None:
            for queue in backlog.queues:
                token = self._sleepers.token(queue, lambda: worker.name, poll_interval, wake)
                self._tokens[store.layout.queue(queue)] = token
        # A search lists some of the folders in turn, and relies on recent listings of others.
        self._overlooks = poll_interval + max(poll_interval, FRESH_FOR)
        self._searched = float("-inf")
        self._rarely = False

    def enter(self) -> None:
        """Make the folders of the tokens."""
        if self._sleepers is not None:
            for queue in self._backlog.queues:
                self._sleepers.enter(queue)

    def searches(self, pause: float) -> bool:
        """Whether to search now.

        Args:
            pause: the current pause of the claim loop. It grows while nothing is found, and starts
                over after anything that wakes the loop.
        """
        if not self._tokens:
            return True
        now = self._fs.monotonic()
        found = self._searched - self._overlooks
        longest = min(token.longer(pause, found) for token in self._tokens.values())
        self._rarely = longest > pause
        due = self._backlog.next_due <= now
        if self._rarely and not due and now < self._searched + longest:
            return False
        self._rarely = self._rarely and not due
        if self._rarely:
            self._backlog.bell_rang(needs=True)  # search for anything that no ring announced
        self._searched = now
        return True

    def claimed(self, claim: Claim) -> None:
        """Remove the tokens, and record whether the call came without a ring."""
        for folder, token in self._tokens.items():
            if self._rarely and claim.origin.startswith(f"{folder}/"):
                token.missed()
            token.disarm()

    def end(self) -> None:
        """Remove the tokens, when the worker leaves."""
        for token in self._tokens.values():
            token.end()
