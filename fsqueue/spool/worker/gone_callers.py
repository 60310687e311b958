"""Withdraws the direct calls of processes that are gone, and removes their results.

The result of a direct call can be received only by the process that made the call. A header
therefore names that process (`Call.caller`). When the process is gone, nobody can receive the
result: a worker that claims the call removes it instead of running it. Calls of ``@app.task`` name
no process, as any process may ask for their results.

A worker on the caller's host looks into /proc, which costs no request to the file server.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fsqueue.spool.disk.identity import is_gone
from fsqueue.spool.format.names import client_of, is_invocation_id
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.store.headers import beginning_of
from fsqueue.spool.worker.expiry import remove_client_if_empty

if TYPE_CHECKING:
    from fsqueue.spool.disk.identity import Process
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.store.store import Store

log = logging.getLogger(__name__)

# A look into /proc takes as long as a tenth of a short call, so a fast worker saves most of them.
_LOOK_EVERY = 0.005
# A process that makes no calls any more is forgotten at the latest when so many others do.
_REMEMBERED = 1_000


class Callers:
    """Remembers which callers of this host are alive. Any thread may ask.

    Args:
        store: the spool.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen_alive: dict[Process, float] = {}
        self._reported: set[str] = set()

    def is_gone(self, call: Call) -> bool:
        """Whether the only process that can receive a call's outcome has ended for certain."""
        caller = call.caller
        if caller is None:
            return False
        now = self._store.fs.monotonic()
        if now - self._seen_alive.get(caller, float("-inf")) < _LOOK_EVERY:
            return False
        if call.abandoned:
            return True
        if len(self._seen_alive) >= _REMEMBERED:
            self._seen_alive.clear()
        self._seen_alive[caller] = now
        return False

    def is_unwanted(self, call: Call) -> bool:
        """Whether nobody can receive a call's outcome: its caller is gone, and no call needs it.

        Another process can learn the id of a direct call, from a log for instance, and pass the
        invocation on as an argument.

        Raises:
            OSError: the shared directory fails.
        """
        return self.is_gone(call) and not self._store.dependencies.is_awaited(call.id)

    def report(self, call: Call) -> None:
        """Log once per client that its calls are withdrawn."""
        client = client_of(call.id)
        if client in self._reported or call.caller is None:
            return
        self._reported.add(client)
        log.info(
            "the caller %s (process %d of this host) is gone; its direct calls are withdrawn",
            client,
            call.caller.pid,
        )


def clear_up_after(store: Store, client: str) -> None:
    """Remove the results that only a client could receive that is gone, and then the client.

    Dies at any point: another worker that meets a call of this client does the rest, and what
    nobody meets expires.

    A header is believed here without checking its digest: whoever could forge one in the mailbox
    could remove the file as well.
    """
    fs, layout = store.fs, store.layout
    for name in filter(is_invocation_id, fs.names(layout.mailbox(client), fresh=True)):
        path = f"{layout.mailbox(client)}/{name}"
        outcome = beginning_of(store.files, path, Outcome)
        receiver = None if outcome is None else outcome.caller
        if receiver is not None and is_gone(receiver) and not store.dependencies.is_awaited(name):
            fs.discard(path)
    remove_client_if_empty(store, client)
