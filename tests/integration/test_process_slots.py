"""Slots that are processes, as the claim loop sees them."""

from __future__ import annotations

import pytest
from support import files_under, wait_until

from fsqueue.errors import FSQueueError
from fsqueue.runner.slots.process_slots import ProcessSlots
from fsqueue.spool.worker.registration import Worker


@pytest.mark.leaves_strays  # the worker is not asked to leave
def test_a_watcher_that_fails_is_reported(nested):
    """Nobody would see any more that a call has ended, so the worker must not wait for that."""
    invocation = nested.leaf(3)
    root = nested.app.store.layout.root
    (origin,) = [path for path in files_under(root) if path.startswith("pending/")]
    worker = Worker(nested.app.store, queues=("nested.default",), runner="process", concurrency=1)
    worker.register()

    def on_end(claim, ending):
        raise ZeroDivisionError

    slots = ProcessSlots(nested.app, 1, on_end)

    def told():
        try:
            slots.check()
        except FSQueueError as error:
            return error
        return None

    assert told() is None
    wait_until(slots.has_room)
    slots.start(worker.claim(f"{root}/{origin}"))
    assert invocation.get(timeout=60) == 9
    error = wait_until(told)
    assert isinstance(error.__cause__, ZeroDivisionError)
    slots._close_pipes()
