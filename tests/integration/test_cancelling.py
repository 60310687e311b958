from __future__ import annotations

import concurrent.futures
import os

import pytest
from support import wait_until

from fsqueue import CancelledError, State
from fsqueue.errors import UnknownInvocationError
from integration import sample_tasks
from integration.conftest import working


def test_a_pending_call_never_starts(app, tmp_path, gate):
    event, name = gate()
    event.set()
    task = app.task(sample_tasks.behind_gate)
    invocation = task(name, "ran", str(tmp_path / "ran"))
    assert invocation.cancel() is True
    assert invocation.status is State.CANCELLED
    assert invocation.done()
    with pytest.raises(CancelledError, match=f"invocation {invocation.id} was cancelled"):
        invocation.get(timeout=60)
    assert invocation.cancel() is False
    with working(app):
        assert task(name, 1).get(timeout=60) == 1
    assert not (tmp_path / "ran").exists()
    assert not any(files for _, _, files in os.walk(app.store.layout.pending_folder))


def test_it_is_the_cancelled_error_of_futures(app):
    invocation = app.task(sample_tasks.add)(1)
    invocation.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        invocation.get(timeout=60)


def test_a_running_body_in_a_thread_can_ask(worked, gate):
    event, name = gate()
    invocation = worked.task(sample_tasks.until_cancelled)(name)
    wait_until(lambda: invocation.status is State.RUNNING)
    assert invocation.cancel() is True
    with pytest.raises(CancelledError):
        invocation.get(timeout=60)
    assert event.wait(60)
    assert worked.task(sample_tasks.add)(1).get(timeout=60) == 2


def test_what_has_ended_is_not_cancelled(worked):
    invocation = worked.task(sample_tasks.add)(1)
    assert invocation.get(timeout=60) == 2
    assert invocation.cancel() is False
    assert invocation.status is State.SUCCEEDED
    assert worked.invocation(invocation.id).cancel() is False


def test_from_another_process_only_the_id_is_known(app, make_app):
    invocation = app.task(sample_tasks.add)(1)
    other = make_app().invocation(invocation.id)
    assert other.cancel() is True
    with pytest.raises(CancelledError):
        invocation.get(timeout=60)
    with pytest.raises(UnknownInvocationError):
        make_app().invocation("nobody-1").cancel()


def test_a_group(app):
    group = app.task(sample_tasks.add).parallelize([(n,) for n in range(5)])
    assert group.cancel() == 5
    assert {invocation.status for invocation in group} == {State.CANCELLED}
    with pytest.raises(CancelledError) as caught:
        group.get(timeout=60)
    assert "item 0" in caught.value.__notes__[0]


def test_a_batch_is_cancelled_as_one(app):
    group = app.task(parallel_batch_size=5)(sample_tasks.add).parallelize([(n,) for n in range(10)])
    assert group[7].cancel() is True
    assert [invocation.status for invocation in group] == [State.PENDING] * 5 + [
        State.CANCELLED
    ] * 5
    assert group[5].cancel() is False
    group.cancel()
