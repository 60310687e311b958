"""Calls that take turns: so many at a time, whoever runs them."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

import pytest
from support import files_under, wait_until

from fsqueue import CancelledError, Invocation, State
from fsqueue.errors import InvocationExpiredError
from fsqueue.spool.admin import controls, listing
from fsqueue.spool.admin.census import take_snapshot
from fsqueue.spool.admin.glance import Looks
from fsqueue.spool.admin.reasons import why
from integration import sample_tasks
from integration.conftest import working
from integration.sample_tasks import crowds

pytestmark = pytest.mark.concurrent

QUICK = {"poll_interval": 0.1, "heartbeat": 0.2}


@pytest.fixture
def crowd(request):
    """A name; nobody has been in that crowd."""
    yield request.node.name
    crowds.pop(request.node.name, None)


@contextlib.contextmanager
def several(app, count=3, slots=3):
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(working(app, app.make_runner(concurrency=slots)))
        yield


def lanes(app):
    return os.listdir(app.store.layout.lanes_folder)


def waiting(app):
    return list(files_under(app.store.layout.lanes_folder))


# -- how many at a time -----------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_than_the_limit_of_a_fan_out_run_at_a_time(make_app, crowd, limit):
    app = make_app(**QUICK)
    task = app.task(running_concurrency="task", running_limit=limit)(sample_tasks.enter)
    with several(app):
        group = task.parallelize([(crowd, n) for n in range(200)])
        assert group.get(timeout=60) == list(range(200))
        assert crowds[crowd].entries == 200
        assert crowds[crowd].most <= limit
        wait_until(lambda: lanes(app) == [], what="lanes are removed when nobody uses them")


def test_equal_keys_run_one_at_a_time_and_others_at_once(worked, gate, crowd):
    (first, first_name), (second, second_name) = gate(), gate()
    task = worked.task(running_concurrency="arguments")(sample_tasks.enter_behind_gate)
    calls = [task(crowd, name) for name in (first_name, first_name, second_name)]
    wait_until(lambda: crowds[crowd].entries == 2)
    wait_until(lambda: waiting(worked))
    assert sorted(each.status for each in calls[:2]) == [State.PENDING, State.RUNNING]
    assert calls[2].status is State.RUNNING
    first.set()
    second.set()
    assert [each.get(timeout=60) for each in calls] == [first_name, first_name, second_name]
    assert crowds[crowd].most == 2


def test_keys_are_compared_with_defaults_and_by_name(app):
    task = app.task(running_concurrency="keys", key_arguments=("b",))(sample_tasks.add)
    calls = [task(1), task(2, 1), task(b=1, a=3), task(1, 2), task(1, 1.0)]
    found = [listing.call_details(app.store, each.id).call.lanes for each in calls]
    assert len({found[0], found[1], found[2]}) == 1
    assert len(set(found)) == 3
    other = task.options(running_limit=2)(1)
    assert listing.call_details(app.store, other.id).call.lanes not in found
    for each in (*calls, other):
        each.cancel()


def test_common_arguments_of_a_fan_out_are_keys_too(app):
    task = app.task(running_concurrency="keys", key_arguments="b", parallel_batch_size=5)(
        sample_tasks.add
    )
    group = task.parallelize([(n,) for n in range(4)], common_args={"b": 3})
    found = {listing.call_details(app.store, each.id).call.lanes for each in (*group, task(0, 3))}
    assert len(found) == 1
    assert not any(":" in each.id for each in group), "calls with keys share no file"
    controls.purge(app.store, "t.default")


def test_the_calls_of_a_batch_run_one_after_another_with_one_permit(make_app, crowd):
    app = make_app(**QUICK)
    task = app.task(running_concurrency="task", parallel_batch_size=4)(sample_tasks.enter)
    with several(app):
        group = task.parallelize([(crowd, n) for n in range(20)])
        assert group.get(timeout=60) == list(range(20))
    assert crowds[crowd].most == 1


def test_other_calls_run_while_some_wait_for_a_permit(worked, gate, crowd):
    opened, name = gate()
    task = worked.task(running_concurrency="task")(sample_tasks.enter_behind_gate)
    blocked = task.parallelize([(crowd, name)] * 20)
    assert worked.task(sample_tasks.add)(1, 2).get(timeout=60) == 3
    wait_until(lambda: len(waiting(worked)) == 19)
    opened.set()
    assert blocked.get(timeout=60) == [name] * 20
    assert crowds[crowd].most == 1


def test_a_call_that_is_to_be_retried_releases_its_permit(make_app, crowd):
    app = make_app(**QUICK)
    task = app.task(running_concurrency="task")(sample_tasks.enter_and_fail_once)
    with several(app):
        assert task.parallelize([(crowd,)] * 5).get(timeout=60) == [crowd] * 5
    assert (crowds[crowd].entries, crowds[crowd].most) == (10, 1)


def test_waiting_calls_run_in_the_order_of_service(app, gate, crowd):
    opened, name = gate()
    task = app.task(running_concurrency="task")(sample_tasks.enter_behind_gate)
    order = []
    with working(app, app.make_runner(concurrency=6)):
        first = task(crowd, name)
        wait_until(lambda: crowds[crowd].entries == 1)
        later = [task(crowd, name) for _ in range(3)]
        urgent = task.options(priority=9)(crowd, name)
        wait_until(lambda: len(waiting(app)) == 4)
        opened.set()
        group = {each.id: each for each in (first, *later, urgent)}
        for each in group.values():
            each.get(timeout=60)
        order.extend((listing.outcome_of(app.store, each).started, each) for each in group)
    assert [each for _, each in sorted(order)] == [each.id for each in (first, urgent, *later)]


def test_a_call_of_two_lanes_takes_both_permits_or_none(worked, gate, crowd):
    (first, first_name), (second, second_name) = gate(), gate()
    task = worked.task(sample_tasks.enter_behind_gate)
    lane, other = "0123456789-1", "9876543210-1"

    def call(name, *lanes):
        payload = task._publisher.encode((crowd, name), {})
        return Invocation(task._publisher.publish([payload], keep=True, lanes=lanes, made=[]))

    holders = [call(first_name, lane), call(second_name, other)]
    wait_until(lambda: crowds[crowd].entries == 2)
    second_name_too = call(second_name, lane, other)
    wait_until(lambda: waiting(worked))
    first.set()
    wait_until(lambda: any(path.startswith(other) for path in waiting(worked)))
    assert call(first_name, lane).get(timeout=60) == first_name
    second.set()
    for each in (*holders, second_name_too):
        each.get(timeout=60)
    wait_until(lambda: lanes(worked) == [])


# -- what is seen of those who wait -------------------------------------------------------------


@pytest.fixture
def blocked(worked, gate, crowd):
    """An app, an opened gate and two calls: one runs, the other one waits for its turn."""
    opened, name = gate()
    task = worked.task(running_concurrency="task")(sample_tasks.enter_behind_gate)
    first = task(crowd, name)
    wait_until(lambda: crowds[crowd].entries == 1)
    second = task(crowd, name)
    wait_until(lambda: waiting(worked))
    return worked, opened, first, second


def test_a_waiting_call_is_pending_for_every_reader(blocked, make_app):
    app, opened, _first, second = blocked
    other = make_app()
    assert other.invocation(second.id).status is State.PENDING
    assert second.status is State.PENDING
    (queue,) = take_snapshot(app.store, heartbeat=1.0).queues
    assert (queue.due, queue.waiting) == (0, 1)
    found = listing.call_details(app.store, second.id)
    assert found.state is State.PENDING
    assert found.path.startswith(app.store.layout.lane(found.call.lanes[0]))
    looks = Looks(app.store, heartbeat=1.0, result_ttl=1e6)
    (reason,) = [
        each for each in why(app.store, found.call.id, looks.take()) if each.code == "limit"
    ]
    assert f"limit of {found.call.task}: at most 1 at a time" in reason.text
    assert second.id in {each.id for each in listing.list_calls(app.store, State.PENDING)}
    opened.set()
    second.get(timeout=60)


def test_a_waiting_call_can_be_cancelled(blocked):
    app, opened, first, second = blocked
    assert second.cancel()
    with pytest.raises(CancelledError):
        second.get(timeout=60)
    assert waiting(app) == []
    opened.set()
    first.get(timeout=60)
    wait_until(lambda: lanes(app) == [])


def test_a_waiting_call_is_purged_with_its_queue(blocked):
    app, opened, _, second = blocked
    assert controls.purge(app.store, "t.default").cancelled == 1
    assert second.status is State.CANCELLED
    opened.set()


def test_a_direct_call_that_is_given_up_waits_no_longer(blocked, crowd):
    app, opened, _first, second = blocked
    task = app.task(running_concurrency="task")(sample_tasks.enter_behind_gate)
    given_up = task.submit((crowd, "no gate"), {}, keep=False)
    wait_until(lambda: len(waiting(app)) == 2)  # not only claimed: then it could not be withdrawn
    given_up.abandon()
    assert len(waiting(app)) == 1
    opened.set()
    second.get(timeout=60)


def test_a_call_that_has_waited_too_long_ends_and_the_next_one_runs(clock, blocked, crowd, gate):
    app, opened, _first, second = blocked
    _, name = gate()
    late = app.task(running_concurrency="task")(sample_tasks.enter_behind_gate)
    expiring = late.options(expires=60, priority=9)(crowd, name)
    wait_until(lambda: len(waiting(app)) == 2)
    clock.clock_offset += 61
    opened.set()
    with pytest.raises(InvocationExpiredError):
        expiring.get(timeout=60)
    second.get(timeout=60)
    wait_until(lambda: lanes(app) == [])


# -- bodies that wait for calls of their own lane -----------------------------------------------


@pytest.fixture
def turns(spool, monkeypatch):
    monkeypatch.setenv("FSQUEUE__ROOT", spool)
    name = "integration.turn_tasks"
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    yield module
    module.app.close()
    sys.modules.pop(name, None)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_body_that_waits_for_its_own_lane_lends_its_permit(turns, workers):
    with several(turns.app, workers, 2):
        assert turns.countdown(6).get(timeout=60) == 6
        assert turns.async_countdown(6).get(timeout=60) == 6
        assert turns.between(3).get(timeout=60) == 3


def test_a_permit_is_lent_through_a_call_that_another_worker_runs(turns):
    runners = [turns.app.make_runner(concurrency=1), turns.app.make_runner(queues={"other": 1.0})]
    with working(turns.app, runners[0]), working(turns.app, runners[1]):
        assert turns.keyed("k", 3).get(timeout=60) == 3


def test_a_permit_is_lent_afar_to_a_call_that_another_process_has_made(turns, gate):
    opened, name = gate()
    runners = [turns.app.make_runner(concurrency=2), turns.app.make_runner(queues={"other": 1.0})]
    with working(turns.app, runners[0]), working(turns.app, runners[1]):
        root = turns.shared("root", name)
        wait_until(lambda: root.reported)
        leaf = turns.shared("leaf")
        wait_until(lambda: waiting(turns.app))
        opened.set()
        assert root.get(timeout=60) == leaf.id


def test_a_permit_is_lent_to_one_call_at_a_time(turns):
    crowds.pop("gathered", None)
    with several(turns.app, 2, 3):
        assert turns.gathers("root").get(timeout=60) == 4
    assert crowds["gathered"].most == 1


def test_a_chain_of_calls_does_not_carry_the_permits_of_all_before(turns):
    with working(turns.app):
        following, within = turns.chain(40).get(timeout=60)
        while following is not None:
            following, within = turns.app.invocation(following).get(timeout=60)
            assert len(within) <= 16


# -- options --------------------------------------------------------------------------------


def test_options_are_checked_at_decoration(app):
    with pytest.raises(ValueError, match="key_arguments names c, and the function has no such"):
        app.task(running_concurrency="keys", key_arguments=("c",))(sample_tasks.add)
    with pytest.raises(ValueError, match='"keys" needs key_arguments'):
        app.task(running_concurrency="keys")(sample_tasks.add)
    with pytest.raises(ValueError, match="running_limit = 0, expected a whole number >= 1"):
        app.task(running_limit=0)(sample_tasks.add)
    with pytest.raises(ValueError, match="running_concurrency = 'some'"):
        app.task(running_concurrency="some")(sample_tasks.add)
    with pytest.raises(ValueError, match="key_arguments = 3"):
        app.task(key_arguments=3)(sample_tasks.add)


def test_without_the_option_a_call_has_no_lane(app):
    invocation = app.task(running_limit=3)(sample_tasks.add)(1)
    call = listing.call_details(app.store, invocation.id).call
    assert call.lanes == ()
    assert call.within == {}
    invocation.cancel()


def test_nothing_is_limited_in_sync_mode(make_app, crowd, spool):
    app = make_app(dev_mode_force_sync_tasks=True)
    task = app.task(running_concurrency="task")(sample_tasks.enter)
    assert task.parallelize([(crowd, n) for n in range(3)]).results == [0, 1, 2]
    assert not os.path.exists(f"{spool}/lanes")
