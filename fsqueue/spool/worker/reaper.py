"""Returns the calls of dead workers to their queues, and removes the workers' files."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from fsqueue.common.logs import tags
from fsqueue.errors import SpoolVersionError
from fsqueue.spool.features.body_reports import drop_progress
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.worker.liveness import Observer
from fsqueue.spool.worker.registration import remove_worker_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)


def give_back_of_processes(
    store: Store, pids: set[int], give_back: Callable[[str, AttemptName], object] | None = None
) -> None:
    """Give back the claims of processes of this host that are about to be killed.

    This must happen while the processes exist, because a reaper counts the attempts of dead ones.
    If this process dies at any point, a reaper does the rest, at the cost of an attempt.

    Args:
        pids: the processes.
        give_back: gives back one attempt, by its path; None: move it back unchanged.
    """
    if not pids:
        return
    give_back = give_back or store.recovery.return_stray
    observer = Observer(store, heartbeat=0.0, lease=0.0)
    observer.discover()
    for worker in observer.of_processes(pids):
        folder = store.layout.running(worker)
        for text in store.fs.names(folder, fresh=True):
            name = AttemptName.parse(text)
            if name is not None:
                give_back(f"{folder}/{text}", name)
        if store.fs.rmdir(folder):
            remove_worker_files(store, worker)


def reap(store: Store, worker: str, reason: str) -> int:
    """Recover every attempt of a dead worker; returns how many were recovered.

    Any number of reapers may do this at once, and each may die at any point, because every step is
    one rename or link that succeeds only once. The folder is removed last, and only if it is empty,
    so a claim that the worker made at the last moment is found next time. A worker that was only
    silent cannot claim anything without its folder, and registers again.
    """
    folder = store.layout.running(worker)
    recovered = 0
    for text in _oldest_first(store, folder):
        path = f"{folder}/{text}"
        name = AttemptName.parse(text)
        if name is None:
            store.files.clear_away(path, "its name is not one of an invocation")
            continue
        store.fs.recall(path)
        try:
            recovered += store.files.unless_refused(
                path, partial(_recover, store, path, name, reason)
            )
        except SpoolVersionError as error:
            store.files.leave_alone(error)
    if store.fs.rmdir(folder):
        remove_worker_files(store, worker)
    if recovered:
        text = "worker %s is dead (%s); calls recovered from it: %d"
        log.warning(text, worker, reason, recovered, extra=tags(worker=worker))
    return recovered


def _recover(store: Store, path: str, name: AttemptName, reason: str) -> None:
    store.recovery.recover(path, name, reason)
    drop_progress(store.files, name)


def _oldest_first(store: Store, folder: str) -> list[str]:
    """Names in a dead worker's folder, the oldest claims first.

    The file server may still reserve the latest claims for the worker's host (see
    `Worker.keep_alive`). Waiting for these must not delay the others.
    """
    names = store.fs.names(folder, fresh=True)
    if not store.fs.remote:
        return names

    def since(name: str) -> float:
        try:
            return store.fs.status(f"{folder}/{name}", follow=False).st_ctime
        except (FileNotFoundError, PermissionError):
            return 0.0

    return sorted(names, key=since)
