"""What the spool records for people: every end, every death, every run."""

from __future__ import annotations

import errno
import getpass
import json
import os
import shutil
import sys

import pytest
from support import PATIENCE, open_store, wait_until

from fsqueue import State
from fsqueue.config import load_config
from fsqueue.errors import DependencyError, WorkerLostError
from fsqueue.runner.loop.lookout import Lookout
from fsqueue.spool.admin import controls
from fsqueue.spool.admin.failures import failure_groups
from fsqueue.spool.admin.glance import Looks, read_latest
from fsqueue.spool.admin.runs import runs
from fsqueue.spool.history.gauges import read_gauges
from fsqueue.spool.history.journal import hour_of
from fsqueue.spool.history.statistics import read_stats
from fsqueue.spool.worker.expiry import expire_by_kind
from fsqueue.spool.worker.reaper import reap
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import Fault, FaultyFilesystem
from integration import sample_tasks
from integration.conftest import working
from integration.test_journal import lines


def stats(app):
    app.store.files.sync_clock()
    return read_stats(app.store, 3600.0)


@pytest.mark.leaves_strays  # the mailboxes of the app's client
def test_a_task_that_always_kills_its_slot_counts_as_failed(nested):
    app = nested.app
    with working(app, app.make_runner(kind="process", concurrency=1)):
        with pytest.raises(WorkerLostError):
            nested.die().get(timeout=PATIENCE)
        with pytest.raises(WorkerLostError):
            nested.die.options(max_attempts=2)().get(timeout=PATIENCE)
    seen = stats(app)
    (task,) = seen.tasks
    assert (seen.calls, seen.failed, seen.lost) == (task.calls, task.failed, task.lost) == (2, 2, 3)
    assert seen.queues == {f"{app.app_id}.default": 2}
    assert list(seen.failures.values()) == [2]
    found = lines(app)
    assert [line["state"] for line in found] == ["lost"] * 3
    assert all(line["evidence"] and line["worker"] for line in found)
    assert sorted(line.get("failed", 0) for line in found) == [0, 1, 1]
    (group,) = failure_groups(app.store, 0.0)
    assert (group.type, group.calls, group.tasks) == ("WorkerLostError", 2, {nested.die.name: 2})
    assert [group.fp] == list(seen.failures)


def test_cancelled_calls_are_counted_by_the_process_that_cancels_them(app, fsqueue):
    task = app.task(sample_tasks.add)
    kept, cancelled = task.options(countdown=1000)(1), task.options(countdown=1000)(2)
    assert cancelled.cancel()
    fsqueue("cancel", kept.id)
    assert not cancelled.cancel()
    app.close()
    seen = stats(app)
    assert (seen.calls, seen.failed, seen.cancelled, seen.workers) == (2, 0, 2, ())
    assert {line["state"] for line in lines(app)} == {"cancelled"}
    assert {line["id"] for line in lines(app)} == {kept.id, cancelled.id}


def test_purged_calls_are_counted(app, fsqueue):
    for number in range(30):
        app.task(sample_tasks.add)(number)
    fsqueue("purge", "default", "--yes")
    seen = stats(app)
    assert (seen.calls, seen.cancelled, seen.queues) == (30, 30, {"t.default": 30})


def test_calls_that_expire_are_counted_as_failed(app):
    invocation = app.task(sample_tasks.add).options(expires=0.001)(1)
    with working(app), pytest.raises(Exception, match="before it expired"):
        invocation.get(timeout=PATIENCE)
    assert (stats(app).calls, stats(app).failed) == (1, 1)


def test_failures_are_grouped_with_the_calls_that_depended_on_them(app, tmp_path):
    fail, add = app.task(sample_tasks.fail_before), app.task(sample_tasks.add)
    with working(app):
        first = [fail(str(tmp_path / str(number)), 9) for number in range(3)]
        last = add(first[0])
        with pytest.raises(DependencyError):
            last.get(timeout=PATIENCE)
        for each in first:
            with pytest.raises(ConnectionError):
                each.get(timeout=PATIENCE)
    (group,) = failure_groups(app.store, 0.0)
    assert group.calls == 4
    assert group.tasks == {fail.name: 3, add.name: 1}
    assert group.at.endswith("in fail_before")
    assert stats(app).failures == {group.fp: 4}
    assert failure_groups(app.store, app.store.clock.now() + 1) == []
    assert [each.calls for each in failure_groups(app.store, 0.0, task=add.name)] == [1]
    assert {each.id for each in group.samples} == {each.id for each in (*first, last)}


def test_a_worker_that_left_is_told_from_one_that_died(app):
    with working(app):
        app.task(sample_tasks.add)(1).get(timeout=PATIENCE)
    left = stats(app).workers
    assert [(each.alive, each.left) for each in left] == [(False, True)]
    folder = app.store.layout.journal_folder
    for where, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".sums"):  # as if it had been killed: without its last line
                path = os.path.join(where, name)
                with open(path, encoding="utf-8") as file:
                    text = [line for line in file if not json.loads(line).get("left")]
                with open(path, "w", encoding="utf-8") as file:
                    file.writelines(text)
    assert [each.left for each in stats(app).workers] in ([False], [])


@pytest.mark.leaves_strays
def test_who_died_and_with_which_call_is_noted_by_the_one_that_finds_out(app):
    invocation = app.task(sample_tasks.add)(1)
    store = app.store
    dead = Worker(store, queues=("t.default",), runner="thread", concurrency=1)
    dead.register()
    assert dead.claim(f"{store.layout.slot('t.default', only_slot(store))}/{invocation.id}.1")
    assert reap(store, dead.name, "its process is gone") == 1
    (note,) = store.endings.notes
    assert (note.name.invocation_id, note.worker) == (invocation.id, dead.name)
    assert (note.evidence, note.outcome) == ("its process is gone", None)
    assert reap(store, dead.name, "its process is gone") == 0
    assert len(store.endings.notes) == 1
    with working(app):
        assert invocation.get(timeout=PATIENCE) == 2
    lost = [line for line in lines(app) if line["state"] == "lost"]
    assert [(line["id"], line["worker"]) for line in lost] == [(invocation.id, dead.name)]
    assert (stats(app).calls, stats(app).lost) == (1, 1)


def only_slot(store):
    (slot,) = (name for name in os.listdir(store.layout.queue("t.default")) if "." in name)
    return slot


def test_a_run_is_a_process_and_its_calls(app):
    add = app.task(sample_tasks.add)
    with working(app):
        ids = [add(number).id for number in range(3)]
        wait_until(lambda: all(app.invocation(each).status is State.SUCCEEDED for each in ids))
    (run,) = runs(app.store, stats(app), 0.0)
    assert ids[0].startswith(f"{run.client}-")
    assert (run.here, run.ended, run.failed) == (True, 3, 0)
    record = run.record
    assert (record.pid, record.user, record.folder) == (os.getpid(), getpass.getuser(), os.getcwd())
    assert os.path.basename(sys.argv[0]) in record.command or "pytest" in record.command
    app.close()
    (run,) = runs(app.store, stats(app), 0.0)
    assert (run.here, run.record) == (False, record)
    assert expire_by_kind(app.store, result_ttl=1000.0).client_records == 0
    os.utime(app.store.layout.client_record(run.client), (1, 1))
    assert expire_by_kind(app.store, result_ttl=1000.0).client_records == 1


@pytest.mark.parametrize("pending", [3, 40])
def test_a_run_knows_which_of_its_calls_wait_and_when_they_end(app, pending):
    """Those in slots, and those that wait for other calls; at the rate of the last minutes."""
    add = app.task(sample_tasks.add)
    with working(app):
        ids = [add(number).id for number in range(6)]
        wait_until(lambda: all(app.invocation(each).status is State.SUCCEEDED for each in ids))
    # In as many slots: more than one look lists.
    waiting = [add.options(countdown=1000 + 900 * number)(number) for number in range(pending)]
    parked = [waiting[0].then(add) for _ in range(2)]
    glance = Looks(app.store, heartbeat=10.0, result_ttl=1e6).look()
    (run,) = runs(app.store, stats(app), 0.0, glance)
    assert (run.ended, run.running, run.exact) == (6, 0, pending == 3)
    if pending == 3:
        assert run.waiting == len(waiting) + len(parked)
        assert run.ends == pytest.approx(run.waiting / glance.recent.rate)
    else:
        assert 2 < run.waiting < len(waiting) + len(parked)
        assert run.ends is None
    assert controls.purge(app.store, "t.default") == (pending + 2, 0)


def test_a_run_knows_which_of_its_calls_run(app, gate):
    """Those that workers hold."""
    opening, name = gate()
    with working(app):
        call = app.task(sample_tasks.behind_gate)(name)
        wait_until(lambda: call.status is State.RUNNING)
        glance = Looks(app.store, heartbeat=10.0, result_ttl=1e6).take()
        (run,) = runs(app.store, stats(app), 0.0, glance)
        assert (run.running, run.waiting, run.ends) == (1, 0, None)
        opening.set()
        call.get(timeout=PATIENCE)


def test_command_lines_can_be_left_out(make_app):
    app = make_app(record_commands=False)
    app.task(sample_tasks.add)(1)
    (run,) = runs(app.store, stats(app), 0.0)
    assert run.record.command == ""
    assert controls.purge(app.store, "t.default") == (1, 0)


def test_gauges_tell_how_full_the_spool_was(make_app):
    app = make_app(heartbeat=0.1, lease=10.0)
    app.task(sample_tasks.add).options(countdown=1000)(1)

    def gauges():
        app.store.files.sync_clock()
        return read_gauges(app.store, hour_of(app.store.clock.now()))

    with working(app, app.make_runner(concurrency=3)):
        wait_until(lambda: len(gauges()) >= 2, "two lines")
    found = gauges()
    assert [each.at for each in found] == sorted({each.at for each in found})
    queue = found[-1].queues["t.default"]
    assert (queue.due, queue.delayed, found[-1].slots) == (0, 1, 3)
    assert not os.path.exists(app.store.layout.latest), "it shows a worker that has left"


@pytest.mark.skipif(sys.platform == "darwin", reason="names of files are UTF-8 there")
def test_a_caller_may_be_in_a_folder_whose_name_is_no_utf8(app, tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    app.task(sample_tasks.add)(1)
    (run,) = runs(app.store, stats(app), 0.0)
    assert run.record.folder == f"{tmp_path}/caf\\udce9"
    assert controls.purge(app.store, "t.default") == (1, 0)


@pytest.mark.leaves_strays  # the spool is another one
def test_a_process_leaves_though_its_notes_cannot_be_written(make_app, spool, caplog):
    app, other = make_app(), make_app()
    call = app.task(sample_tasks.add).options(countdown=1000)(1)
    assert other.invocation(call.id).cancel()
    shutil.rmtree(spool)
    open_store(spool)
    other.close()
    assert caplog.text.count("cannot write the end of the journal") == 1


def test_counts_that_cannot_be_written_are_logged_once(app, caplog):
    fs = FaultyFilesystem()
    store = open_store(app.store.layout.root, fs)
    store.files.sync_clock()
    worker = Worker(store, queues=("t.default",), runner="thread", concurrency=1)
    worker.register()
    lookout = Lookout(store, worker, load_config({"root": store.layout.root}))
    fs.inject(Fault.fail(errno.ENOSPC, at=None, verb="write"))
    for _ in range(3):
        lookout.watch()
        fs.clock_offset += 100.0
    assert caplog.text.count("cannot count for those who look") == 1
    assert read_latest(app.store) is None
    fs.inject()
    lookout.watch()
    assert read_latest(store).worker == worker.name
    lookout.leave()
    worker.deregister()
