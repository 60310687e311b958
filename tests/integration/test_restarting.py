"""Stopping a runner and running it again, from any thread and in any order."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import WHOLE, wait_until

from fsqueue import State
from fsqueue.errors import ConfigError
from integration import sample_tasks as sample
from integration.conftest import working

ROUNDS = 50
# A round with slots of processes takes as long as many with threads.
OF_PROCESSES = ROUNDS if WHOLE else 10
# Each of so many rounds starts processes, or threads, and ends them again.
MANY_ROUNDS = pytest.mark.timeout(900)


@pytest.fixture(params=["thread", "process"])
def project(request, monkeypatch):
    """The module `nested_tasks`, whose runner has slots of each kind."""
    monkeypatch.setenv("FSQUEUE__RUNNER", request.param)
    module = request.getfixturevalue("nested")
    module.rounds = ROUNDS if request.param == "thread" else OF_PROCESSES
    return module


@pytest.fixture
def threads():
    """Threads to append to; all of them end with the test."""
    started = []
    yield started
    for thread in started:
        thread.join(60)
    assert [thread.name for thread in started if thread.is_alive()] == []


def started(threads, target):
    thread = threading.Thread(target=target, daemon=True)
    threads.append(thread)
    thread.start()
    return thread


@MANY_ROUNDS
def test_a_suite_that_never_joins(project, threads):
    app = project.app
    for number in range(project.rounds):
        started(threads, app.runner.run)
        assert project.fib(2) == 1, number
        app.runner.stop_runner_loop()


@MANY_ROUNDS
def test_a_suite_of_coroutines_that_never_joins(project, threads):
    app = project.app

    async def suite():
        for number in range(project.rounds):
            started(threads, app.runner.run)
            assert await project.async_fib(2) == 1, number
            app.runner.stop_runner_loop()

    asyncio.run(suite())


@MANY_ROUNDS
def test_a_suite_whose_runs_share_the_threads_of_a_pool(app):
    direct = app.direct_task(sample.add)

    def serve():
        app.runner.run()

    with ThreadPoolExecutor(4) as pool:
        for number in range(ROUNDS):
            pool.submit(serve)
            assert direct(number) == number + 1
            app.runner.stop_runner_loop()


def test_a_new_run_waits_until_the_bodies_of_the_old_one_have_finished(app, gate, threads):
    event, name = gate()
    task, direct = app.task(sample.behind_gate), app.direct_task(sample.add)
    first = started(threads, app.runner.run)
    held = task(name, "held")
    wait_until(lambda: held.status == "running")
    app.runner.stop_runner_loop()
    started(threads, app.runner.run)
    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(direct, 1)
        assert first.is_alive()
        assert held.status == "running"
        event.set()
        assert held.get(60) == "held"
        assert later.result(60) == 2
    app.runner.stop_runner_loop()


# -- stops and runs in any order --------------------------------------------------------------


def by_method(app):
    return app.runner.run


def by_function(app):
    def serve():
        app.runner.run()

    return serve


HOW = pytest.mark.parametrize("target", [by_method, by_function])


@HOW
def test_a_stop_with_nothing_running_stops_no_later_run(app, threads, target):
    direct = app.direct_task(sample.add)
    for number in range(20):
        app.runner.stop_runner_loop()
        started(threads, target(app))
        assert direct(number) == number + 1
        app.runner.stop_runner_loop()
        for _ in range(3):
            app.runner.stop_runner_loop()


@HOW
@MANY_ROUNDS
def test_a_stop_means_a_run_whose_thread_was_started_before(app, threads, target):
    for _ in range(200):
        thread = started(threads, target(app))
        app.runner.stop_runner_loop()
        thread.join(60)
        assert not thread.is_alive()


class Held:
    """A thread that begins its target when it is told to."""

    def __init__(self, threads, target):
        self.go = threading.Event()
        self.thread = started(threads, lambda: self.go.wait(60) and target())


def test_an_early_stop_means_a_run_that_a_thread_has_got_handed_over(app, threads):
    late = Held(threads, app.runner.run)
    app.runner.stop_runner_loop()
    late.go.set()
    late.thread.join(60)
    assert not late.thread.is_alive()


def test_an_early_stop_means_no_run_that_is_handed_over_later(app):
    direct = app.direct_task(sample.add)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(int, "1").result() == 1  # its thread is there
        app.runner.stop_runner_loop()
        running = pool.submit(app.runner.run)
        assert direct(1) == 2
        app.runner.stop_runner_loop()
        running.result(60)


@pytest.mark.concurrent
def test_threads_that_need_the_runner_or_the_triggers_first_get_the_same(make_app):
    ready = threading.Barrier(8)

    def look_up(app):
        ready.wait(60)
        return app.runner, app.triggers

    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            assert len(set(pool.map(look_up, [make_app()] * 8))) == 1


def test_an_early_stop_counts_once(app, threads):
    direct = app.direct_task(sample.add)
    go, again = threading.Event(), threading.Event()

    def serve():
        go.wait(60)
        app.runner.run()
        again.set()
        app.runner.run()

    started(threads, serve)
    app.runner.stop_runner_loop()
    go.set()
    assert again.wait(60)
    assert direct(1) == 2
    app.runner.stop_runner_loop()


def test_in_one_thread_a_run_comes_after_the_stop_before_it(app, threads):
    direct = app.direct_task(sample.add)
    answers = []

    def serve():
        app.runner.stop_runner_loop()
        app.runner.run()

    def call():
        answers.append(direct(1))
        app.runner.stop_runner_loop()

    started(threads, serve)
    caller = started(threads, call)
    caller.join(60)
    assert answers == [2]


def test_a_stop_also_means_a_run_that_waits_for_the_one_before(app, gate, threads):
    event, name = gate()
    task = app.task(sample.behind_gate)
    started(threads, app.runner.run)
    held = task(name, "held")
    wait_until(lambda: held.status == "running")
    app.runner.stop_runner_loop()
    second = started(threads, app.runner.run)
    app.runner.stop_runner_loop()
    second.join(60)
    assert not second.is_alive(), "it need not wait any more"
    event.set()
    assert held.get(60) == "held"


def test_stops_from_many_threads_at_once(app, threads):
    direct = app.direct_task(sample.add)
    for number in range(10):
        run = started(threads, app.runner.run)
        assert direct(number) == number + 1
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: app.runner.stop_runner_loop(), range(8)))
        run.join(60)
        assert not run.is_alive()


def test_a_body_stops_its_own_runner(nested, threads):
    run = started(threads, nested.app.runner.run)
    assert nested.stop_its_runner().get(60) == "stopped"
    run.join(60)
    assert not run.is_alive()


def test_a_body_cannot_run_the_runner_that_waits_for_it(nested):
    with working(nested.app), pytest.raises(RuntimeError, match="a body cannot wait"):
        nested.run_its_runner_again().get(60)


def test_a_run_that_fails_leaves_the_runner_usable(make_app):
    app = make_app(runner="process")  # which no other process can import
    for _ in range(3):
        with pytest.raises(ConfigError, match="a variable of a module"):
            app.runner.run()
    app.runner.stop_runner_loop()
    with pytest.raises(ConfigError, match="a variable of a module"):
        app.runner.run()


def test_runners_of_one_application_are_stopped_one_by_one(app, threads):
    direct = app.direct_task(sample.add)
    runners = [app.make_runner(), app.make_runner()]
    runs = [started(threads, runner.run) for runner in runners]
    assert direct(1) == 2
    runners[0].stop_runner_loop()
    runs[0].join(60)
    assert not runs[0].is_alive()
    assert direct(2) == 3
    assert runs[1].is_alive()
    runners[1].stop_runner_loop()


# -- leaving by itself ------------------------------------------------------------------------


def test_a_run_ends_by_itself_and_the_next_one_begins_anew(app):
    task = app.task(sample.add)
    runner = app.make_runner(until_empty=True, idle_timeout="1h", max_tasks=2)
    calls = [task(number) for number in range(3)]
    runner.run()
    assert runner.reason == "max-tasks"
    assert sum(call.status is State.SUCCEEDED for call in calls) == 2
    runner.run()
    assert runner.reason == "until-empty"
    assert [call.result for call in calls] == [1, 2, 3]


def test_a_run_until_empty_finds_what_no_event_has_named_yet(app, threads):
    runner = app.make_runner(until_empty=True, concurrency=1)
    last, calls = app.task(sample.add), []
    ended = threading.Event()

    def keep_awake(loop):  # a worker that has slept lists its queues in any case
        while not ended.wait(0.0005):
            loop._wake.set()

    def make_the_last_call(value):
        loop = runner._runs[0].loop
        (arrivals,) = loop._backlog._arrivals
        calls.append(last(value))
        # Or the call is in a slot of another second, after which the worker lists in any case.
        wait_until(
            lambda: arrivals.take() or arrivals.missed, what="the event, of which nobody hears now"
        )
        started(threads, lambda: keep_awake(loop))
        return value

    sample.calls["inner"] = make_the_last_call
    first = app.task(sample.call_inner)(1)
    runner.run()
    ended.set()
    assert runner.reason == "until-empty"
    assert calls[0].status is State.SUCCEEDED
    assert [first.result, calls[0].result] == [1, 2]


def test_a_stopped_run_was_drained(app):
    runner = app.make_runner()
    thread = threading.Thread(target=runner.run)
    thread.start()
    runner.stop_runner_loop()
    thread.join(60)
    assert runner.reason in {"", "drained"}, "it may have been stopped before it began"


@pytest.mark.parametrize(
    "bad",
    [
        {"time_limit": "soon"},
        {"idle_timeout": 0},
        {"max_tasks": 0},
        {"gpus": "0,0"},
        {"concurrency": "all"},
        {"resources": {"mem": "lots"}},
    ],
    ids=str,
)
def test_bad_terms_are_refused_when_the_runner_is_made(app, bad):
    with pytest.raises(ConfigError):
        app.make_runner(**bad)
