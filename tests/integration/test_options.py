"""Options of tasks: where they come from, and what they do."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
from support import files_under, wait_until

from fsqueue import ConfigError, InvocationError, RetryError, State, TaskTimeoutError
from fsqueue.errors import InvocationExpiredError
from fsqueue.spool.format.names import Slot
from integration import sample_tasks
from integration.conftest import working

QUICK = {"retry_delay": 0.0, "retry_jitter": 0.0}


def lines(path):
    return len(path.read_text("utf-8").splitlines())


# -- where they come from -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["task", "direct_task"])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("colour", 1, "unknown task option colour; there are: max_attempts"),
        ("max_retries", -1, "max_retries = -1, expected a whole number >= 0"),
        ("max_retries", 1.5, "max_retries = 1.5, expected"),
        ("max_retries", True, "max_retries = True"),
        ("timeout", 0, "timeout = 0, expected a number > 0 and <= 3153600000 seconds"),
        ("timeout", float("inf"), "timeout = inf"),
        ("timeout", "3", "timeout = '3'"),
        ("priority", 10, "priority = 10, expected a whole number >= 0 and <= 9"),
        ("queue", "a/b", "queue = 'a/b', expected up to 64 letters"),
        ("queue", "", "queue = ''"),
        ("parallel_batch_size", 0, "parallel_batch_size = 0"),
        ("parallel_batch_size", "many", "parallel_batch_size = 'many', expected"),
        ("retry_for", 3, "retry_for = 3, expected exception classes"),
        ("retry_for", (int,), "retry_for = "),
    ],
)
def test_bad_options(app, kind, option, value, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        getattr(app, kind)(**{option: value})(sample_tasks.add)
    assert message in str(caught.value)
    with pytest.raises((TypeError, ValueError)):
        getattr(app, kind)(sample_tasks.echo).options(**{option: value})


def test_call_before_decorator_before_environment_before_file(make_app, tmp_path, monkeypatch):
    (tmp_path / "fsqueue.toml").write_text(
        "[task]\npriority = 1\nmax_retries = 1\ntimeout = 1\n"
        '[task."integration.sample_tasks.add"]\npriority = 2\nretry_for = ["LookupError"]\n'
    )
    monkeypatch.chdir(tmp_path)
    add = make_app().task(sample_tasks.add)
    assert (add.settings.priority, add.settings.max_retries, add.settings.timeout) == (2, 1, 1.0)
    assert add.settings.retry_for == ("builtins.LookupError",)
    assert make_app().task(sample_tasks.echo).settings.priority == 1

    monkeypatch.setenv("FSQUEUE__TASK__PRIORITY", "3")
    assert make_app().task(sample_tasks.echo).settings.priority == 3
    monkeypatch.setenv("FSQUEUE__TASK__INTEGRATION__SAMPLE_TASKS__ADD__PRIORITY", "4")
    add = make_app().task(sample_tasks.add)
    assert add.settings.priority == 4
    assert make_app().task(sample_tasks.echo).settings.priority == 3

    add = make_app().task(priority=5)(sample_tasks.add)
    assert add.settings.priority == 5
    assert add.options(priority=6).settings.priority == 6
    assert add.settings.priority == 5


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FSQUEUE__TASK__COLOUR", "1", "environment variable FSQUEUE__TASK__COLOUR: unknown task"),
        ("FSQUEUE__TASK__A__B__TIMEOUT", "soon", "FSQUEUE__TASK__A__B__TIMEOUT: timeout = 'soon'"),
    ],
)
def test_a_bad_option_of_the_environment_names_it(make_app, monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        make_app()


def test_a_bad_option_of_a_file_names_it(make_app, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[tool.fsqueue.task."a.b"]\ntimeout = "3"\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"pyproject.toml: timeout = '3', expected a number > 0"):
        make_app()


# -- retries --------------------------------------------------------------------------------


def test_a_failure_is_retried(worked, tmp_path):
    task = worked.task(retry_for=(ConnectionError,), **QUICK)(sample_tasks.fail_before)
    assert task(str(tmp_path / "ran"), 2).get(timeout=60) == 3


def test_a_subclass_of_it_too_and_nothing_else(worked, tmp_path):
    task = worked.direct_task(retry_for=OSError, **QUICK)(sample_tasks.fail_before)
    assert task(str(tmp_path / "a"), 1, ConnectionResetError) == 2
    with pytest.raises(LookupError, match="run 1") as caught:
        task(str(tmp_path / "b"), 1, LookupError)
    assert not hasattr(caught.value, "__notes__")


def test_the_last_failure_arrives_and_says_how_many_there_were(worked, tmp_path):
    task = worked.task(retry_for=ConnectionError, max_retries=2, **QUICK)(sample_tasks.fail_before)
    invocation = task(str(tmp_path / "ran"), 9)
    with pytest.raises(ConnectionError, match="run 3") as caught:
        invocation.get(timeout=60)
    assert caught.value.__notes__ == ["(the body failed in each of 3 attempts)"]
    assert invocation.status is State.FAILED
    assert lines(tmp_path / "ran") == 3


def test_retries_are_no_deaths(worked, tmp_path):
    task = worked.task(max_attempts=1, retry_for=ConnectionError, max_retries=5, **QUICK)(
        sample_tasks.fail_before
    )
    assert task(str(tmp_path / "ran"), 4).get(timeout=60) == 5


def test_a_body_asks_for_a_retry(worked, tmp_path):
    task = worked.task(sample_tasks.ask_for_retry)
    assert task(str(tmp_path / "a"), 2).get(timeout=60) == 3
    with pytest.raises(RetryError, match="run 4"):
        task(str(tmp_path / "b"), 9).get(timeout=60)
    with pytest.raises(RetryError, match="run 1"):
        task.options(max_retries=0)(str(tmp_path / "c"), 9).get(timeout=60)


def test_a_retry_waits_in_the_spool_while_no_worker_lives(app, clock, tmp_path):
    task = app.task(sample_tasks.ask_for_retry)
    with working(app):
        invocation = task(str(tmp_path / "ran"), 1, 600.0)
        wait_until((tmp_path / "ran").exists)
        wait_until(lambda: invocation.status is State.PENDING)
    clock.clock_offset += 700.0
    with working(app):
        assert invocation.get(timeout=60) == 2


def test_a_nested_call_is_retried_with_one_slot(make_app, tmp_path):
    app = make_app(concurrency=1)
    inner = app.direct_task(retry_for=ConnectionError, retry_delay=0.1)(sample_tasks.fail_before)
    sample_tasks.calls["inner"] = lambda times: inner(str(tmp_path / "ran"), times)
    outer = app.direct_task(sample_tasks.call_inner)
    with working(app):
        assert outer(2) == 3


# -- time -----------------------------------------------------------------------------------


def test_a_body_that_takes_too_long(worked, gate, caplog):
    event, name = gate()
    task = worked.direct_task(timeout=0.2)(sample_tasks.behind_gate)
    with pytest.raises(TaskTimeoutError, match=r"behind_gate ran longer than its timeout of 0.2 s"):
        task(name)
    wait_until(lambda: "its slot is lost" in caplog.text)
    event.set()
    # The same slot, with a limit that no busy machine exceeds.
    assert worked.direct_task(timeout=60)(sample_tasks.behind_gate)(name, 7) == 7


@pytest.mark.parametrize("body", [sample_tasks.count_run, sample_tasks.async_count_run])
@pytest.mark.parametrize("size", [1, 2])
def test_a_body_does_not_begin_after_its_time_is_over(app, gate, tmp_path, body, size):
    event, name = gate()
    path = tmp_path / "ran"
    argument = sample_tasks.ReadBehindGate(name, str(path))
    with working(app, app.make_runner(concurrency=1)):
        task = app.task(timeout=0.2, parallel_batch_size=size)(body)
        for call in task.parallelize([(argument,)] * size):
            with pytest.raises(TaskTimeoutError):
                call.get(timeout=60)
        event.set()
        assert app.task(sample_tasks.add)(1).get(timeout=60) == 2  # in the same slot
    assert not path.exists()


def test_a_timeout_can_be_retried(worked, gate):
    event, name = gate()
    task = worked.task(timeout=0.2, retry_for=TimeoutError, max_retries=99, **QUICK)(
        sample_tasks.behind_gate
    )
    invocation = task(name, 3)
    retried = re.compile(r"\.\d+r\d+$")  # the first retry, or one of those that follow soon
    wait_until(lambda: any(map(retried.search, files_under(worked.store.layout.root))))
    event.set()
    assert invocation.get(timeout=60) == 3


def test_what_was_not_started_in_time(app, clock):
    task = app.task(expires=60)(sample_tasks.add)
    late = task(1)
    clock.clock_offset += 61
    with working(app):
        with pytest.raises(InvocationExpiredError, match=late.id):
            late.get(timeout=60)
        assert task(1).get(timeout=60) == 2


def test_a_direct_call_waits_so_long_and_no_longer(app):
    task = app.direct_task(result_timeout=0.1)(sample_tasks.add)
    with pytest.raises(TimeoutError, match="no result yet"):
        task(1)
    fan_out = app.direct_task(
        parallel_func=lambda _: [(1,)], aggregate_func=sum, result_timeout=0.1
    )(sample_tasks.echo)
    with pytest.raises(TimeoutError):
        fan_out(0)


async def test_an_awaited_call_too(app):
    task = app.direct_task(result_timeout=0.1)(sample_tasks.async_add)
    with pytest.raises(TimeoutError):
        await task(1)
    assert asyncio.current_task().cancelling() == 0


def test_a_call_that_is_to_wait(clock, worked):
    task = worked.task(sample_tasks.add)
    later = task.options(countdown=1000)(1)
    for seconds in (0, 800):
        clock.clock_offset += seconds
        assert task(2).get(timeout=60) == 3
        assert later.status is State.PENDING
    clock.clock_offset += 400
    assert later.get(timeout=60) == 2


def test_a_call_that_is_to_wait_for_a_time_of_day(clock, worked):
    task = worked.task(sample_tasks.add)
    eta = datetime.now(UTC) + timedelta(seconds=1000)
    later, past = task.options(eta=eta)(1), task.options(eta="2020-01-01T00:00:00+01:00")(2)
    assert past.get(timeout=60) == 3
    assert later.status is State.PENDING
    clock.clock_offset += 1200
    assert later.get(timeout=60) == 2


def test_the_later_of_two_pauses_counts(app):
    client = app._session.client
    now = client.now()
    by_eta, by_countdown = client.ticket(4, 30, now + 10_000), client.ticket(4, 30, now)
    # Delays are rounded up by at most a 32nd.
    assert 10_000 <= Slot.parse(by_eta.slot).due - now <= 10_000 * 33 / 32
    assert 30 <= Slot.parse(by_countdown.slot).due - by_countdown.now <= 30 * 33 / 32


@pytest.mark.parametrize("eta", [datetime(2027, 1, 1), "soon", 5])  # noqa: DTZ001
def test_a_time_of_day_without_its_zone_is_refused(app, eta):
    with pytest.raises(ValueError, match=r"eta = .*, expected a time with its time zone"):
        app.task(eta=eta)(sample_tasks.add)


# -- which comes first ----------------------------------------------------------------------


def test_a_higher_priority_goes_first(make_app, tmp_path, gate):
    app = make_app(concurrency=1)
    order = tmp_path / "order"
    event, name = gate()
    event.set()
    task = app.task(sample_tasks.behind_gate)
    for priority in (0, 9, 5):
        task.options(priority=priority)(name, priority, str(order))
    last = task.options(priority=0)(name, 0, str(order))
    with working(app):
        last.get(timeout=60)
        wait_until(lambda: lines(order) == 4)
    assert order.read_text("utf-8").split() == ["9", "5", "0", "0"]


def test_queues_have_their_own_workers(app):
    task = app.task(queue="gpu")(sample_tasks.report)
    invocation = task()
    with working(app), working(app, app.make_runner(queues={"gpu": 1.0, "other": 1.0})):
        assert invocation.get(timeout=60)[2] == "gpu"
        assert task.options(queue="default")().get(timeout=60)[2] == "default"


def test_queues_one_after_another(make_app, tmp_path, gate):
    app = make_app()
    order = tmp_path / "order"
    event, name = gate()
    event.set()
    task = app.task(sample_tasks.behind_gate)
    made = [task.options(queue=queue)(name, queue, str(order)) for queue in ("low", "high", "low")]
    runner = app.make_runner(queues={"high": 1.0, "low": 1.0}, concurrency=1)
    with working(app, runner):
        for invocation in made:
            invocation.get(timeout=60)
    assert order.read_text("utf-8").split() == ["high", "low", "low"]


@pytest.mark.parametrize("queues", ["high", ["high", "low"], 5, {1: 1.0}])
def test_queues_without_weights_are_refused(make_app, queues):
    with pytest.raises(ConfigError, match="queues"):
        make_app().make_runner(queues=queues)


def test_queues_by_weight(make_app, tmp_path, gate):
    app = make_app()
    order = tmp_path / "order"
    event, name = gate()
    event.set()
    task = app.task(sample_tasks.behind_gate)
    groups = [
        task.options(queue=queue).parallelize([(name, queue, str(order))] * 60)
        for queue in ("much", "little")
    ]
    runner = app.make_runner(queues={"much": 50.0, "little": 1.0}, concurrency=1, weighted=True)
    with working(app, runner):
        for group in groups:
            group.get(timeout=60)
    first = order.read_text("utf-8").split()[:40]
    assert first.count("much") > 20  # 39 on average; fewer than 21 once in more than 10^20 runs


# -- context --------------------------------------------------------------------------------


def test_a_body_knows_its_invocation(worked):
    task = worked.task(timeout=60.0)(sample_tasks.report)
    invocation = task()
    called, name, queue, attempt, retries, remaining = invocation.get(timeout=60)
    assert (called, name) == (invocation.id, "integration.sample_tasks.report")
    assert (queue, attempt, retries) == ("default", 1, 0)
    assert 50 < remaining <= 60


def test_outside_of_a_body_there_is_none():
    from fsqueue import current_invocation

    assert current_invocation() is None


def test_an_error_of_the_queue_is_an_invocation_error():
    assert issubclass(TaskTimeoutError, InvocationError)
    assert issubclass(TaskTimeoutError, TimeoutError)
