"""Removes what nobody needs any more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsqueue.spool.store import Store

log = logging.getLogger(__name__)

# A file in tmp/ belongs to a write that takes seconds; older ones were left by the dead.
_TMP_TTL = 86_400.0


def expire(store: Store, *, result_ttl: float) -> int:
    """Remove results, failed calls and quarantined files older than `result_ttl` seconds.

    The ages are measured by the file server's clock. Dies at any point: the next round
    removes the rest. Returns how many files were removed.
    """
    layout = store.layout
    removed = _expire_files(store, layout.tmp_folder, max(_TMP_TTL, result_ttl))
    for folder in (layout.failed_folder, layout.quarantine_folder):
        removed += _expire_files(store, folder, result_ttl)
    clients = {
        *store.fs.names(layout.done_folder),
        *store.fs.names(layout.kept_folder),
        *(name.removesuffix(".lock") for name in store.fs.names(layout.clients_folder)),
    }
    return removed + sum(_expire_client(store, client, result_ttl) for client in clients)


def _expire_client(store: Store, client: str, ttl: float) -> int:
    fs, layout = store.fs, store.layout
    mailboxes = (layout.mailbox(client), layout.kept_mailbox(client))
    removed = sum(_expire_files(store, mailbox, ttl) for mailbox in mailboxes)
    if fs.exists(layout.client_lock(client)) and not _is_gone(store, client):
        return removed
    emptied = [fs.rmdir(mailbox) for mailbox in mailboxes]
    if all(emptied):
        fs.discard(layout.client_lock(client))
        fs.discard(layout.bell(client))
    return removed


def _is_gone(store: Store, client: str) -> bool:
    """Whether a client has ended: its lock is free.

    Where locks exclude nobody a living client may lose its empty mailbox: the next outcome
    makes the folder again.
    """
    lock = store.fs.lock(store.layout.client_lock(client))
    if lock is None:
        return False
    lock.release()
    return True


def _expire_files(store: Store, folder: str, ttl: float) -> int:
    removed = 0
    for name in store.fs.names(folder):
        path = f"{folder}/{name}"
        try:
            age = store.clock.now() - store.fs.modified(path)
        except OSError as error:
            log.info("cannot tell the age of %s: %s", path, error)
            continue
        if age > ttl:
            store.fs.discard(path)
            removed += 1
    return removed
