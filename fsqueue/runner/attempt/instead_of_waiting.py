"""Runs a call in the thread of a body that would otherwise wait for it.

A body holds a slot while it waits. If every slot waited for a call that needs a slot, the worker
would deadlock. So the waiting body runs the call itself, or a call that this one waits for.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING

from fsqueue.runner.attempt import permits
from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.attempt.context import current
from fsqueue.runner.attempt.dependencies import find_ancestor
from fsqueue.runner.attempt.endings import settle
from fsqueue.runner.attempt.execute import execute
from fsqueue.runner.attempt.publication import remove_cancelled
from fsqueue.runner.shared.resource_pool import needed_by
from fsqueue.spool.store.lookup import find_due, find_pending, is_due

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.runner.attempt.context import WorkerContext

log: logging.Logger = logging.getLogger(__name__)


def run_instead_of_waiting(
    context: WorkerContext,
    invocation_id: str,
    hint: str | None,
    *,
    lanes: Sequence[str] | None = None,
    deferred: bool = False,
) -> bool:
    """Run an invocation in this thread if it is pending, or a call that it waits for.

    That may also be a call that waits for a permit of the calling body, or of a body that waits for
    the calling one. A body calls this before it waits for an invocation, so it never waits for a
    slot or for a permit of its own. Returns whether a call was run.

    Args:
        context: the worker that claims.
        hint: where it was published, if that is known.
        lanes: its lanes, if they are known.
        deferred: it was published to wait for other calls.
    """
    try:
        path = _to_run(context, invocation_id, hint, lanes, deferred=deferred)
        if path is None:
            permits.offer_permits(current.get(), invocation_id, hint, lanes)
            return False
    except OSError as error:
        # The call has been accepted, so waiting for it must not fail.
        log.warning("cannot search for %s now: %s", invocation_id, error)
        return False
    outer, name = current.get(), os.path.basename(path)
    needed = needed_by(context.store.layout.home(path))
    if needed is None or not context.budget.take(name, needed, outer.claim.text if outer else ""):
        return False  # it needs resources that are in use, or that this worker lacks
    devices = context.budget.devices(name)
    try:
        if devices:
            context.show_devices(devices)
        return _run_pending(context, path)
    finally:
        context.budget.give(name)
        if devices:
            context.show_devices(context.budget.devices(outer.claim.text) if outer else ())


def _to_run(
    context: WorkerContext,
    invocation_id: str,
    hint: str | None,
    lanes: Sequence[str] | None,
    *,
    deferred: bool,
) -> str | None:
    """Path of a call that may run in this thread while it waits for an invocation."""
    store = context.store
    path = find_due(store, invocation_id, hint) if hint else find_pending(store, invocation_id)
    path = path or permits.find_borrower(current.get(), invocation_id, hint, lanes)
    if path is None and (deferred or hint is None):
        path = _pending_ancestor(context, invocation_id)
    return path


def _pending_ancestor(context: WorkerContext, invocation_id: str) -> str | None:
    """Path of a call that a waiting one depends on, and that this application may run here."""
    store, ancestor = context.store, find_ancestor(context.store, invocation_id)
    if ancestor is None:
        return None
    path = find_pending(store, ancestor)
    if path is None or not is_due(store, path):
        path = permits.find_borrower(current.get(), ancestor, None)
    if path is None:
        return None
    queue = store.layout.home(path).split("/")[-3]
    return path if queue.partition(".")[0] in context.apps else None


def _run_pending(context: WorkerContext, path: str) -> bool:
    store, claim = context.store, None
    try:
        try:
            worker = context.worker()
            claim = worker.claim(path)
        except (OSError, RuntimeError) as error:  # or no thread can be started
            log.warning("cannot claim %s now: %s", os.path.basename(path), error)
            return False
        if claim is None:
            return False
        context.live.begin(claim)
        publish = partial(settle, release=worker.release)
        ending = publish(execute(context, claim, publish))
        if ending in {Ending.UNREADABLE, Ending.INTERRUPTED} and worker.release(claim):
            store.claims.give_back(claim)
        elif ending is Ending.CANCELLED and worker.release(claim):
            remove_cancelled(context, claim)
    finally:
        # Even if the attempt has vanished, see `settle`, or if a signal handler has raised an
        # exception: then the worker's next beat returns the call.
        if claim is not None:
            worker.release(claim)
            worker.forget(claim)
            context.live.end(claim)
    store.dependencies.ended_in_body(claim.name.invocation_id)
    return ending not in {Ending.UNREADABLE, Ending.WAITS, Ending.INTERRUPTED}
