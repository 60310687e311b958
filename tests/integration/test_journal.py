"""What workers leave in the journal, with slots of both kinds."""

from __future__ import annotations

import json
import os

import pytest
from support import wait_until

from fsqueue.errors import WorkerLostError
from fsqueue.spool.history.statistics import read_stats
from integration import sample_tasks
from integration.conftest import working


def stats(app, window=3600.0):
    app.store.files.sync_clock()
    return read_stats(app.store, window)


def lines(app):
    folder = app.store.layout.journal_folder
    found = []
    for where, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".jsonl"):
                with open(os.path.join(where, name), encoding="utf-8") as file:
                    found += map(json.loads, file)
    return found


def test_each_attempt_has_a_line(app, tmp_path):
    add = app.task(sample_tasks.add)
    fail = app.task(sample_tasks.fail_before, retry_for=ConnectionError, retry_delay=0.01)
    with working(app):
        good, bad = add(1), fail(str(tmp_path / "ran"), 2)
        assert good.get(timeout=60) == 2
        bad.get(timeout=60)
    found = {(line["id"], line["attempt"]): line for line in lines(app)}
    assert {key: line["state"] for key, line in found.items()} == {
        (good.id, 1): "succeeded",
        (bad.id, 1): "retried",
        (bad.id, 2): "retried",
        (bad.id, 3): "succeeded",
    }
    assert found[bad.id, 1]["failure"] == "ConnectionError"
    assert found[bad.id, 3]["wait"] < 60  # from when the retry was due
    assert {line["task"] for line in found.values()} == {add.name, fail.name}
    seen = stats(app)
    assert (seen.calls, seen.failed, seen.retried) == (2, 0, 2)
    (worker,) = seen.workers
    assert (worker.calls, worker.alive) == (2, False)
    assert 0 < worker.busy <= 1


def test_a_batch_counts_its_calls(app):
    task = app.task(sample_tasks.add, parallel_batch_size=50)
    with working(app):
        assert len(task.parallelize([(number,) for number in range(100)]).results) == 100
    seen = stats(app)
    assert (seen.calls, seen.failed, len(lines(app))) == (100, 0, 2)


def test_what_is_noted_shows_while_the_worker_goes_on(make_app):
    app = make_app(heartbeat=0.1, lease=1.0)
    task = app.task(sample_tasks.add)
    with working(app):
        task(1).get(timeout=60)
        wait_until(lambda: stats(app).calls == 1, what="the call in the statistics")


def test_a_worker_that_works_for_long_is_busy_before_it_ends(make_app, gate):
    event, name = gate()
    app = make_app(heartbeat=0.1, lease=1.0)
    task = app.task(sample_tasks.behind_gate)
    with working(app, app.make_runner(concurrency=1)):
        invocation = task(name)
        (worker,) = wait_until(lambda: stats(app).workers)
        assert (worker.calls, worker.slots) == (0, 1)
        event.set()
        invocation.get(timeout=60)


def test_nothing_is_written_without_a_time_to_live(make_app):
    app = make_app(journal_ttl=0)
    task = app.task(sample_tasks.add)
    with working(app):
        task(1).get(timeout=60)
    assert os.listdir(app.store.layout.journal_folder) == []


@pytest.mark.leaves_strays  # the results that the process's client keeps
def test_processes_tell_their_parent(nested):
    with working(nested.app, nested.app.make_runner(kind="process", concurrency=1)):
        assert nested.tree(4).get(timeout=60) == 14
    names = {line["task"] for line in lines(nested.app)}
    assert names == {nested.tree.name, nested.leaf.name}
    seen = stats(nested.app)
    # Those that a body ran itself, as it waited for them, are noted like all others.
    assert {task.task: task.calls for task in seen.tasks} == {
        nested.tree.name: 1,
        nested.leaf.name: 4,
    }
    assert len(seen.workers) == 1


def test_a_slot_that_dies_is_noted(nested):
    with (
        working(nested.app, nested.app.make_runner(kind="process", concurrency=1)),
        pytest.raises(WorkerLostError),
    ):
        nested.die().get(timeout=60)
    (line,) = lines(nested.app)
    assert (line["state"], line["task"]) == ("lost", nested.die.name)
    assert stats(nested.app).lost == 1
