"""Snapshots of real spools, with workers and calls in every state."""

from __future__ import annotations

import io
import os

import msgspec
import pytest
from rich.console import Console
from support import wait_until

from fsqueue import State
from fsqueue.cli.overview import workers_table
from fsqueue.spool.admin import controls
from fsqueue.spool.admin.census import take_snapshot
from fsqueue.spool.admin.listing import call_details, list_calls
from fsqueue.spool.admin.snapshot import has_spool
from fsqueue.spool.admin.worker_rows import list_workers
from fsqueue.spool.disk.identity import boot_id
from fsqueue.spool.format.records import BatchJob, WorkerRecord
from fsqueue.spool.history.statistics import Stats
from fsqueue.spool.worker.registration import Worker
from integration import sample_tasks
from integration.conftest import working


def census(app):
    return take_snapshot(app.store, heartbeat=app.conf.heartbeat)


def the_queue(app):
    (queue,) = census(app).queues
    return queue


def test_looking_for_a_spool_makes_none(spool):
    assert not has_spool(spool)
    assert not has_spool(f"{__file__}/below/a/file")
    assert not os.path.exists(spool)


def test_a_new_spool_is_empty(app):
    found = census(app)
    assert has_spool(app.store.layout.root)
    assert (found.queues, found.workers) == ((), ())
    counts = msgspec.structs.asdict(found.counts)
    assert counts.pop("estimated") == ()
    assert set(counts.values()) == {0}
    assert found.spool == app.store.files.info.id


def test_queues_tell_due_from_delayed(app):
    task = app.task(sample_tasks.add)
    task(1)
    task(2)
    task.options(countdown=1000)(3)
    queue = the_queue(app)
    assert (queue.name, queue.due, queue.delayed, queue.workers) == ("t.default", 2, 1, 0)
    assert 0 <= queue.oldest < 60
    assert 900 < queue.next_due < 1200
    assert not queue.paused


def test_a_worker_and_what_it_runs(app, gate):
    event, name = gate()
    task = app.task(sample_tasks.behind_gate)
    with working(app, app.make_runner(concurrency=3)):
        invocation = task(name)
        wait_until(lambda: invocation.status is State.RUNNING)
        found = census(app)
        (worker,) = found.workers
        assert (worker.state, worker.pid, worker.slots) == ("alive", os.getpid(), 3)
        assert (worker.runner, worker.queues) == ("thread", ("t.default",))
        assert [call.id for call in worker.running] == [invocation.id]
        assert 0 <= worker.running[0].seconds < 60
        assert worker.age >= 0
        assert not worker.draining
        assert found.queues[0].workers == 1
        assert found.counts.clients == 1
        event.set()
        invocation.get(timeout=60)
    assert census(app).workers == ()


@pytest.mark.leaves_strays
def test_silent_and_dead_workers(app):
    store = app.store
    worker = Worker(store, queues=("t.default",), runner="thread", concurrency=1)
    worker.register()
    os.utime(store.layout.worker_beat(worker.name), (1, 1))
    ghost = WorkerRecord(
        name="ghost",
        host="here",
        boot=boot_id(),
        pid=os.getpid(),
        start="another process had this pid",
        queues=("t.default",),
        runner="thread",
        concurrency=1,
        started=0.0,
    )
    with open(store.layout.worker_record("ghost"), "wb") as file:
        file.write(msgspec.json.encode(ghost))
    store.fs.make_folders(store.layout.running("nameless"))
    found = list_workers(store, heartbeat=2.0)
    assert {each.name: each.state for each in found} == {"ghost": "dead", worker.name: "silent"}
    with open(f"{store.layout.running('nameless')}/abcd-1.1", "wb"):
        pass
    assert "nameless" in {each.name for each in list_workers(store, heartbeat=2.0)}


NO_STATS = Stats(
    seconds=60.0, calls=0, failed=0, retried=0, lost=0, rate=0.0, missing=0, tasks=(), workers=()
)


def rendered(workers):
    """The lines of the table of workers."""
    console = Console(file=io.StringIO(), width=300)
    console.print(workers_table(workers, NO_STATS))
    return console.file.getvalue().splitlines()


class OldWorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's record as versions before batch jobs read it."""

    name: str
    host: str
    boot: str
    pid: int
    start: str
    queues: tuple[str, ...]
    runner: str
    concurrency: int
    started: float
    resources: str = ""


def test_a_worker_in_a_batch_job(app):
    store = app.store
    batch = {"system": "slurm", "job": "77_2", "array_task": "2", "restart": 1, "fleet": "cpu"}
    worker = Worker(
        store,
        queues=("t.default",),
        runner="thread",
        concurrency=1,
        batch=lambda now: BatchJob(**batch, until=now + 100),
    )
    plain = Worker(store, queues=("t.default",), runner="thread", concurrency=1)
    worker.register()
    plain.register()
    found = {each.name: each for each in list_workers(store, heartbeat=2.0)}
    assert 90 < found[worker.name].left <= 100
    assert found[worker.name].batch.job == "77_2"
    assert (found[plain.name].batch, found[plain.name].left) == (None, None)
    lines = rendered([found[worker.name], found[plain.name]])
    assert lines[0].split()[4:6] == ["JOB", "LEFT"]
    assert "cpu:77_2 (restart 1)" in lines[1]
    assert "JOB" not in rendered([found[plain.name]])[0]
    for each in (worker, plain):
        with open(store.layout.worker_record(each.name), "rb") as file:
            assert msgspec.json.decode(file.read(), type=OldWorkerRecord).name == each.name
        each.deregister()


# -- single calls ---------------------------------------------------------------------------


def test_each_state_has_its_list(app, gate):
    event, name = gate()
    add, fail = app.task(sample_tasks.add), app.task(sample_tasks.fail_before)
    hold = app.task(sample_tasks.behind_gate)
    path = f"{app.store.layout.root}/tmp/ran"
    with working(app, app.make_runner(concurrency=3)):
        good, bad, held = add(1), fail(path, 9), hold(name)
        assert good.get(timeout=60) == 2
        with pytest.raises(ConnectionError):
            bad.get(timeout=60)
        wait_until(lambda: held.status is State.RUNNING)
        later = add.options(countdown=1000)(1)
        gone = add.options(countdown=1000)(2)
        assert gone.cancel()
        app.store.files.sync_clock()
        wanted = {
            State.SUCCEEDED: good,
            State.FAILED: bad,
            State.RUNNING: held,
            State.PENDING: later,
            State.CANCELLED: gone,
        }
        # A call leaves ``running/`` a moment after its outcome is there.
        wait_until(lambda: len(list(list_calls(app.store, State.RUNNING))) == 1)
        for state, invocation in wanted.items():
            (found,) = list_calls(app.store, state)
            assert (found.id, found.state) == (invocation.id, state)
            assert 0 <= found.age < 60
        everything = {each.id: each for each in list_calls(app.store)}
        assert everything.keys() == {each.id for each in wanted.values()}
        assert everything[good.id].task == add.name
        assert everything[bad.id].task == fail.name
        assert everything[bad.id].failure.type == "ConnectionError"
        assert everything[good.id].worker.endswith(everything[held.id].worker)
        event.set()
        held.get(timeout=60)
    os.unlink(path)


def test_a_failed_direct_call_is_listed_after_its_caller_has_the_error(app):
    direct = app.direct_task(sample_tasks.fail_before)
    path = f"{app.store.layout.root}/tmp/ran"
    with working(app), pytest.raises(ConnectionError):
        direct(path, 9)
    os.unlink(path)
    app.store.files.sync_clock()
    (found,) = list_calls(app.store, State.FAILED)
    assert (found.task, found.failure.type) == (
        "integration.sample_tasks.fail_before",
        "ConnectionError",
    )
    seen = call_details(app.store, found.id)
    assert (seen.state, seen.outcome) == (State.FAILED, None)
    assert seen.path == app.store.layout.failed(seen.name)


def test_a_view_of_a_pending_call(app):
    invocation = app.task(sample_tasks.add)(1, b=2)
    seen = call_details(app.store, invocation.id)
    assert (seen.state, seen.name.attempt, seen.outcome) == (State.PENDING, 1, None)
    assert seen.call.task == "integration.sample_tasks.add"
    assert os.path.exists(seen.path)


def test_a_batch_with_a_long_header_is_listed(app):
    task = app.task(sample_tasks.add, parallel_batch_size=1000)
    with working(app):
        group = task.parallelize([(number,) for number in range(1000)])
        assert group[-1].get(timeout=60) == 1000
    app.store.files.sync_clock()
    (found,) = list_calls(app.store, State.SUCCEEDED)
    assert (found.members, found.task) == (1000, task.name)


def test_a_damaged_file_is_listed_without_its_task(app):
    invocation = app.task(sample_tasks.add)(1)
    with open(call_details(app.store, invocation.id).path, "wb") as file:
        file.write(b"\x1b[31m nothing of ours")
    (found,) = list_calls(app.store, State.PENDING)
    assert (found.id, found.task, found.queue) == (invocation.id, "", "t.default")
    assert call_details(app.store, invocation.id).call is None


def test_lists_leave_calls_alone(app):
    app.task(sample_tasks.add)(1)
    before = sorted(os.walk(app.store.layout.root))
    list(list_calls(app.store))
    census(app)
    assert sorted(os.walk(app.store.layout.root)) == before
    assert controls.purge(app.store, "t.default") == (1, 0)
