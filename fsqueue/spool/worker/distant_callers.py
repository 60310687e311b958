"""Withdraws the pending direct calls of callers on other hosts that have lost their lock.

A worker cannot read another host's /proc. A caller holds the lock of its client until it ends, so
an observer that has seen the lock held, and then sees it free for a whole lease, concludes that the
caller is gone. Where locks do not exclude others, no lock is ever seen held, and the calls run.

A host that was cut off from the file server can lose its locks and come back. So the calls are
cancelled, not deleted: a caller that is alive after all gets `CancelledError` and does not wait
forever. The outcomes of dead callers expire.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.disk.identity import boot_id
from fsqueue.spool.files import whereabouts
from fsqueue.spool.files.checks import is_abandoned
from fsqueue.spool.format.names import AttemptName, client_of, is_client_name

if TYPE_CHECKING:
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

_LOCK = ".lock"


class DistantCallers:
    """Remembers what one observer has seen of the clients' locks.

    Args:
        lease: seconds for which a lock must have been free.
    """

    def __init__(self, store: Store, *, lease: float) -> None:
        self._store, self._lease = store, lease
        self._held: set[str] = set()
        self._free_since: dict[str, float] = {}

    def round(self) -> None:
        """Check each client's lock once, and withdraw the calls of clients that are gone.

        If the process dies at any point, another observer does the rest, if it has seen the lock
        held. Otherwise the calls run.

        Raises:
            OSError: the shared directory fails; the next round does the rest.
        """
        names = self._store.fs.names(self._store.layout.clients_folder, fresh=True)
        clients = {name.removesuffix(_LOCK) for name in names if name.endswith(_LOCK)}
        self._held &= clients
        for gone in self._free_since.keys() - self._held:
            del self._free_since[gone]
        for client in filter(is_client_name, clients):
            if self._is_held(client):
                self._held.add(client)
                self._free_since.pop(client, None)
            elif client in self._held:
                now = self._store.fs.monotonic()
                free = now - self._free_since.setdefault(client, now)
                if free >= self._lease:
                    self._withdraw_all(client, free)
                    self._held.discard(client)

    def _is_held(self, client: str) -> bool:
        """Whether a client is alive. If it has left since the listing, it has no lock to test."""
        try:
            lock = self._store.fs.lock(self._store.layout.client_lock(client), existing=True)
        except FileNotFoundError:
            return False
        if lock is None:
            return True
        lock.release()
        return False

    def _withdraw_all(self, client: str, silence: float) -> None:
        count = 0
        for path, name in self._pending(client):
            # An unreadable call has moved on, or is handled by the worker that claims it.
            with contextlib.suppress(FileNotFoundError, EnvelopeError, SpoolVersionError):
                call = self._store.calls.read_header(path, name)
                if self._is_unwanted(call):
                    why = f"its caller has lost its lock for {silence:.0f} s and seems to be gone"
                    count += self._store.endings.cancel_pending(path, why)
        if count:
            log.warning("the caller %s seems to be gone; its calls withdrawn: %d", client, count)

    def _pending(self, client: str) -> list[tuple[str, AttemptName]]:
        store = self._store
        return [
            (f"{folder}/{name}", name)
            for folder in whereabouts.unclaimed(store.files)
            for name in whereabouts.attempts_in(store.files, folder, strict=True)
            if not name.cancelled and client_of(name.invocation_id) == client
        ]

    def _is_unwanted(self, call: Call) -> bool:
        """Whether only a process that this host cannot see could receive the outcome."""
        if call.keep or call.caller is None or self._store.dependencies.is_awaited(call.id):
            return False
        return call.caller.boot != boot_id() or is_abandoned(call)
