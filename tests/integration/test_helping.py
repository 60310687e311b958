"""A body that waits for a pending call runs it itself (P9), as soon as it can."""

from __future__ import annotations

import errno
import os

import pytest

from fsqueue.runner.attempt.context import WorkerContext
from fsqueue.runner.attempt.instead_of_waiting import run_instead_of_waiting
from fsqueue.spool.worker.registration import Worker
from integration import sample_tasks

pytestmark = pytest.mark.concurrent


def test_a_claim_that_the_shared_directory_refuses_is_tried_again(app):
    """As when a slot registers its claimant on a full disk: the awaited call was accepted."""
    invocation = app.task(sample_tasks.add)(2, 3)
    worker = Worker(app.store, queues=("t.default",), runner="nested", concurrency=1)
    worker.register()
    answers = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), worker]

    def claimant():
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    context = WorkerContext(
        store=app.store,
        worker=claimant,
        resolve=app.resolve,
        app_id=app.app_id,
        exclusive=False,
    )

    assert not run_instead_of_waiting(context, invocation.id, None)
    assert run_instead_of_waiting(context, invocation.id, None)
    assert invocation.result == 5
    worker.deregister()
