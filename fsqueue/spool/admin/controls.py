"""Operators' commands: pause or empty a queue, drain a worker, requeue or retry a call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.admin.listing import (
    dependent_calls,
    failed_names,
    list_failed,
    pending_calls,
)
from fsqueue.spool.admin.snapshot import queue_names
from fsqueue.spool.files import whereabouts
from fsqueue.spool.files.headers import outcome_of
from fsqueue.spool.format.names import (
    DEFAULT_PRIORITY,
    AttemptName,
    Slot,
    retried_id,
    split_profile,
)
from fsqueue.spool.format.schedule import later
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fsqueue.spool.admin.filters import Filters
    from fsqueue.spool.files.whereabouts import HeldAttempt
    from fsqueue.spool.format.records import Call, Payload
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

# -- queues -------------------------------------------------------------------------------


def pause(store: Store, queue: str) -> bool:
    """Pause a queue, including its calls that need resources; False if it was already paused.

    Workers stop claiming its calls. Running calls continue. A body that waits for a call in the
    queue still runs that call itself, because it could not finish otherwise.
    """
    path = store.layout.paused(queue)
    before = store.fs.exists(path, fresh=True)
    store.files.touch(path)  # the folder is missing if all the queue's calls need resources
    return not before


def resume(store: Store, queue: str) -> bool:
    """Resume a queue; False if it was not paused."""
    path = store.layout.paused(queue)
    before = store.fs.exists(path, fresh=True)
    store.fs.discard(path)
    store.fs.ring(store.layout.bell(queue))
    store.fs.ring(store.layout.needs_bell(queue))
    if store.files.sleepers is not None:
        store.files.sleepers.changed(queue)
    return before


class Purge(NamedTuple):
    """The result of purging a queue."""

    cancelled: int
    started: int
    """Calls that a worker claimed before they could be cancelled."""


def folders(store: Store, queue: str) -> list[str]:
    """The folders of a queue: one for calls that need no resources, and one for each profile."""
    names = queue_names(store)
    return [queue, *(each for each in names if split_profile(each)[0] == queue != each)]


def purge(store: Store, queue: str) -> Purge:
    """Cancel the pending calls of a queue, including those that need resources.

    Callers waiting for one of them get `CancelledError`. Dies in between: the rest is pending.
    """
    cancelled = started = 0
    # Cancel dependent calls first: cancelling their parents would make them pending.
    every = folders(store, queue)
    for pending in [*dependent_calls(store, every), *pending_calls(store, every)]:
        if store.endings.cancel_pending(pending.path):
            cancelled += 1
        else:
            started += 1
    return Purge(cancelled, started)


# -- workers ------------------------------------------------------------------------------


def request_drain(store: Store, worker: str) -> bool:
    """Ask a worker on any host to finish its running calls and exit; False if it is gone.

    The worker sees the mark at its next heartbeat. When it exits, it removes its record first and
    then the mark. So if the record is missing after the mark was written, the mark came too late.
    """
    mark = store.layout.drain(worker)
    store.files.touch(mark)
    if store.fs.exists(store.layout.worker_record(worker), fresh=True):
        return True
    store.fs.discard(mark)
    return False


# -- running calls ------------------------------------------------------------------------


def held_attempt(store: Store, invocation_id: str) -> HeldAttempt | None:
    """The attempt of an invocation that a worker has claimed; None if there is none."""
    held = whereabouts.held(store.files)
    return next((each for each in held if each.name.invocation_id == invocation_id), None)


def requeue(store: Store, attempt: HeldAttempt) -> None:
    """Take an attempt away from its worker, as a reaper does when a worker has died.

    The call becomes pending as the next attempt. If `max_attempts` allows no further attempt, the
    call ends with `WorkerLostError`. If it already has an outcome, its file is removed. If the
    worker is still running it, the body runs twice and the first outcome stands. Dies at any point:
    the attempt is where it was, or has arrived.

    Raises:
        SpoolVersionError: another version of fsqueue published the call; it is left alone.
    """
    store.fs.recall(attempt.path)
    store.recovery.recover(attempt.path, attempt.name, "an operator took it from its worker")


# -- failures -----------------------------------------------------------------------------


class FailedCall(NamedTuple):
    """An invocation that ended in failure."""

    id: str
    files: tuple[AttemptName, ...]
    """Its files in ``failed/``: one for each attempt that ended."""


def retryable(store: Store, task: str = "") -> Iterator[FailedCall]:
    """The failed calls that can be retried, of one task or of all tasks.

    Raises:
        EnvelopeError: a file is damaged.
    """
    files: dict[str, list[AttemptName]] = {}
    for name in failed_names(store):
        files.setdefault(name.invocation_id, []).append(name)
    for invocation_id, names in files.items():
        outcome = outcome_of(store.files, invocation_id)
        if outcome is not None and outcome.state is not State.FAILED:
            continue  # another attempt succeeded first
        if not task or _task_of(store, names[0]) == task:
            yield FailedCall(invocation_id, tuple(names))


def retryable_matching(store: Store, wanted: Filters, task: str = "") -> list[FailedCall]:
    """The failed calls that match a filter, even if the caller has collected the outcome.

    Raises:
        EnvelopeError: a file is damaged.
    """
    ids = {each.id for each in list_failed(store) if wanted.takes(each)}
    return [each for each in retryable(store, task) if each.id in ids]


def _task_of(store: Store, name: AttemptName) -> str:
    try:
        return store.calls.read(store.layout.failed(name), name)[0].task
    except FileNotFoundError:
        return ""


def retry_failed(store: Store, failed: FailedCall) -> str | None:
    """Retry a failed call as a new invocation; returns its id, or None if the call is gone.

    The failed invocation keeps its outcome: a process that has seen the failure must not find a
    success under the same id later. The new id is derived from the old one, so retrying twice
    publishes the same new invocation, whose first outcome counts.

    Dies before the publication: nothing has happened. Dies after it: the failed call still exists.
    Another retry makes the same new invocation pending once more, or finds its outcome.
    """
    try:
        call, payload = store.calls.read(store.layout.failed(failed.files[0]), failed.files[0])
    except FileNotFoundError:
        return None
    new_id = retried_id(call.id)
    if not store.outcomes.exists(new_id):
        _publish_again(store, call, new_id, payload)
    for name in failed.files:
        store.fs.discard(store.layout.failed(name))
    return new_id


def retry_all(store: Store, calls: Iterable[FailedCall]) -> tuple[dict[str, str], dict[str, str]]:
    """Retry failed calls; returns new ids by old ids, and error messages by old ids."""
    made, problems = {}, {}
    for failed in calls:
        try:
            new = retry_failed(store, failed)
        except EnvelopeError as error:  # one damaged file must not stop the other retries
            problems[failed.id] = str(error)
            continue
        if new is not None:
            made[failed.id] = new
    return made, problems


def _publish_again(store: Store, call: Call, new_id: str, payload: Payload) -> None:
    if call.blob and not store.blobs.touch(call.blob):
        raise EnvelopeError(
            f"{store.layout.blob(call.blob)} is missing: it held the common arguments of "
            f"{call.id}, which cannot be run again. Make a new call."
        )
    slot = Slot.parse(call.slot) or Slot(DEFAULT_PRIORITY, 0.0)
    now = store.clock.now()
    again = msgspec.structs.replace(
        call,
        id=new_id,
        slot=str(slot._replace(due=later(now, 0.0))),
        created=round(now, 3),
        keep=True,  # no caller waits for it, and any process may read the outcome
        expires=0.0,  # the deadline belonged to the first call and has passed
        retry_of=call.id,
        within={},  # no waiting caller could lend it a permit
        caller=None,
    )
    # Before any process looks for them: an NFS client caches "no such file" for half a minute.
    client = new_id.rpartition("-")[0]
    store.files.make_folders(store.layout.mailbox(client))
    store.files.make_folders(store.layout.kept_mailbox(client))
    store.publish(again, [payload.data], payload.buffers)
    store.fs.ring(store.layout.bell(call.queue))
