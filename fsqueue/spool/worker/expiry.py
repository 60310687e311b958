"""Deletes expired results, failed calls, blobs and journals, and the leftovers of dead clients."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.errors import EnvelopeError
from fsqueue.spool.features.body_reports import remove_stale_progress
from fsqueue.spool.files import whereabouts
from fsqueue.spool.fleets.fleets import expire_fleets
from fsqueue.spool.format.layout import TOKENS
from fsqueue.spool.format.names import is_client_name
from fsqueue.spool.history.journal import start_of_hour
from fsqueue.spool.worker.limit_upkeep import recover_limits

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

_HOUR, _DAY = 3600.0, 86_400.0
# Writing a file in tmp/ takes seconds; older ones were left by processes that died.
_TMP_TTL = _DAY
# Workers touch the state of their triggers once a day.
_TRIGGER_TTL = 30 * _DAY
# A call may wait for days between two jobs, even if results expire much earlier.
_CUT_TTL = 7 * _DAY


class Expired(NamedTuple):
    """The number of removed files of each kind."""

    temporary: int
    failed: int
    quarantined: int
    cancel_marks: int
    late_results: int
    results: int
    blobs: int
    registrations: int
    cached_results: int
    journals: int
    outputs: int
    cuts: int
    progress_reports: int
    events: int
    fired_keys: int
    trigger_memories: int
    fleet_files: int
    client_records: int
    tokens: int


def expire(store: Store, *, result_ttl: float, journal_ttl: float = _DAY) -> int:
    """Remove results, output, failed calls and quarantined files older than `result_ttl` seconds.

    Journals are removed `journal_ttl` seconds after their hour has ended. Ages are measured by the
    file server's clock. If the process dies at any point, the next round removes the rest. Returns
    how many files were removed.
    """
    return sum(expire_by_kind(store, result_ttl=result_ttl, journal_ttl=journal_ttl))


def expire_by_kind(store: Store, *, result_ttl: float, journal_ttl: float = _DAY) -> Expired:
    """Like `expire`, but returns the numbers by kind."""
    layout = store.layout
    store.files.check_spool()
    recover_limits(store)
    store.dependencies.renew(result_ttl)
    return Expired(
        _expire_files(store, layout.tmp_folder, max(_TMP_TTL, result_ttl)),
        _expire_files(store, layout.failed_folder, result_ttl),
        _expire_files(store, layout.quarantine_folder, result_ttl),
        _expire_files(store, layout.cancel_folder, result_ttl),
        _remove_late_results(store),
        sum(
            _expire_files(store, f"{parent}/{client}", result_ttl)
            for parent in (layout.done_folder, layout.kept_folder)
            for client in filter(is_client_name, store.fs.names(parent))
        ),
        _expire_blobs(store, result_ttl),
        store.deduplication.expire_entries(result_ttl),
        store.cache.expire(result_ttl),
        _expire_journals(store, journal_ttl),
        _expire_files(store, layout.output_folder, result_ttl),
        _expire_files(store, layout.cuts_folder, max(_CUT_TTL, result_ttl)),
        remove_stale_progress(store.files)
        + _expire_files(store, layout.progress_folder, result_ttl),
        sum(  # the folders stay: they show that some worker handles these events
            _expire_files(store, layout.events(app_id), result_ttl)
            for app_id in store.fs.names(layout.events_folder)
        ),
        _expire_files(store, layout.fired_folder, result_ttl),
        _expire_in_folders(store, layout.triggers_folder, max(_TRIGGER_TTL, result_ttl)),
        expire_fleets(store.files, journal_ttl),
        _expire_client_records(store, max(result_ttl, journal_ttl)),
        _expire_tokens(store),
    )


def _expire_client_records(store: Store, ttl: float) -> int:
    """Remove the leftovers of clients that are gone, and their records when these are old."""
    remove_gone_clients(store)
    fs, layout, removed = store.fs, store.layout, 0
    names = set(fs.names(layout.clients_folder))
    for name in names:
        client = name.removesuffix(".json")
        path = f"{layout.clients_folder}/{name}"
        if name == client or not is_client_name(client) or f"{client}.lock" in names:
            continue
        removed += _expire_file(store, path, ttl)
    return removed


def _expire_tokens(store: Store) -> int:
    """Remove old tokens of dead processes; sleepers whose tokens are removed make new ones."""
    fs, layout, removed = store.fs, store.layout, 0
    if not fs.remote:
        return 0
    for name in fs.names(layout.bell_folder):
        listener = name.removesuffix(TOKENS)
        if listener != name:
            removed += _expire_files(store, layout.tokens(listener), _HOUR)
            # The client may have left while its token was being made.
            if is_client_name(listener) and not fs.exists(layout.client_lock(listener), fresh=True):
                fs.rmdir(layout.tokens(listener))
    return removed


def _expire_blobs(store: Store, ttl: float) -> int:
    """Remove the blobs that no call needs: those last used `ttl` seconds before the oldest call.

    A blob's time is when the last call with it was published, or when that call is due.
    """
    folder = store.layout.blobs_folder
    if not store.fs.names(folder):
        return 0
    now = store.clock.now()
    return _expire_files(store, folder, ttl + max(0.0, now - _oldest_unfinished(store, now)))


def _expire_in_folders(store: Store, parent: str, ttl: float) -> int:
    """Remove old files from the folders in a folder, and then the empty folders."""
    removed = 0
    for name in store.files.listed(parent):
        removed += _expire_files(store, f"{parent}/{name}", ttl)
        with contextlib.suppress(OSError):  # no folder, or one whose files are still needed
            store.fs.rmdir(f"{parent}/{name}")
    return removed


def _expire_journals(store: Store, ttl: float) -> int:
    """Remove the journals of hours that ended `ttl` seconds ago; does not list younger ones.

    This includes the latest glance of a killed worker, which nobody reads.
    """
    fs, layout, removed = store.fs, store.layout, 0
    for hour in fs.names(layout.journal_folder):
        began = start_of_hour(hour)
        if began is not None and store.clock.now() - began - _HOUR > ttl:
            removed += _expire_files(store, layout.journal_hour(hour), ttl)
            with contextlib.suppress(OSError):  # no folder: the files in it have been counted
                fs.rmdir(layout.journal_hour(hour))
        elif f"{layout.journal_folder}/{hour}" == layout.latest:
            removed += _expire_file(store, layout.latest, ttl)
    return removed


def _oldest_unfinished(store: Store, now: float) -> float:
    """The time of the oldest unfinished call: when it was due, or published if it is running."""
    oldest = now
    for _, slot, folder in whereabouts.slots(store.files):
        # An empty slot needs no blobs.
        if slot.due < oldest and store.files.listed(folder, fresh=True, limit=1):
            oldest = slot.due
    for waiting in whereabouts.waiting_for_limits(store.files):
        oldest = min(oldest, waiting.slot.due)
    for _, folder in (
        *whereabouts.running(store.files),
        *whereabouts.waiting_for_calls(store.files),
    ):
        for name in store.files.listed(folder, fresh=True):
            with contextlib.suppress(FileNotFoundError, PermissionError, EnvelopeError):
                oldest = min(oldest, store.fs.modified(f"{folder}/{name}"))
    return oldest


def _remove_late_results(store: Store) -> int:
    """Remove outcomes that were published after one had been collected; returns how many.

    Otherwise callers would see such a late outcome once the collected one has expired. An outcome
    that is in both folders is late, even if it arrives during this walk, since nothing moves back
    to ``done/``.
    """
    fs, layout = store.fs, store.layout
    removed = 0
    for client in filter(is_client_name, fs.names(layout.kept_folder)):
        kept = store.files.listed(layout.kept_mailbox(client), fresh=True)
        mailbox = layout.mailbox(client)
        for name in set(store.files.listed(mailbox, fresh=True)).intersection(kept):
            removed += _removed(store, f"{mailbox}/{name}")
    return removed


def remove_gone_clients(store: Store) -> None:
    """Remove the empty mailboxes, locks and bells of clients that have ended."""
    fs, layout = store.fs, store.layout
    clients = {
        *fs.names(layout.done_folder),
        *fs.names(layout.kept_folder),
        *(name.removesuffix(".lock") for name in fs.names(layout.clients_folder)),
    }
    for client in filter(is_client_name, clients):
        try:
            remove_client_if_empty(store, client)
        except (IsADirectoryError, PermissionError) as error:
            store.files.pass_over(layout.client_lock(client), error)


def remove_client_if_empty(store: Store, client: str) -> None:
    """Remove the mailboxes, lock and bell of a client that has ended and has no outcomes left."""
    fs, layout = store.fs, store.layout
    if fs.exists(layout.client_lock(client)) and not _is_gone(store, client):
        return
    emptied = [
        fs.rmdir(mailbox) for mailbox in (layout.mailbox(client), layout.kept_mailbox(client))
    ]
    if all(emptied):
        fs.discard(layout.bell(client))
        if fs.remote:
            for token in store.files.listed(layout.tokens(client)):
                fs.discard(f"{layout.tokens(client)}/{token}")
            fs.rmdir(layout.tokens(client))
        fs.discard(layout.client_lock(client))  # last: the next round finds the client by it


def _is_gone(store: Store, client: str) -> bool:
    """Whether a client has ended, so that its lock is free.

    Where locks do not work, a living client may lose its empty mailbox. The next outcome makes the
    folder again.
    """
    try:
        lock = store.fs.lock(store.layout.client_lock(client), existing=True)
    except FileNotFoundError:
        return True
    if lock is None:
        return False
    lock.release()
    return True


def _expire_files(store: Store, folder: str, ttl: float) -> int:
    return sum(_expire_file(store, f"{folder}/{name}", ttl) for name in store.files.listed(folder))


def _expire_file(store: Store, path: str, ttl: float) -> bool:
    """Remove a file if it is older than `ttl` seconds; returns whether it was."""
    try:
        return store.clock.now() - store.fs.modified(path) > ttl and _removed(store, path)
    except FileNotFoundError:
        return False
    except (OSError, EnvelopeError) as error:
        log.info("cannot expire %s: %s", path, error)
        return False


def _removed(store: Store, path: str) -> bool:
    try:
        store.fs.discard(path)
    except (IsADirectoryError, PermissionError) as error:
        log.info("cannot remove %s: %s", path, error)
        return False
    return True
