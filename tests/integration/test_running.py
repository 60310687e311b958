"""Points 10 and 12: the worker of a process, in a thread."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import files_under, wait_until

from fsqueue import State
from integration import sample_tasks as sample
from integration.conftest import silence_of, working

pytestmark = pytest.mark.concurrent


def words(path):
    return path.read_text().split() if path.exists() else []


def test_five_bodies_at_once(app, gate, tmp_path):
    event, name = gate()
    path = tmp_path / "ran"
    direct = app.direct_task(sample.behind_gate)
    with working(app, app.make_runner(concurrency=5)), ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(direct, name, number, str(path)) for number in range(5)]
        wait_until(lambda: len(words(path)) == 5)
        event.set()
        assert [call.result(60) for call in calls] == list(range(5))


def test_concurrency_is_a_limit(app, gate, tmp_path):
    event, name = gate()
    path = tmp_path / "ran"
    task = app.task(sample.behind_gate)
    group = task.parallelize([(name, number, str(path)) for number in range(4)])
    with working(app, app.make_runner(concurrency=2)):
        wait_until(lambda: len(words(path)) == 2)
        assert sorted(member.status for member in group) == ["pending"] * 2 + ["running"] * 2
        event.set()
        assert group.results == [0, 1, 2, 3]
    assert sorted(words(path)) == ["0", "1", "2", "3"]


def test_stop_lets_running_bodies_finish_and_leaves_the_rest(app, gate, tmp_path):
    event, name = gate()
    path = tmp_path / "ran"
    task = app.task(sample.behind_gate)
    runner = app.make_runner(concurrency=2)
    with working(app, runner):
        first = task.parallelize([(name, "first", str(path)) for _ in range(2)])
        wait_until(lambda: len(words(path)) == 2)
        later = task(name, "later", str(path))
        runner.stop_runner_loop()
        assert [member.status for member in first] == [State.RUNNING] * 2
        event.set()
        assert first.results == ["first"] * 2
    assert later.status is State.PENDING
    assert words(path) == ["first"] * 2
    with working(app):
        assert later.get(60) == "later"
    assert words(path) == ["first", "first", "later"]  # nothing ran twice


def test_run_returns_only_after_the_results_are_there(app, gate):
    event, name = gate()
    task = app.task(sample.behind_gate)
    thread = threading.Thread(target=app.runner.run)
    thread.start()
    invocation = task(name, "value")
    wait_until(lambda: invocation.status is State.RUNNING)
    app.runner.stop_runner_loop()
    app.runner.stop_runner_loop()  # as often as one likes
    thread.join(0.05)
    assert thread.is_alive()
    event.set()
    thread.join(60)
    assert not thread.is_alive()
    assert invocation.done()
    assert invocation.get(60) == "value"


def test_runs_many_times(app):
    direct = app.direct_task(sample.add)
    for number in range(5):
        with working(app):
            assert direct(number) == number + 1


def test_run_twice_at_once(app):
    direct = app.direct_task(sample.add)
    with working(app):
        assert direct(1) == 2
        with pytest.raises(RuntimeError, match="running already"):
            app.runner.run()
        assert direct(2) == 3


def test_two_workers_share_the_work_and_run_nothing_twice(app, tmp_path):
    path = tmp_path / "ran"
    task = app.task(sample.write_down)
    group = task.parallelize([(str(path), number) for number in range(60)])
    runners = [app.make_runner(concurrency=4) for _ in range(2)]
    with working(app, runners[0]), working(app, runners[1]):
        assert group.results == [None] * 60
    assert sorted(map(int, words(path))) == list(range(60))


def test_calls_made_before_the_worker_started(app):
    group = app.task(sample.add).parallelize([(number,) for number in range(30)])
    with working(app):
        assert group.results == list(range(1, 31))


@pytest.mark.parametrize("watch", ["events", "poll"])
async def test_ways_of_watching(make_app, watch):
    app = make_app(watch=watch)
    direct, async_direct = app.direct_task(sample.add), app.direct_task(sample.async_add)
    with working(app):
        for number in range(20):
            assert direct(number) == number + 1
        assert await async_direct(1) == 2


def test_worker_shows_itself_and_leaves_nothing(app, spool):
    with working(app):
        wait_until(lambda: app.task(sample.add)(1).get(60) == 2)
        names = {name.rpartition(".")[2] for name in files_under(f"{spool}/workers")}
        assert names == {"json", "lock", "beat"}
    for folder in ("workers", "running", "tmp"):
        assert list(files_under(f"{spool}/{folder}")) == []


def is_record(name):
    return name.endswith(".json")


def test_close_and_call_again(app, spool):
    direct = app.direct_task(sample.add)
    with working(app):
        for _ in range(3):
            assert direct(1) == 2
            app.close()
            # The record of what ran stays, for `fsqueue runs`, until it expires. The worker may be
            # about to try the lock, and removes it again if that has just made it.
            wait_until(lambda: all(map(is_record, files_under(f"{spool}/clients"))))


def test_close_ends_the_waiting(app):
    with ThreadPoolExecutor(1) as pool:
        invocation = app.task(sample.add)(1)
        future = pool.submit(invocation.get)
        wait_until(lambda: app._session.client.waiter._waiting)
        app.close()
        with pytest.raises(RuntimeError, match="closed"):
            future.result(60)


# -- point 12: nobody works -------------------------------------------------------------------


def warnings_of(caplog):
    messages = [record.getMessage() for record in caplog.records]
    return [text for text in messages if "no worker" in text and "alive" in text]


def checked_again(app):
    """A thread that waits does the same when it is time."""
    app._session.client.waiter.poll()


def test_warning_when_no_worker_is_alive(app, clock, spool, caplog):
    caplog.set_level(logging.WARNING)
    invocation = app.task(sample.add)(1)
    with silence_of(app, clock, invocation) as answer:
        wait_until(lambda: warnings_of(caplog))
        clock.clock_offset += 100.0
        checked_again(app)
        with working(app):
            assert answer.result(60) == 2
    (message,) = warnings_of(caplog)  # once for one silence
    assert spool in message
    assert "fsqueue worker" in message
    assert "'t'" in message


def test_worker_of_another_app_does_not_count(app, clock, make_app, caplog):
    with working(make_app("other")), silence_of(app, clock, app.task(sample.add)(1)) as answer:
        wait_until(lambda: warnings_of(caplog))
        with working(app):
            assert answer.result(60) == 2


def test_no_warning_while_a_worker_is_busy(app, clock, caplog, gate):
    event, name = gate()
    invocation = app.task(sample.behind_gate)(name)
    with working(app):
        wait_until(lambda: invocation.status is State.RUNNING)
        with silence_of(app, clock, invocation) as answer:
            wait_until(lambda: app._session._observer, what="it has looked for workers")
            clock.clock_offset += 10.0
            checked_again(app)
            event.set()
            assert answer.result(60) is None
    assert warnings_of(caplog) == []
