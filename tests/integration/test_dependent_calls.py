"""Calls whose arguments are results of others, with workers in threads of this process."""

from __future__ import annotations

import os

import pytest
from support import files_under, wait_until

from fsqueue import CancelledError, DependencyError, State
from fsqueue.errors import UnknownInvocationError
from fsqueue.spool.admin import controls
from fsqueue.spool.admin.listing import call_details, list_calls, pending_calls
from fsqueue.spool.format.names import retried_id
from fsqueue.spool.worker.expiry import expire
from integration import sample_tasks
from integration.conftest import working

WEEK = 7 * 86_400.0


def parked(app):
    return sorted(files_under(app.store.layout.after_folder))


@pytest.fixture
def add(app):
    return app.task(sample_tasks.add)


@pytest.fixture
def divide(app):
    return app.task(sample_tasks.divide)


# -- values --------------------------------------------------------------------------------------


def test_a_chain(app, add):
    last = add(1).then(add, 10).then(add, b=100)
    assert last.status is State.PENDING
    assert len(parked(app)) == 2

    with working(app):
        assert last.result == 112
    assert parked(app) == []
    assert os.listdir(app.store.layout.after_folder) == []


def test_a_chain_that_is_made_while_its_links_run(worked, add):
    for number in range(50):
        assert add(number).then(add).then(add).get(60) == number + 3
    assert parked(worked) == []


def test_a_diamond(worked, add):
    top = add(1)
    left, right = top.then(add, 10), top.then(add, 20)
    assert add(left, right).get(60) == 34


def test_what_waits_for_what_has_ended_is_pending_at_once(app, add):
    with working(app):
        first = add(1)
        assert first.result == 2
    second = first.then(add)
    assert parked(app) == []
    assert len(list(pending_calls(app.store))) == 1
    with working(app):
        assert second.result == 3


def test_references_wherever_they_are(worked, add):
    echo, opened = worked.task(sample_tasks.echo), worked.task(sample_tasks.opened)
    one, group = add(0), add.parallelize([(1,), (2,)])
    nested = {"list": [one, group], "tuple": (one, {"in": one}), "none": None}
    assert echo(nested).get(60) == {"list": [1, [2, 3]], "tuple": (1, {"in": 1}), "none": None}
    assert opened(sample_tasks.Box(group)).get(60) == [2, 3]
    assert echo(value=worked.invocation(group[1].id)).get(60) == 3


def test_a_group_with_a_finishing_task(worked, add):
    total = worked.task(sample_tasks.total)
    assert add.parallelize([(n, n) for n in range(20)]).then(total, 1000).get(60) == 1380
    assert add.parallelize([]).then(total).get(60) == 0


@pytest.mark.parametrize("size", [1, 3])
def test_a_group_of_batches(worked, add, size):
    group = add.options(parallel_batch_size=size).parallelize([(n, 0) for n in range(10)])
    assert worked.task(sample_tasks.total)(group).get(60) == 45
    assert group[7].then(add, 0).get(60) == 7


def test_a_fan_out_whose_items_wait_each_for_its_own(app, add):
    firsts = [add(n, 0) for n in range(4)]
    items = [(each,) for each in firsts] + [(n,) for n in (100, 200, 300)]
    group = add.options(parallel_batch_size=3).parallelize(items, {"b": firsts[0]})
    plain = add.options(parallel_batch_size=3).parallelize(items)
    files = {each.id.partition(":")[0] for each in plain}
    assert len(files) == 5, "those that wait for others do not share a file"
    with working(app):
        assert group.results == [0, 1, 2, 3, 100, 200, 300]
        assert plain.results == [1, 2, 3, 4, 101, 201, 301]


def test_a_direct_task_takes_invocations(worked, add):
    assert worked.direct_task(sample_tasks.scaled)(add(1), factor=add(2)) == 6


def test_equal_calls_that_wait_for_one_are_one(app, add):
    once = app.task(sample_tasks.scaled, registration_concurrency="arguments")
    first, second = add(1), add(1)
    assert first.then(once).id == first.then(once).id
    assert first.then(once).id != second.then(once).id
    taking_turns = app.task(sample_tasks.scaled, running_concurrency="arguments")
    turn = first.then(taking_turns)
    with working(app):
        assert first.then(once).get(60) == turn.get(60) == 20


def test_a_cached_result_as_an_argument(worked, add):
    scaled = worked.task(sample_tasks.scaled, call_result_cache=True)
    assert scaled(3).get(60) == 30
    wait_until(lambda: os.listdir(worked.store.layout.cache_folder))
    cached = scaled(3)
    os.unlink(worked.store.layout.kept(cached.id))
    assert add(cached, 1).get(60) == 31


def test_a_large_result_goes_on_as_it_is(worked):
    echo = worked.task(sample_tasks.echo)
    value = os.urandom(1 << 20)
    assert echo(value).then(echo).get(60) == value


def test_results_of_json_tasks(make_app):
    app = make_app(serializer="json")
    add, echo = app.task(sample_tasks.add), app.task(sample_tasks.echo)
    with working(app):
        group = add.parallelize([(1,), (2,)])
        assert echo({"all": group, "one": [group[0]]}).get(60) == {"all": [2, 3], "one": [2]}
        assert add.parallelize([(group[0],)], {"b": group[1]}).results == [5]
        with pytest.raises(DependencyError, match="ZeroDivisionError") as caught:
            app.task(sample_tasks.divide)(1, 0).then(add).get(60)
        assert caught.value.task == "integration.sample_tasks.divide"
        pickled = app.task(sample_tasks.scaled, serializer="pickle")(1)
        with pytest.raises(DependencyError, match="is a pickle"):
            pickled.then(add).get(60)


# -- failures ------------------------------------------------------------------------------------


def test_a_failure_fails_all_that_waits_for_it(worked, add, divide):
    bad = divide(1, 0)
    child, good = bad.then(add), add(1).then(add)
    grandchild = child.then(add)

    with pytest.raises(DependencyError) as caught:
        child.get(60)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert (caught.value.invocation, caught.value.task) == (bad.id, divide.name)
    assert f"{bad.id} of {divide.name}, which has failed with ZeroDiv" in str(caught.value)

    with pytest.raises(DependencyError, match="which was not run either") as caught:
        grandchild.get(60)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.invocation == bad.id
    assert grandchild.status is State.FAILED
    assert good.get(60) == 3


def test_a_failure_is_not_retried_for_its_children(worked, add, divide, tmp_path):
    count = worked.task(sample_tasks.count_run, retry_for=Exception, retry_delay=0)
    child = divide(1, 0).then(count)
    with pytest.raises(DependencyError) as caught:
        child.get(60)
    assert not getattr(caught.value, "__notes__", None)


def test_a_retried_child_has_its_arguments_again(worked, add, tmp_path):
    path = str(tmp_path / "runs")
    fails = worked.task(sample_tasks.fail_before, retry_for=ConnectionError, retry_delay=0)
    assert fails(path, add(1)).get(60) == 3


def test_one_failure_of_a_group_is_that_of_its_finishing_task(worked, add):
    odd = worked.task(sample_tasks.odd, parallel_batch_size=2)
    group = odd.parallelize([(0,), (2,), (3,), (4,)])
    with pytest.raises(DependencyError, match=f"{group[2].id} of .*LookupError: 3"):
        group.then(worked.task(sample_tasks.total)).get(60)
    assert group[3].then(add).get(60) == 5


def test_a_cancelled_parent(app, add):
    first = add(1)
    child = first.then(add)
    assert first.cancel()
    with working(app), pytest.raises(DependencyError) as caught:
        child.get(60)
    assert isinstance(caught.value.__cause__, CancelledError)


def test_a_parked_call_is_cancelled(app, add):
    first = add(1)
    child, others = first.then(add), add.parallelize([(first,), (first,)])
    grandchild = child.then(add)
    assert child.cancel()
    assert others.cancel() == 2
    assert child.status is State.CANCELLED
    with pytest.raises(CancelledError):
        child.get(60)
    with working(app):
        assert first.get(60) == 2
        with pytest.raises(DependencyError):
            grandchild.get(60)


def test_a_result_that_has_expired(app, add):
    with working(app):
        first = add(1)
        assert first.result == 2
    child = first.then(add)
    os.unlink(app.store.layout.kept(first.id))
    with working(app), pytest.raises(DependencyError) as caught:
        child.get(60)
    assert isinstance(caught.value.__cause__, UnknownInvocationError)


def test_what_cannot_be_waited_for(app, add, make_app, tmp_path):
    with pytest.raises(UnknownInvocationError):
        app.invocation("nobody-1").then(add)
    other = make_app(root=tmp_path / "other").task(sample_tasks.add)
    with pytest.raises(ValueError, match="belongs to the spool"):
        other(add(1))
    with pytest.raises(TypeError, match="cannot be called later"):
        add(1).then(app.direct_task(sample_tasks.scaled))
    with pytest.raises(TypeError, match="missing"):
        add(1).then(app.task(sample_tasks.divide))
    assert parked(app) == []


def test_an_invocation_is_no_result(worked, add):
    sample_tasks.calls["inner"] = add
    with pytest.raises(TypeError, match="send its id"):
        worked.task(sample_tasks.call_inner)(1).get(60)


# -- one slot ------------------------------------------------------------------------------------


def test_a_body_runs_what_its_chain_waits_for(make_app):
    app = make_app(concurrency=1)
    sample_tasks.calls.update(add=app.task(sample_tasks.add), total=app.task(sample_tasks.total))
    with working(app):
        assert app.task(sample_tasks.last_of_a_chain)(5).get(60) == 6
        assert app.task(sample_tasks.sum_of_leaves)(5).get(60) == 10


# -- time ----------------------------------------------------------------------------------------


def test_a_countdown_begins_with_the_end_of_what_is_waited_for(app, add):
    first = add(1)
    child = first.then(add.options(countdown=500))
    wait_until(lambda: parked(app))
    now = app.store.clock.now()
    with working(app):
        assert first.get(60) == 2
        (pending,) = wait_until(lambda: list(pending_calls(app.store)))
        assert 490 < pending.slot.due - now < 800  # the server's clock is read again meanwhile
        assert child.status is State.PENDING
        assert child.cancel()


def test_a_priority_and_a_queue_are_kept(app, add):
    child = add(1).then(add.options(queue="other", priority=7))
    with working(app):
        (pending,) = wait_until(lambda: list(pending_calls(app.store, ["t.other"])))
    assert (pending.queue, pending.slot.priority) == ("t.other", 7)
    assert child.cancel()


def test_results_stay_while_somebody_waits_for_them(app, add):
    with working(app):
        early = add(1)
        assert early.result == 2
    late = add(10)
    child = add(early, late)
    past = app.store.clock.now() - 0.6 * WEEK
    (path,) = parked(app)
    for old in (f"{app.store.layout.after_folder}/{path}", app.store.layout.kept(early.id)):
        os.utime(old, (past, past))

    expire(app.store, result_ttl=WEEK)

    assert app.store.clock.now() - os.stat(app.store.layout.kept(early.id)).st_mtime < WEEK / 2
    with working(app):
        assert child.get(60) == 13


@pytest.mark.parametrize("options", [{}, {"call_result_cache": True}], ids=["plain", "cached"])
def test_a_group_that_cannot_be_made_whole_leaves_nothing(app, add, options):
    with pytest.raises(UnknownInvocationError):
        add.options(**options).parallelize([(1,), (app.invocation("nobody-1"),)])
    assert list(pending_calls(app.store)) == []


def test_what_waits_for_what_is_nowhere_is_told(app, add):
    first = add(1)
    child = first.then(add)
    os.unlink(f"{app.store.layout.slot('t.default', pending_slot(app))}/{first.id}.1")
    expire(app.store, result_ttl=WEEK)
    with working(app), pytest.raises(DependencyError, match="knows no invocation"):
        child.get(60)


def pending_slot(app):
    (pending,) = pending_calls(app.store)
    return str(pending.slot)


# -- operators -----------------------------------------------------------------------------------


def test_what_operators_see(app, add):
    first = add(1)
    child = first.then(add)
    listed = {each.id: each for each in list_calls(app.store, State.PENDING)}
    assert (listed[first.id].waits_for, listed[child.id].waits_for) == ("", first.id)
    assert call_details(app.store, child.id).path.endswith(f"after/{first.id}/{child.id}.1")
    assert app.invocation(child.id).status is State.PENDING
    assert controls.purge(app.store, "t.default").cancelled == 2
    assert parked(app) == []
    assert child.status is State.CANCELLED


def test_a_failed_chain_is_run_again(app, add, tmp_path):
    with working(app):
        flaky = app.task(sample_tasks.fail_before)(str(tmp_path / "runs"), 1)
        child = flaky.then(add)
        with pytest.raises(DependencyError):
            child.get(60)
    failed = sorted(controls.retryable(app.store), key=lambda each: each.id)
    assert [controls.retry_failed(app.store, each) for each in failed] == [
        retried_id(flaky.id),
        retried_id(child.id),
    ]
    with working(app, app.make_runner(concurrency=2)):
        assert app.invocation(retried_id(flaky.id)).get(60) == 2
        assert app.invocation(retried_id(child.id)).get(60) == 3


# -- inline --------------------------------------------------------------------------------------


@pytest.fixture
def inline(monkeypatch, make_app):
    monkeypatch.setenv("FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS", "true")
    return make_app()


def test_inline(inline):
    add, total = inline.task(sample_tasks.add), inline.task(sample_tasks.total)
    assert add(1).then(add, 10).result == 12
    group = add.parallelize([(1,), (add(1),)])
    assert group.then(total, add(9)).result == 15
    assert inline.task(sample_tasks.echo)({"a": [group, (add(1),)]}).result == {"a": [[2, 3], (2,)]}
    assert inline.direct_task(sample_tasks.scaled)(add(1), factor=add(2)) == 6


def test_inline_failures(inline):
    add, divide = inline.task(sample_tasks.add), inline.task(sample_tasks.divide)
    bad = divide(1, 0)
    child = bad.then(add)
    assert child.status is State.FAILED
    with pytest.raises(DependencyError) as caught:
        child.then(add).get()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.invocation == bad.id
    with pytest.raises(DependencyError):
        inline.direct_task(sample_tasks.scaled)(bad)
