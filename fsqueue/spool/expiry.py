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
    removed += _remove_late_results(store)
    for parent in (layout.done_folder, layout.kept_folder):
        for client in store.fs.names(parent):
            removed += _expire_files(store, f"{parent}/{client}", result_ttl)
    remove_gone_clients(store)
    return removed


def _remove_late_results(store: Store) -> int:
    """Remove what late workers published after an outcome was collected; returns how many.

    Left alone, it would be seen as the outcome between the expiry of that one and its own. What
    lies in both folders is late, also if it came while this looks: nothing goes back to ``done/``.
    """
    fs, layout = store.fs, store.layout
    removed = 0
    for client in fs.names(layout.kept_folder):
        kept = fs.names(layout.kept_mailbox(client), fresh=True)
        mailbox = layout.mailbox(client)
        for name in set(fs.names(mailbox, fresh=True)).intersection(kept):
            fs.discard(f"{mailbox}/{name}")
            removed += 1
    return removed


def remove_gone_clients(store: Store) -> None:
    """Remove the empty mailboxes, locks and bells of clients that have ended."""
    fs, layout = store.fs, store.layout
    clients = {
        *fs.names(layout.done_folder),
        *fs.names(layout.kept_folder),
        *(name.removesuffix(".lock") for name in fs.names(layout.clients_folder)),
    }
    for client in clients:
        if fs.exists(layout.client_lock(client)) and not _is_gone(store, client):
            continue
        emptied = [
            fs.rmdir(mailbox) for mailbox in (layout.mailbox(client), layout.kept_mailbox(client))
        ]
        if all(emptied):
            fs.discard(layout.bell(client))
            fs.discard(layout.client_lock(client))  # last: it is what leads here again


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
            if store.clock.now() - store.fs.modified(path) > ttl:
                store.fs.discard(path)
                removed += 1
        except OSError as error:
            log.info("cannot expire %s: %s", path, error)
    return removed
