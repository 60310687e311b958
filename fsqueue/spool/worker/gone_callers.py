"""Withdraws the direct calls of processes that are gone, and removes their results.

Only the process that made a direct call can receive its result, so the header names that process
(`Call.caller`). When it is gone, the result is useless, and a worker that claims the call removes
it instead of running it. Calls of ``@app.task`` name no process, because any process may ask for
their results.

A worker on the caller's host reads /proc, which costs no request to the file server.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fsqueue.common.recent import RecentTexts
from fsqueue.spool.disk.identity import is_gone
from fsqueue.spool.files.checks import is_abandoned
from fsqueue.spool.files.headers import beginning_of
from fsqueue.spool.format.names import client_of, is_invocation_id
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.worker.expiry import remove_client_if_empty

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.disk.identity import Process
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

# Reading /proc takes a tenth of the time of a short call, so a fast worker skips most checks.
_CHECK_EVERY = 0.005
# At most this many callers are remembered.
_REMEMBERED = 1_000
# A leaving process checks at most this many results for late ones.
_MOST_LATE = 100


class Callers:
    """Checks whether the callers on this host are alive, and caches the answers. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen_alive: dict[Process, float] = {}
        self._reported = RecentTexts(_REMEMBERED)

    def is_gone(self, call: Call) -> bool:
        """Whether the only process that can receive a call's outcome has certainly ended."""
        caller = call.caller
        if caller is None:
            return False
        now = self._store.fs.monotonic()
        if now - self._seen_alive.get(caller, float("-inf")) < _CHECK_EVERY:
            return False
        if is_abandoned(call):
            return True
        if len(self._seen_alive) >= _REMEMBERED:
            self._seen_alive.clear()
        self._seen_alive[caller] = now
        return False

    def is_unwanted(self, call: Call) -> bool:
        """Whether a call's outcome is useless: its caller is gone, and no other call needs it.

        Another process can learn the id of a direct call, from a log for example, and pass the
        invocation on as an argument.

        Raises:
            OSError: the shared directory fails.
        """
        return self.is_gone(call) and not self._store.dependencies.is_awaited(call.id)

    def report(self, call: Call) -> None:
        """Log once per client that its calls are withdrawn."""
        client = client_of(call.id)
        if call.caller is None or not self._reported.add(client):
            return
        log.info(
            "the caller %s (process %d of this host) is gone; its direct calls are withdrawn",
            client,
            call.caller.pid,
        )


def clear_up_after(store: Store, client: str) -> None:
    """Remove the results that only a dead client could receive, and then the client's files.

    If the process dies at any point, another worker that claims a call of this client does the
    rest; otherwise the results expire.
    """
    _remove_results(store, client, is_gone)
    remove_client_if_empty(store, client)


def clear_up_at_end(store: Store, client: str, process: Process) -> None:
    """Remove late results that only this process could receive, when it is about to leave.

    A result is late if this process has already collected another one of the same call. That
    happens when a worker dies, or is considered dead, just after it published an outcome: the call
    then runs again.

    If the process dies at any point, the results expire. Late results are rare, and the mailbox may
    be full of results that other processes want, so this checks only a few.
    """
    _remove_results(store, client, process.__eq__, limit=_MOST_LATE)


def _remove_results(
    store: Store, client: str, is_useless: Callable[[Process], bool], limit: int | None = None
) -> None:
    """Remove the results in a mailbox whose only receiver will not collect them.

    This trusts headers without checking their digests: a user who can forge one in the mailbox can
    also remove the file.
    """
    fs, mailbox = store.fs, store.layout.mailbox(client)
    for name in filter(is_invocation_id, fs.names(mailbox, limit=limit, fresh=True)):
        path = f"{mailbox}/{name}"
        outcome = beginning_of(store.files, path, Outcome)
        if outcome is None or outcome.caller is None or not is_useless(outcome.caller):
            continue
        if not store.dependencies.is_awaited(name):
            fs.discard(path)
