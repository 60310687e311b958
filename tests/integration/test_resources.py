"""Calls that need resources, and workers that have some."""

from __future__ import annotations

import os

import pytest
from support import files_under, wait_until

from fsqueue import CancelledError, ConfigError, State, WorkerLostError
from fsqueue.spool.admin import controls
from fsqueue.spool.admin.census import take_snapshot
from fsqueue.spool.format.resources import queue_in_words
from fsqueue.spool.store.lookup import is_running
from integration import sample_tasks
from integration.conftest import clocked, silence_of, working

GPU = {"gpu": 1}


def held(app):
    return [name for name in files_under(app.store.layout.root) if name.startswith("running/")]


def pending(app):
    return sorted(
        name.split("/")[1]
        for name in files_under(app.store.layout.root)
        if name.startswith("pending/")
    )


# -- options --------------------------------------------------------------------------------


def test_needs_come_from_anywhere_and_are_one_name(make_app, monkeypatch, tmp_path):
    (tmp_path / "fsqueue.toml").write_text('[task]\nresources = { mem = "2G", gpu = 1 }\n')
    monkeypatch.chdir(tmp_path)
    add = make_app().task(sample_tasks.add)
    assert add.settings.resources == "gpu-1_mem-2G"
    monkeypatch.setenv("FSQUEUE__TASK__RESOURCES", "mem=2048M gpu=1")
    assert make_app().task(sample_tasks.add).settings.resources == "gpu-1_mem-2G"
    assert add.options(resources=None).settings.resources is None
    assert add.options(resources={}).settings.resources is None


@pytest.mark.parametrize("value", [{"GPU": 1}, {"gpu": -1}, "gpu", {"a" * 70: 1}, 3, [GPU]])
def test_bad_needs_are_refused_at_decoration(app, value):
    with pytest.raises((TypeError, ValueError), match="resources = "):
        app.task(resources=value)(sample_tasks.add)


def test_bad_resources_of_a_worker(app):
    with pytest.raises(ConfigError, match="the resources of a worker: gpu=x: expected a number"):
        app.make_runner(resources={"gpu": "x"})


# -- claims ---------------------------------------------------------------------------------


def test_a_worker_with_one_gpu_runs_one_call_at_a_time_on_it(make_app, gate):
    app = make_app(concurrency=4)
    opened, name = gate()
    waiting = app.task(resources=GPU)(sample_tasks.behind_gate)
    weigh = app.task(resources=GPU)(sample_tasks.weigh)
    plain = app.task(sample_tasks.add)
    with working(app, app.make_runner(resources=GPU)):
        first = [waiting(name, number) for number in range(3)]
        wait_until(lambda: held(app))
        assert [plain(n).get(timeout=60) for n in range(20)] == list(range(1, 21))
        assert pending(app) == ["t.default.gpu-1"] * 2
        wait_until(lambda: len(held(app)) == 1)
        group = weigh.parallelize([("gpu", 1, 1)] * 40)
        opened.set()
        assert [each.get(timeout=60) for each in first] == [0, 1, 2]
        group.get(timeout=60)


def test_a_large_and_a_small_call_share_a_worker(make_app, gate):
    app = make_app(concurrency=8)
    (opened, name), (other, small) = gate(), gate()
    task = app.task(resources={"mem": "48G"})(sample_tasks.behind_gate)
    with working(app, app.make_runner(resources="mem=64G")):
        large, second = task(name, 1), task(name, 2)
        wait_until(lambda: held(app))
        fits = task.options(resources={"mem": "16G"})(small, 3)
        wait_until(lambda: is_running(app.store, fits.id))
        assert len(held(app)) == 2
        other.set()
        assert fits.get(timeout=60) == 3
        assert {large.status, second.status} == {State.RUNNING, State.PENDING}
        opened.set()
        assert [large.get(timeout=60), second.get(timeout=60)] == [1, 2]


def test_amounts_never_exceed_what_a_worker_has(make_app):
    app = make_app(concurrency=6)
    task = app.task(sample_tasks.weigh)
    with working(app, app.make_runner(resources={"mem": 10, "gpu": 2})):
        group = [
            task.options(resources={"mem": weight, "gpu": weight % 2})("mem", weight, 10)
            for weight in [1, 3, 7, 10, 2, 5] * 8
        ]
        for each in group:
            each.get(timeout=60)


def test_a_call_that_fits_nowhere_stays_and_its_caller_is_told(make_app, caplog):
    app = make_app(poll_interval=0.05)
    clock = clocked(app)
    large = app.task(resources={"gpu": 2, "mem": "1G"})(sample_tasks.add)(1)
    with silence_of(app, clock, large) as answer:
        with working(app, app.make_runner(resources={"gpu": 1, "mem": "64G"})):
            told = "serves the queue default and has gpu=2 mem=1G. If one runs already"
            wait_until(lambda: told in caplog.text)
            assert "MODULE:VARIABLE --resource gpu=2 --resource mem=1G" in caplog.text
            assert large.status is State.PENDING
            assert app.task(sample_tasks.add)(1).get(timeout=60) == 2
        with working(app, app.make_runner(resources={"gpu": 2, "mem": "64G"})):
            assert answer.result(60) == 2


def test_a_worker_without_resources_does_not_look_at_them(app):
    needy = app.task(resources=GPU)(sample_tasks.add)(1)
    with working(app):
        assert app.task(sample_tasks.add)(1).get(timeout=60) == 2
        assert needy.status is State.PENDING
    assert needy.cancel()


def test_priority_holds_whatever_is_needed(make_app, tmp_path):
    app = make_app(concurrency=1)
    path = str(tmp_path / "order")
    task = app.task(sample_tasks.write_down)
    calls = [
        task.options(priority=priority, resources=needed)(path, f"{priority}")
        for priority, needed in ((1, GPU), (2, None), (4, GPU), (3, "gpu=0.5"), (5, None))
    ]
    with working(app, app.make_runner(resources=GPU)):
        for each in calls:
            each.get(timeout=60)
    assert (tmp_path / "order").read_text("utf-8").split() == ["5", "4", "3", "2", "1"]


def test_a_large_call_is_not_passed_for_ever(make_app, gate):
    app = make_app(concurrency=4, lease=3600.0)
    clock = clocked(app)
    (opened, name), (later, behind) = gate(), gate()
    task = app.task(resources=GPU)(sample_tasks.behind_gate)
    with working(app, app.make_runner(resources={"gpu": 2})):
        first = task(name, 1)
        wait_until(lambda: is_running(app.store, first.id))
        both = task.options(resources={"gpu": 2}, priority=6)(name, 2)
        clock.clock_offset += 2.0  # or the worker could see the large call too late
        passes = task(behind, 3)
        wait_until(lambda: is_running(app.store, passes.id))
        clock.clock_offset += 31.0
        later.set()
        assert passes.get(timeout=60) == 3
        waits = task(behind, 4)
        assert app.task(sample_tasks.add)(1).get(timeout=60) == 2
        assert both.status is waits.status is State.PENDING
        opened.set()
        assert [both.get(timeout=60), waits.get(timeout=60)] == [2, 4]


def test_batches_and_retries_hold_once_and_give_back(make_app, tmp_path):
    app = make_app(concurrency=3)
    batch = app.task(resources=GPU, parallel_batch_size=5)(sample_tasks.weigh)
    retried = app.task(resources=GPU, retry_for=ConnectionError, retry_delay=0.0, retry_jitter=0.0)(
        sample_tasks.fail_before
    )
    failing = app.task(resources=GPU)(sample_tasks.divide)
    with working(app, app.make_runner(resources=GPU)):
        batch.parallelize([("gpu-batch", 1, 1)] * 20).get(timeout=60)
        assert retried(str(tmp_path / "ran"), 2).get(timeout=60) == 3
        with pytest.raises(ZeroDivisionError):
            failing(1, 0).get(timeout=60)
        assert batch("gpu-batch", 1, 1).get(timeout=60) is None


def test_a_call_that_waits_for_its_turn_holds_nothing(make_app, gate):
    app = make_app(concurrency=4)
    opened, name = gate()
    turns = app.task(resources=GPU, running_concurrency="task")(sample_tasks.behind_gate)
    free = app.task(resources=GPU)(sample_tasks.add)
    with working(app, app.make_runner(resources={"gpu": 2})):
        group = [turns(name, number) for number in range(3)]
        wait_until(lambda: any(is_running(app.store, each.id) for each in group))
        assert [free(number).get(timeout=60) for number in range(5)] == [1, 2, 3, 4, 5]
        opened.set()
        assert [each.get(timeout=60) for each in group] == [0, 1, 2]


def test_an_empty_folder_of_needs_goes_and_comes_again(make_app):
    app = make_app(poll_interval=0.05)
    clock = clocked(app)
    task = app.task(resources=GPU)(sample_tasks.add)
    folder = app.store.layout.queue("t.default.gpu-1")
    with working(app, app.make_runner(resources=GPU)):
        for number in range(3):
            assert task(number).get(timeout=60) == number + 1
            clock.clock_offset += 4.0
            wait_until(lambda: not os.path.exists(folder), what="the folder is removed")


# -- bodies that wait ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_waiting_body_lends_what_it_holds(nested, kind):
    app = nested.app
    with working(app, app.make_runner(kind=kind, concurrency=1, resources=GPU)):
        assert nested.on_gpu(3) == 3
        assert nested.without_gpu([2, 0, 1]).get(timeout=60) == [2, 0, 1]
        if kind == "process":
            assert nested.on_gpu_by_threads([1, 2, 0]).get(timeout=60) == [1, 2, 0]
        assert nested.leaf(2).get(timeout=60) == 4


def test_a_waiting_body_leaves_to_others_what_its_worker_does_not_have(nested):
    app = nested.app
    with working(app, app.make_runner(concurrency=1)):
        waiting = nested.without_gpu([1])
        wait_until(lambda: pending(app) == ["nested.default.gpu-1"])
        with working(app, app.make_runner(concurrency=1, resources=GPU)):
            assert waiting.get(timeout=60) == [1]


def test_a_slot_that_is_killed_gives_back_what_it_held(nested):
    app = nested.app
    runner = app.make_runner(kind="process", concurrency=2, resources=GPU)
    with working(app, runner):
        with pytest.raises(WorkerLostError):
            nested.die_on_gpu().get(timeout=60)
        assert nested.on_gpu(1) == 1


def test_inline_calls_need_nothing(make_app):
    app = make_app(dev_mode_force_sync_tasks=True)
    assert app.task(resources={"gpu": 99})(sample_tasks.add)(1).result == 2


# -- operators ----------------------------------------------------------------------------------


def test_a_pause_and_a_purge_are_of_all_calls_of_a_queue(make_app):
    app = make_app(poll_interval=0.05)
    fs = clocked(app)
    task = app.task(resources=GPU)(sample_tasks.add)
    plain = app.task(sample_tasks.add)
    queue = "t.default"
    assert controls.pause(app.store, queue)
    calls = [task(1), plain(1)]
    with working(app, app.make_runner(resources=GPU)):
        wait_until(lambda: take_snapshot(app.store, heartbeat=2.0).queues[0].workers)
        (needy, usual) = take_snapshot(app.store, heartbeat=2.0).queues[::-1]
        assert (needy.name, needy.need, needy.due) == ("t.default.gpu-1", "gpu=1", 1)
        assert (usual.name, usual.need, usual.due) == ("t.default", "", 1)
        assert needy.paused
        assert needy.workers == usual.workers == 1
        fs.inject()
        folder = app.store.layout.queue(queue)
        wait_until(lambda: [op.path for op in fs.trace if op.verb == "listdir"].count(folder) > 2)
        assert [each.status for each in calls] == [State.PENDING] * 2
        assert controls.resume(app.store, queue)
        assert [each.get(timeout=60) for each in calls] == [2, 2]
        (worker,) = take_snapshot(app.store, heartbeat=2.0).workers
        assert worker.resources == "gpu=1"
    calls = [task(1), plain(1)]
    assert controls.purge(app.store, queue) == (2, 0)
    for each in calls:
        with pytest.raises(CancelledError):
            each.get(timeout=60)
    assert queue_in_words("t.default.gpu-1_mem-2G") == "t.default (gpu=1 mem=2G)"
