"""Actions of the web page: each does what the command of the same name does."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from fsqueue.common.commands import command
from fsqueue.common.printable import counted
from fsqueue.errors import FSQueueError
from fsqueue.monitor.words import number
from fsqueue.spool.admin import controls
from fsqueue.spool.admin.filters import Filters
from fsqueue.spool.admin.listing import dependent_calls, pending_calls
from fsqueue.spool.format.names import client_of, is_queue_name, split_member, split_profile
from fsqueue.spool.store import lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.monitor.looks import Watch
    from fsqueue.spool.admin.controls import FailedCall
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

ACTIONS: Final = frozenset({"pause", "resume", "cancel", "requeue", "drain", "retry", "purge"})


class ChangedError(FSQueueError):
    """A bulk action would affect more calls than the page showed."""


class Actions:
    """Takes the actions.

    Args:
        writable: opens the spool.
        watch: knows the queues and workers.
    """

    def __init__(self, writable: Callable[[], Store], watch: Watch) -> None:
        self._writable, self._watch = writable, watch

    def take(self, name: str, form: Mapping[str, str]) -> str:
        """Take an action; returns what was done.

        Raises:
            ChangedError: it would affect more calls than the form says.
            FSQueueError: it is not possible.
        """
        action: Callable[[Store, Mapping[str, str]], tuple[str, str]] = getattr(self, f"_{name}")
        done, same = action(self._writable(), form)
        log.warning("%s: %s", done, same)
        return f"{done} ({same})"

    def _pause(self, store: Store, form: Mapping[str, str]) -> tuple[str, str]:
        queue = self._queue(form)
        changed = controls.pause(store, queue)
        return f"{queue} {'is' if changed else 'was already'} paused", command("pause", queue)

    def _resume(self, store: Store, form: Mapping[str, str]) -> tuple[str, str]:
        queue = self._queue(form)
        changed = controls.resume(store, queue)
        return f"{queue} {'is served again' if changed else 'was not paused'}", command(
            "resume", queue
        )

    def _cancel(self, store: Store, form: Mapping[str, str]) -> tuple[str, str]:
        carrier = call_id(form.get("id", ""))
        done = lookup.cancel(store, carrier, None)
        return f"{carrier} {'is cancelled' if done else 'had already ended'}", command(
            "cancel", carrier
        )

    def _requeue(self, store: Store, form: Mapping[str, str]) -> tuple[str, str]:
        carrier = call_id(form.get("id", ""))
        held = controls.held_attempt(store, carrier)
        if held is None:
            raise FSQueueError(f"no worker holds {carrier}")
        controls.requeue(store, held)
        return f"{carrier} was taken from {held.worker}", command("requeue", carrier, yes=True)

    def _drain(self, store: Store, form: Mapping[str, str]) -> tuple[str, str]:
        worker = form.get("worker", "")
        if worker not in {each.name for each in self._watch.look().glance.snapshot.workers}:
            raise FSQueueError(f"there is no worker {worker}")
        if not controls.request_drain(store, worker):
            raise FSQueueError(f"worker {worker} has just left")
        return f"{worker} was asked to leave", command("drain", worker)

    def _retry(self, store: Store, form: Mapping[str, str]) -> tuple[str, str]:
        group = form.get("group", "")
        failed = failed_with(store, group)
        self._check(len(failed), form)
        made, problems = controls.retry_all(store, failed)
        trouble = f"; {counted(len(problems), 'call')} could not be read" if problems else ""
        return f"{counted(len(made), 'call')} run again{trouble}", command(
            "retry", failed_with=group
        )

    def _purge(self, store: Store, form: Mapping[str, str]) -> tuple[str, str]:
        queue = self._queue(form)
        self._check(pending_in(store, queue), form)
        done = controls.purge(store, queue)
        return f"{counted(done.cancelled, 'call')} cancelled", command("purge", queue, yes=True)

    @staticmethod
    def _check(there: int, form: Mapping[str, str]) -> None:
        """Refuse a bulk action that would affect more calls than the page showed."""
        seen = number(form.get("count", ""))
        seen = -1 if seen is None else seen
        if there > seen:
            raise ChangedError(
                f"nothing was done: this would now affect {counted(there, 'call')}, and the page "
                f"said {max(seen, 0):,}. Go back, reload the page, and look again."
            )

    def _queue(self, form: Mapping[str, str]) -> str:
        queue = form.get("queue", "")
        there = {split_profile(q.name)[0] for q in self._watch.look().glance.snapshot.queues}
        if not is_queue_name(queue) or queue not in there:
            raise FSQueueError(f"there is no queue {queue}")
        return queue


def call_id(text: str) -> str:
    """The invocation whose file holds a call.

    Raises:
        FSQueueError: the text is not the id of a call.
    """
    carrier, _ = split_member(text)
    try:
        client_of(carrier)
    except ValueError as error:
        raise FSQueueError(str(error)) from error
    return carrier


def failed_with(store: Store, group: str) -> list[FailedCall]:
    """The failed calls of a group that can be retried."""
    return controls.retryable_matching(store, Filters(failed_with=group))


def pending_in(store: Store, queue: str) -> int:
    """How many calls a purge of a queue would cancel."""
    folders = controls.folders(store, queue)
    return sum(len(list(calls(store, folders))) for calls in (pending_calls, dependent_calls))
