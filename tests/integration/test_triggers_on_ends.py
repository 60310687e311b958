"""Tasks that run when a call ends."""

from __future__ import annotations

import os
import sys

import pytest
from support import wait_until

from fsqueue import WorkerLostError, triggers
from fsqueue.spool.admin.listing import pending_calls
from fsqueue.spool.worker.reaper import reap
from fsqueue.spool.worker.registration import Worker
from integration.conftest import working
from integration.trigger_tasks import (
    behind,
    fussy,
    note,
    quiet,
    result_of,
    seen,
    settled,
    source,
)


@pytest.fixture(autouse=True)
def forget():
    seen.clear()


@pytest.mark.parametrize("batch", [1, 2])
def test_the_ends_of_calls(make_app, batch):
    app = make_app()
    task = app.task(max_retries=0, parallel_batch_size=batch)(source)
    app.task(
        triggers=[
            triggers.on_status(task, "failed", arguments=("failed",)),
            triggers.on_result(task, 3, arguments=("three",)),
            triggers.on_result(task, lambda value: value > 2, arguments=("large",)),
            triggers.on_exception(task, LookupError, arguments=("lookup",)),
            triggers.on_status(task, arguments=lambda o: (o.invocation,)),
        ]
    )(note)
    with working(app):
        group = task.parallelize([(1,), (3,), (KeyError("k"),), (OSError("o"),)])
        for each in group:
            wait_until(each.done)
        found = settled(app)
    ends = [(each.id,) for each in group]
    expected = [("failed",)] * 2 + [("three",), ("large",), ("lookup",), *ends]
    assert sorted(found) == sorted(expected)


def test_a_retry_is_no_end(make_app):
    app = make_app()
    task = app.task(fussy)
    app.task(triggers=triggers.on_status(task, arguments=result_of))(note)
    with working(app):
        call = task()
        assert call.get(60) == "done"
        assert settled(app) == [(call.id, "succeeded", "done")]


@pytest.mark.parametrize("predicate", [lambda value: value.no, sys.exit])
def test_a_predicate_that_fails_does_not_hurt_the_call(make_app, caplog, predicate):
    app = make_app()
    task = app.task(source)
    app.task(triggers=triggers.on_result(task, predicate))(note)
    app.task(triggers=triggers.on_event("e", arguments=lambda o: o.payload()))(quiet)
    app.task(triggers=triggers.on_event("e", lambda _: predicate(1)))(fussy)
    with working(app):
        app.emit("e", sys.exit)
        assert task(1).get(60) == 1
        assert settled(app) == []
    assert "it does not fire" in caplog.text


def test_a_direct_task_can_be_waited_for_by_its_name(make_app):
    app = make_app()
    direct = app.direct_task(source)
    app.task(triggers=triggers.on_status("integration.trigger_tasks.source"))(note)
    with working(app):
        assert direct(2) == 2
        wait_until(lambda: seen == [()])


def watching(app, task):
    app.task(
        triggers=[
            triggers.on_status(task, "cancelled", arguments=result_of),
            triggers.on_exception(task, WorkerLostError, arguments=result_of),
        ]
    )(note)
    with working(app):  # since then whoever ends a call lets its triggers know
        wait_until(lambda: os.path.exists(app.store.layout.events("t")))


def test_calls_that_the_queue_ends_itself(make_app):
    app, operator = make_app(), make_app()  # which has none of the code
    task = app.task(max_attempts=1, parallel_batch_size=2)(source)
    watching(app, task)
    pending = task(1)
    operator.invocation(pending.id).cancel()
    lost = task.parallelize([(1,), (2,)])
    worker = Worker(operator.store, queues=("t.default",), runner="thread", concurrency=1)
    worker.register()
    (call,) = pending_calls(operator.store)
    assert worker.claim(call.path)
    reap(operator.store, worker.name, "killed")
    worker.abandon()
    with working(app), working(app, app.make_runner()):
        wait_until(lambda: len(seen) >= 3)
        found = settled(app)
    kinds = {invocation: (state, type(error).__name__) for invocation, state, error in found}
    assert len(found) == 3
    assert kinds == {
        pending.id: ("cancelled", "CancelledError"),
        **{each.id: ("failed", "WorkerLostError") for each in lost},
    }


def test_a_call_that_is_cancelled_while_it_runs(make_app, gate):
    app = make_app()
    task = app.task(behind)
    watching(app, task)
    opened, name = gate()
    with working(app):
        call = task(name)
        wait_until(lambda: call.status == "running")
        call.cancel()
        opened.set()
        wait_until(lambda: seen)
        ((invocation, state, _),) = settled(app)
    assert (invocation, state) == (call.id, "cancelled")
