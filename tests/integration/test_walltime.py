"""Calls that need a certain time, which is part of the name of their queue's folder."""

from __future__ import annotations

import pytest
from support import files_under, wait_until

from fsqueue import ConfigError
from fsqueue.spool.admin import controls
from fsqueue.spool.admin.census import take_snapshot
from integration import sample_tasks
from integration.conftest import clocked, working


def folders(app):
    names = files_under(app.store.layout.root)
    return {name.split("/")[1] for name in names if name.startswith("pending/t.")}


def withdraw(calls):
    for each in calls:
        each.cancel()


# -- the option -----------------------------------------------------------------------------


def test_a_walltime_comes_from_anywhere(make_app, monkeypatch, tmp_path):
    (tmp_path / "fsqueue.toml").write_text('[task]\nwalltime = "40m"\n')
    monkeypatch.chdir(tmp_path)
    add = make_app().task(sample_tasks.add)
    assert add.settings.walltime == 2400
    monkeypatch.setenv("FSQUEUE__TASK__WALLTIME", "1h30m")
    assert make_app().task(sample_tasks.add).settings.walltime == 5400
    monkeypatch.setenv("FSQUEUE__TASK__WALLTIME", "90")
    assert make_app().task(sample_tasks.add).settings.walltime == 90
    assert add.options(walltime="2d").settings.walltime == 172_800
    assert add.options(walltime="auto").settings.walltime == "auto"
    assert add.options(walltime=None).settings.walltime is None


@pytest.mark.parametrize("value", [0, -1, "soon", "", "10:00", True, float("nan"), [60]])
def test_a_bad_walltime_is_refused_at_decoration(app, value):
    with pytest.raises(ValueError, match=r"walltime = .*expected"):
        app.task(walltime=value)(sample_tasks.add)


def test_a_walltime_is_not_a_resource(app):
    with pytest.raises(ValueError, match="walltime is not a resource: give tasks the option"):
        app.task(resources={"walltime": 60})(sample_tasks.add)
    with pytest.raises(ConfigError, match="walltime is not a resource"):
        app.make_runner(resources={"walltime": 60})


def test_a_name_that_the_walltime_makes_too_long_is_refused_at_decoration(app):
    with pytest.raises(ValueError, match="longer than 64 characters"):
        app.task(resources={"a" * 55: 1}, walltime=60)(sample_tasks.add)


# -- folders --------------------------------------------------------------------------------


def test_the_walltime_is_part_of_the_folders_name(app):
    task = app.task(walltime="25m", resources={"gpu": 1})(sample_tasks.add)
    calls = [task(1), task.options(walltime=None)(1), task.options(resources=None)(1)]
    assert folders(app) == {
        "t.default.gpu-1_walltime-1800",
        "t.default.gpu-1",
        "t.default.walltime-1800",
    }
    withdraw(calls)


def test_a_timeout_alone_changes_no_folder(app):
    """Older workers must find such calls; a worker with a time limit reads it after the claim."""
    call = app.task(timeout=1800)(sample_tasks.add)(1)
    assert folders(app) == {"t.default"}
    call.cancel()


def test_a_batch_needs_the_time_of_all_its_calls(app):
    task = app.task(walltime=600, parallel_batch_size=3)(sample_tasks.add)
    calls = task.parallelize([(1,), (2,), (3,)])
    assert folders(app) == {"t.default.walltime-1800"}
    withdraw(calls)


# -- running --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_worker_without_a_time_limit_runs_everything(nested, kind):
    app = nested.app
    with working(app, app.make_runner(kind=kind, concurrency=1)):
        fib = nested.fib.options(walltime="7d")
        assert fib(3) == 2
        assert nested.leaf.options(walltime="1h")(3).get(timeout=60) == 9
        assert nested.leaf(2).get(timeout=60) == 4


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_waiting_body_runs_a_call_that_needs_more_time(request, kind, monkeypatch):
    """With one slot there is no other place for it: waiting must not block it (P9)."""
    monkeypatch.setenv("FSQUEUE__TASK__WALLTIME", "2h")
    app = request.getfixturevalue("nested").app
    fib = request.getfixturevalue("nested").fib
    with working(app, app.make_runner(kind=kind, concurrency=1)):
        assert fib.options(walltime="1m")(5) == 5


def test_status_and_pause_know_calls_with_a_walltime(make_app):
    app = make_app()
    call = app.task(walltime="40m", resources="gpu=1")(sample_tasks.add)(1)
    (queue,) = take_snapshot(app.store, heartbeat=2.0).queues
    assert (queue.need, queue.due, queue.workers) == ("gpu=1 walltime=1h", 1, 0)
    assert controls.purge(app.store, "t.default") == (1, 0)
    with working(app, app.make_runner(resources="gpu=1")):
        wait_until(lambda: take_snapshot(app.store, heartbeat=2.0).workers)
        assert controls.pause(app.store, "t.default")
        call = app.task(walltime="40m")(sample_tasks.add)(1)
        wait_until(
            lambda: all(each.workers for each in take_snapshot(app.store, heartbeat=2).queues)
        )
        assert controls.resume(app.store, "t.default")
        assert call.get(timeout=60) == 2


# -- learned --------------------------------------------------------------------------------


def test_a_walltime_is_learned_from_the_journal(make_app):
    app = make_app(heartbeat=0.1)
    clock = clocked(app)
    task = app.task(walltime="auto")(sample_tasks.add)
    with working(app):
        for number in range(4):
            assert task(number).get(timeout=60) == number + 1
    clock.clock_offset += 61.0
    fifth = task(4)
    assert folders(app) == {"t.default"}, "four runs are too few"
    with working(app):
        assert fifth.get(timeout=60) == 5
    assert task(5).cancel()
    assert "t.default.walltime-60" not in folders(app), "read once a minute"
    clock.clock_offset += 61.0
    call = task(5)
    assert folders(app) == {"t.default.walltime-60"}
    call.cancel()
    clock.inject()
    calls = [task(number) for number in range(20)]
    assert not [op for op in clock.trace if app.store.layout.journal_folder in op.path]
    withdraw(calls)
