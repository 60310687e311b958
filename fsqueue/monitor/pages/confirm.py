"""The confirmation page of an action on many calls: shows how many, and the first few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.common.printable import counted
from fsqueue.monitor.actions import failed_with, pending_in
from fsqueue.monitor.pages.page import MissingError, Page
from fsqueue.spool.admin.controls import folders
from fsqueue.spool.admin.listing import pending_calls
from fsqueue.spool.format.names import is_queue_name, split_profile

if TYPE_CHECKING:
    from fsqueue.monitor.pages.page import Ask

_FEW = 5


def confirm(ask: Ask) -> Page:
    """The number of calls, the first five, and the filter in words."""
    action = ask.parts[1]
    store = ask.watch.store
    if not ask.may_act:
        raise MissingError("this page is read-only: use the second link of `fsqueue monitor`")
    if action == "retry":
        group = ask.fields.get("group", "")
        failed = failed_with(store, group)
        count, first = len(failed), [each.id for each in failed[:_FEW]]
        field, value = "group", group
        words = f"Run {counted(count, 'failed call')} of the group {group} again"
    elif action == "purge":
        queue = ask.fields.get("queue", "")
        there = {split_profile(each.name)[0] for each in ask.look().glance.snapshot.queues}
        if not is_queue_name(queue) or queue not in there:
            raise MissingError(f"there is no queue {queue}")
        count = pending_in(store, queue)
        pending = pending_calls(store, folders(store, queue))
        first = [each.name.invocation_id for each, _ in zip(pending, range(_FEW), strict=False)]
        field, value = "queue", queue
        words = f"Cancel {counted(count, 'pending call')} of the queue {queue}"
    else:
        raise MissingError(f"there is no action {action} that needs to be confirmed")
    facts = {"action": action, "words": words, "count": count, "first": first}
    facts |= {"field": field, "value": value}
    return Page("confirm", words, facts, {"count": count, "first": first})
