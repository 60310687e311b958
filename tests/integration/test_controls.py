"""Operators' commands: pauses, drains, purges, retries."""

from __future__ import annotations

import os
import threading

import pytest
from support import open_store, wait_until

from fsqueue import CancelledError, State
from fsqueue.errors import EnvelopeError
from fsqueue.spool.admin import controls
from fsqueue.spool.admin.listing import pending_calls
from fsqueue.spool.admin.worker_rows import list_workers
from fsqueue.spool.format.names import AttemptName, retried_id
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.spool.worker.expiry import remove_gone_clients
from fsqueue.testing import FaultyFilesystem
from integration import sample_tasks
from integration.conftest import working

QUEUE = "t.default"


# -- pause --------------------------------------------------------------------------------


def test_a_paused_queue_starts_nothing_and_others_go_on(app, clock, tmp_path):
    path = str(tmp_path / "ran")
    task = app.task(sample_tasks.write_down)
    other = task.options(queue="other")
    with working(app, app.make_runner(queues={"default": 1.0, "other": 1.0})):
        task(path, "first").get(timeout=60)
        assert controls.pause(app.store, QUEUE) is True
        assert controls.pause(app.store, QUEUE) is False
        # Calls that were listed before the pause are still served for a while.
        clock.clock_offset += 2
        for _ in range(2):  # a search that began before the pause has ended then
            other(path, "other").get(timeout=60)
        later = task(path, "later")
        for _ in range(2):
            other(path, "other").get(timeout=60)
        assert later.status is State.PENDING
        assert controls.resume(app.store, QUEUE) is True
        assert controls.resume(app.store, QUEUE) is False
        later.get(timeout=60)


def test_a_pause_costs_a_claim_no_file_operation(app):
    app.task(sample_tasks.add)(1)
    fs = FaultyFilesystem()
    store = open_store(app.store.layout.root, fs)
    store.files.sync_clock()
    fs.inject()
    assert FolderBacklog(store, QUEUE).next() is not None
    assert [operation.verb for operation in fs.trace] == ["listdir", "listdir"]
    controls.pause(store, QUEUE)
    fs.inject()
    assert FolderBacklog(store, QUEUE).next() is None
    assert [operation.verb for operation in fs.trace] == ["listdir"]


def test_a_body_runs_the_call_that_it_waits_for_in_spite_of_a_pause(nested):
    with working(nested.app, nested.app.make_runner(concurrency=1)):
        assert nested.fib_in_a_pause(6) == 8
        assert controls.resume(nested.app.store, f"{nested.app.app_id}.default")


# -- purge ----------------------------------------------------------------------------------


def test_purging_tells_those_who_wait(app):
    task = app.task(sample_tasks.add)
    group = [task(1), task(2), task.options(countdown=1000)(3)]
    other = task.options(queue="other")(1)
    assert controls.purge(app.store, QUEUE) == controls.Purge(cancelled=3, started=0)
    for invocation in group:
        with pytest.raises(CancelledError):
            invocation.get(timeout=60)
    assert other.status is State.PENDING
    assert controls.purge(app.store, QUEUE) == (0, 0)
    other.cancel()


# -- drain ----------------------------------------------------------------------------------


def the_worker(app):
    found = list_workers(app.store, heartbeat=app.conf.heartbeat)
    return found[0].name if found else None


def test_a_drained_worker_finishes_first_and_leaves(make_app, gate):
    app = make_app(heartbeat=0.1, lease=10.0)
    event, name = gate()
    task = app.task(sample_tasks.behind_gate)
    runner = app.make_runner(concurrency=1)
    thread = threading.Thread(target=runner.run)
    thread.start()
    try:
        held, later = task(name, "held"), task(name, "later")
        wait_until(lambda: State.RUNNING in {held.status, later.status})
        worker = wait_until(lambda: the_worker(app))
        assert controls.request_drain(app.store, worker)
        (info,) = list_workers(app.store, heartbeat=app.conf.heartbeat)
        assert info.draining
        event.set()
        thread.join(60)
        assert not thread.is_alive()
    finally:
        event.set()
        runner.stop_runner_loop()
        thread.join(60)
    assert not os.path.exists(app.store.layout.drain(worker))
    assert the_worker(app) is None
    controls.purge(app.store, QUEUE)


def test_a_worker_that_is_gone_is_not_asked(app):
    assert controls.request_drain(app.store, "gone-1-abcdef") is False
    assert app.store.fs.names(app.store.layout.locks_folder) == []


# -- retry ----------------------------------------------------------------------------------


def fail(app, tmp_path, task=sample_tasks.fail_before, times=1):
    """A call that has failed, and would succeed now."""
    path = tmp_path / "ran"
    path.unlink(missing_ok=True)
    invocation = app.task(task)(str(path), times)
    with pytest.raises(ConnectionError):
        invocation.get(timeout=60)
    return invocation


def test_a_failed_call_runs_again_as_another_one(worked, tmp_path):
    store = worked.store
    failed = fail(worked, tmp_path)
    wait_until(lambda: store.fs.names(store.layout.failed_folder))
    store.files.sync_clock()
    (found,) = controls.retryable(store)
    assert found.id == failed.id
    new = controls.retry_failed(store, found)
    assert new == retried_id(failed.id) != failed.id
    assert worked.invocation(new).get(timeout=60) == 2
    assert failed.status is State.FAILED, "one outcome, whatever comes later"
    assert list(controls.retryable(store)) == []
    assert controls.retry_failed(store, found) is None
    assert worked.invocation(new).get(timeout=60) == 2, "for anybody, as often as they like"


def test_the_new_call_names_the_old_one_and_waits_for_nobody(app, tmp_path):
    with working(app), pytest.raises(ConnectionError):
        app.direct_task(sample_tasks.fail_before, priority=7)(str(tmp_path / "ran"), 9)
    store = app.store
    store.files.sync_clock()
    (found,) = controls.retryable(store, "integration.sample_tasks.fail_before")
    new = controls.retry_failed(store, found)
    (pending,) = pending_calls(store)
    assert pending.slot.priority == 7
    os.rename(pending.path, store.layout.failed(pending.name))
    call, _ = store.calls.read(store.layout.failed(pending.name), pending.name)
    assert (call.retry_of, call.keep, call.id) == (found.id, True, new)
    remove_gone_clients(store)


def test_only_failures_of_the_named_task_are_retried(worked, tmp_path):
    fail(worked, tmp_path)
    wait_until(lambda: worked.store.fs.names(worked.store.layout.failed_folder))
    assert list(controls.retryable(worked.store, "tasks.other")) == []


def test_a_call_that_another_attempt_has_finished_is_not_retried(app):
    store = app.store
    store.files.sync_clock()
    invocation = app.task(sample_tasks.add)(1)
    path = f"{store.layout.queue(QUEUE)}/{os.listdir(store.layout.queue(QUEUE))[0]}"
    os.rename(f"{path}/{invocation.id}.1", store.layout.failed(AttemptName(invocation.id, 1)))
    assert len(list(controls.retryable(store))) == 1
    store.outcomes.publish(
        Outcome(
            id=invocation.id,
            spool=store.files.info.id,
            attempt=2,
            state=State.SUCCEEDED,
            worker="",
            started=0.0,
            ended=0.0,
            codec="",
        ),
        [],
    )
    assert list(controls.retryable(store)) == []


def test_a_damaged_failed_call_says_so(worked, tmp_path):
    store = worked.store
    fail(worked, tmp_path)
    (text,) = wait_until(lambda: store.fs.names(store.layout.failed_folder))
    with open(f"{store.layout.failed_folder}/{text}", "ab") as file:
        file.write(b"more")
    with pytest.raises(EnvelopeError, match="damaged"):
        controls.retry_failed(store, next(controls.retryable(store)))
    assert store.fs.names(store.layout.failed_folder) == [text]


@pytest.mark.parametrize("attempts", [1, 2])
def test_all_files_of_a_retried_call_go(app, attempts):
    store = app.store
    store.files.sync_clock()
    invocation = app.task(sample_tasks.add)(1)
    (slot,) = os.listdir(store.layout.queue(QUEUE))
    first = store.layout.failed(AttemptName(invocation.id, 1))
    os.rename(f"{store.layout.slot(QUEUE, slot)}/{invocation.id}.1", first)
    for attempt in range(2, attempts + 1):
        os.link(first, store.layout.failed(AttemptName(invocation.id, attempt)))
    (found,) = controls.retryable(store)
    assert len(found.files) == attempts
    assert controls.retry_failed(store, found) == retried_id(invocation.id)
    assert store.fs.names(store.layout.failed_folder) == []
    controls.purge(store, QUEUE)
