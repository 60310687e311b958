"""Calls that somebody moves to another place of the spool before a worker claims them (P8).

The signature covers what is in a file and not where it lies: the header says where it belongs.
"""

from __future__ import annotations

import os
import time

import pytest
from support import files_under, wait_until

from fsqueue.errors import InvocationCorruptError
from fsqueue.spool.format.names import AttemptName, Slot, WaitingFolder
from integration import sample_tasks as sample
from integration.conftest import working

MOVED = "was moved: it was claimed from"


@pytest.fixture(params=["signed", "unsigned"])
def options(request, tmp_path):
    if request.param == "unsigned":
        return {}
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(b"this is the key of the spool")
    return {"signing_key_file": path}


@pytest.fixture
def app(make_app, options):
    return make_app(heartbeat=0.2, lease=1.0, **options)


def place_of(app, invocation):
    """Root, queue and slot of a pending call."""
    root = app.store.layout.root
    (found,) = [name for name in files_under(root) if name.endswith(f"/{invocation.id}.1")]
    _, queue, slot, name = found.split("/")
    return os.path.join(root, found), queue, slot, name


def move(app, invocation, queue=None, slot=None, name=None):
    path, old_queue, old_slot, old_name = place_of(app, invocation)
    target = f"{app.store.layout.slot(queue or old_queue, slot or old_slot)}/{name or old_name}"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.rename(path, target)


def refused(app, invocation, ran):
    """The caller is told, the file is in quarantine, and other calls go on."""
    with pytest.raises(InvocationCorruptError, match=MOVED):
        invocation.get(60)
    wait_until(lambda: os.path.exists(app.store.layout.quarantined(f"{invocation.id}.1")))
    assert not os.path.exists(ran)
    assert app.task(sample.echo)("after").get(60) == "after"


@pytest.fixture
def ran(tmp_path):
    return str(tmp_path / "ran")


def other_priority(slot, priority):
    return str(Slot.parse(slot)._replace(priority=priority))


def test_to_another_queue(app, make_app, options, ran):
    invocation = app.task(queue="other")(sample.count_run)(ran)
    move(app, invocation, queue="t.default")
    with working(app):
        refused(app, invocation, ran)


def test_to_the_queue_of_another_application(app, make_app, options, ran):
    other = make_app("u", **options)
    other.task(sample.count_run)
    invocation = app.task(sample.count_run)(ran)
    move(app, invocation, queue="u.default")
    with working(other):
        refused(other, invocation, ran)


@pytest.mark.parametrize("priority", [0, 9])
def test_to_another_priority(app, ran, priority):
    invocation = app.task(sample.count_run)(ran)
    slot = place_of(app, invocation)[2]
    move(app, invocation, slot=other_priority(slot, priority))
    with working(app):
        refused(app, invocation, ran)


@pytest.mark.parametrize(
    "kind",
    [
        {"registration_concurrency": "arguments"},
        {"call_result_cache": True},
        {"running_concurrency": "task"},
        {"retry_for": Exception, "max_retries": 3},
    ],
    ids=lambda kind: next(iter(kind)),
)
def test_a_call_of_any_kind_to_another_priority(app, ran, kind):
    invocation = app.task(**kind)(sample.count_run)(ran)
    slot = place_of(app, invocation)[2]
    move(app, invocation, slot=other_priority(slot, 9))
    with working(app):
        refused(app, invocation, ran)
        again = app.task(**kind)(sample.count_run)(ran)
        assert again.get(60) is not None, (
            "a call that was refused stands in the way of an equal one"
        )


def test_a_batch_to_another_priority(app, ran):
    """All its calls are told."""
    task = app.task(parallel_batch_size=10)(sample.count_run)
    calls = list(task.parallelize([(ran,)] * 3, {}))
    root = app.store.layout.root
    (found,) = (name for name in files_under(root) if name.startswith("pending/"))
    _, queue, slot, name = found.split("/")
    target = app.store.layout.slot(queue, other_priority(slot, 9))
    os.makedirs(target)
    os.rename(f"{root}/{found}", f"{target}/{name}")
    with working(app):
        for call in calls:
            with pytest.raises(InvocationCorruptError, match=MOVED):
                call.get(60)
    assert not os.path.exists(ran)


def test_to_another_priority_as_a_retry(app, ran):
    invocation = app.task(sample.count_run)(ran)
    slot = place_of(app, invocation)[2]
    move(app, invocation, slot=other_priority(slot, 9), name=f"{invocation.id}.2r1")
    with working(app), pytest.raises(InvocationCorruptError, match=MOVED):
        invocation.get(60)
    assert not os.path.exists(ran)


def test_to_an_earlier_time(app, ran):
    invocation = app.task(countdown=3600.0)(sample.count_run)(ran)
    slot = place_of(app, invocation)[2]
    move(app, invocation, slot=str(Slot.parse(slot)._replace(due=time.time() - 10)))
    with working(app):
        refused(app, invocation, ran)


def test_to_calls_without_its_resources(app, ran):
    invocation = app.task(resources="gpu=1")(sample.count_run)(ran)
    move(app, invocation, queue="t.default")
    with working(app):
        refused(app, invocation, ran)


def test_into_a_lane_from_where_it_would_come_back_elsewhere(app, ran):
    task = app.task(running_concurrency="task", queue="other")(sample.count_run)
    invocation = task(ran)
    path, _, slot, name = place_of(app, invocation)
    (lane,) = app.store.calls.read_header(path, AttemptName.parse(name)).lanes
    waiting = app.store.layout.in_lane(lane, str(WaitingFolder(slot, "t.default")))
    os.makedirs(waiting)
    os.rename(path, f"{waiting}/{name}")
    with working(app):
        refused(app, invocation, ran)


def test_a_body_that_waits_for_it_does_not_run_it(nested):
    """It finds the call by its id, wherever that is."""
    from fsqueue.spool.store.lookup import find_pending

    invocation = nested.leaf(3)
    move(nested.app, invocation, queue="nested.other")
    assert find_pending(nested.app.store, invocation.id)
    with working(nested.app):
        waiting = nested.wait_for(invocation.id)
        with pytest.raises(InvocationCorruptError, match=MOVED):
            waiting.get(60)


# -- moves of the protocol ------------------------------------------------------------------------


def test_a_retry_runs_in_its_later_slot(app, ran):
    task = app.task(retry_for=ConnectionError, retry_delay=0.01, priority=7)(sample.fail_before)
    with working(app):
        assert task(ran, 2).get(60) == 3


def test_a_call_that_waited_for_another_runs_after_its_countdown(app):
    with working(app):
        first = app.task(sample.echo)("first")
        later = app.task(countdown=0.01)(sample.echo)(first)
        assert later.get(60) == "first"


def test_a_call_that_waited_in_a_lane_runs(app, gate):
    opened, name = gate()
    task = app.task(running_concurrency="task", priority=2)(sample.behind_gate)
    with working(app):
        calls = [task(name, number) for number in range(3)]
        lanes = app.store.layout.lanes_folder
        wait_until(lambda: any("~" in path for path in files_under(lanes)))
        opened.set()
        assert [call.get(60) for call in calls] == [0, 1, 2]


def test_a_failed_call_that_an_operator_retries_runs(app, tmp_path):
    from fsqueue.spool.admin.controls import retry_failed, retryable

    with working(app):
        call = app.task(sample.fail_before)(str(tmp_path / "runs"), 1)
        with pytest.raises(ConnectionError):
            call.get(60)
        (failed,) = wait_until(lambda: list(retryable(app.store)))
        again = app.invocation(retry_failed(app.store, failed))
        assert again.get(60) == 2
