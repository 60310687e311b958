"""The calls that a worker must finish before it may leave."""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsqueue.spool.disk.listing import Listing
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.registration import Worker


class LiveCalls:
    """The attempts that run in this process and whose outcome may still be needed.

    An attempt that has timed out or was cancelled is not one of them, although its body may still
    run in a thread. The methods may be called from any thread, and an exception of a signal handler
    in a body leaves no lock held here.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._waiting: list[SimpleQueue[None]] = []

    def begin(self, claim: Claim) -> None:
        """Add an attempt that is about to run."""
        self._names.add(claim.text)

    def end(self, claim: Claim) -> None:
        """Remove an attempt that has ended or is no longer needed. May be called twice."""
        self._names.discard(claim.text)
        for waiting in list(self._waiting):
            waiting.put(None)

    def wait(self, names: set[str] | None = None, timeout: float | None = None) -> None:
        """Wait until there are none.

        Args:
            names: wait only for these attempts.
            timeout: the longest wait in seconds.
        """
        changed: SimpleQueue[None] = SimpleQueue()
        deadline = None if timeout is None else time.monotonic() + timeout
        self._waiting.append(changed)
        try:
            while self._names if names is None else self._names & names:
                changed.get(timeout=None if deadline is None else deadline - time.monotonic())
        except (Empty, ValueError):  # timed out
            return
        finally:
            self._waiting.remove(changed)


def ended_elsewhere(store: Store, worker: Worker, marks: Listing, *, leaving: bool) -> list[Claim]:
    """The claims of a worker whose calls were cancelled, or finished by another worker.

    Args:
        marks: lists ``cancel/``.
        leaving: also check the outcomes of claims that it holds under a former name. Other workers
            considered it dead and ran these calls again. While the worker stays, their bodies may
            continue.

    Raises:
        OSError: the shared directory failed.
    """
    claims = worker.claims
    if not claims:
        return []
    cancelled = set(marks.names())

    def is_over(claim: Claim) -> bool:
        call = claim.name.invocation_id
        lost = leaving and claim.worker != worker.name
        return call in cancelled or (lost and store.outcomes.exists(call))

    return [claim for claim in claims if is_over(claim)]
