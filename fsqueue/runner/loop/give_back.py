"""Gives claims back to their queues, when a worker stops or cannot run them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fsqueue.errors import SpoolError
from fsqueue.runner.attempt.publication import remove_cancelled
from fsqueue.runner.job.cuts import cut_off
from fsqueue.runner.shared.live import ended_elsewhere
from fsqueue.spool.disk.listing import Listing
from fsqueue.spool.features.body_reports import drop_progress

if TYPE_CHECKING:
    from fsqueue.runner.attempt.context import WorkerContext
    from fsqueue.runner.job.cuts import JobEnded
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.names import AttemptName
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.registration import Worker

log: logging.Logger = logging.getLogger(__name__)


def give_back(store: Store, claim: Claim) -> None:
    """Give a released claim back under the same attempt.

    Raises:
        OSError: the shared directory failed; a reaper gives it back, at the cost of an attempt.
    """
    _move(store, claim)
    drop_progress(store.files, claim.name)


def give_all_back(store: Store, worker: Worker, ended: JobEnded | None = None) -> None:
    """Release and give back every claim that a worker still holds.

    All files are moved before anything is cleaned up, because the process may be killed at any
    moment, and each call that was not moved by then loses an attempt. If one claim fails, the
    others are still given back.

    Args:
        worker: holds the claims.
        ended: the end of the worker's job, if it interrupts the calls.
    """
    released = [claim for claim in worker.claims if worker.release(claim)]
    for claim in released:
        try:
            if ended is None or not cut_off(store, claim.path, claim.name, ended):
                _move(store, claim)
        except (OSError, SpoolError) as error:
            text = "cannot give %s back, a reaper will: %s"
            log.error(text, claim.name, error, extra=claim.tags)  # noqa: TRY400 - a traceback adds nothing
    for claim in released:
        drop_progress(store.files, claim.name)


def give_path_back(store: Store, ended: JobEnded | None, path: str, name: AttemptName) -> None:
    """Give back an attempt that another process of this worker holds."""
    if ended is None or not cut_off(store, path, name, ended):
        store.recovery.return_stray(path, name)


def drop_cancelled(context: WorkerContext, worker: Worker) -> None:
    """Remove the cancelled calls that a worker still holds because it did not wait for their end.

    If the process dies before or during this, a reaper finds their outcomes.
    """
    try:
        marks = Listing(context.store.fs, context.store.layout.cancel_folder)
        for claim in ended_elsewhere(context.store, worker, marks, leaving=True):
            if worker.release(claim):
                remove_cancelled(context, claim)
    except (OSError, SpoolError) as error:
        log.info("cancelled calls cannot be cleared up, a reaper will: %s", error)


def _move(store: Store, claim: Claim) -> None:
    if store.claims.give_back(claim):
        log.info("given back: %s", claim.name, extra=claim.tags)
