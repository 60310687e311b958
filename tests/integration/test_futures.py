"""Futures of invocations, and waiting for invocations and futures together."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import pickle
import threading
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, ThreadPoolExecutor

import pytest
from support import PATIENCE, wait_until

import fsqueue
from fsqueue import SerializationError, State
from fsqueue.errors import CancelledError, DeserializationError, UnknownInvocationError
from fsqueue.results.resolver import Resolver
from fsqueue.spool.store.open_spool import open_store
from fsqueue.testing import FaultyFilesystem
from integration import sample_tasks as sample
from integration.conftest import working


def resolvers():
    return [each for each in threading.enumerate() if each.name == "fsqueue-resolver"]


@pytest.fixture(autouse=True)
def no_thread_is_left(make_app):
    """The thread ends before the app does, so that it has collected what was cancelled."""
    yield
    wait_until(lambda: not resolvers(), what="the resolver's thread has ended")


# -- futures ----------------------------------------------------------------------------------


def test_a_future_has_the_result(worked):
    future = worked.task(sample.add)(2).future()
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(PATIENCE) == 3
    assert future.done()
    assert not future.running()
    assert not future.cancel()


def test_a_future_has_the_exception(worked):
    future = worked.task(sample.divide)(1, 0).future()
    assert isinstance(future.exception(PATIENCE), ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        future.result()


def test_an_invocation_has_one_future(worked):
    invocation = worked.task(sample.add)(2)
    assert invocation.future() is invocation.future()
    assert invocation.future().result(PATIENCE) == 3
    assert invocation.result == 3


def test_futures_of_a_batch_and_of_other_handles(worked):
    group = worked.task(sample.add, parallel_batch_size=3).parallelize([(n,) for n in range(7)])
    futures = [each.future() for each in group]
    again = [worked.invocation(each.id).future() for each in group]
    assert [each.result(PATIENCE) for each in futures] == list(range(1, 8))
    assert [each.result(PATIENCE) for each in again] == list(range(1, 8))


def test_a_future_of_an_unknown_call(app):
    known = app.task(sample.add)(1)
    assert known.cancel()
    invocation = app.invocation(known.id[:-1] + ("0" if known.id[-1] != "0" else "1"))
    assert isinstance(invocation.future().exception(PATIENCE), UnknownInvocationError)


@pytest.mark.concurrent
def test_hundreds_of_futures_have_one_thread(worked):
    calls = [worked.task(sample.add)(n) for n in range(200)]
    futures = [each.future() for each in calls]
    assert len(resolvers()) <= 1
    assert [each.result(PATIENCE) for each in futures] == list(range(1, 201))


def test_a_pending_call_is_cancelled_by_its_future(app):
    invocation = app.task(sample.add)(2)
    future = invocation.future()
    assert not future.running()
    assert future.cancel()
    assert future.cancel()
    assert invocation.status is State.CANCELLED
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(0)
    assert fsqueue.wait([future], PATIENCE).done == {future}


def test_a_call_that_is_cancelled_elsewhere_cancels_its_future(app):
    invocation = app.task(sample.add)(2)
    future = invocation.future()
    assert app.invocation(invocation.id).cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(PATIENCE)
    wait_until(future.cancelled)


def test_a_running_call_is_not_cancelled_by_its_future(worked, gate):
    opened, name = gate()
    future = worked.task(sample.behind_gate)(name).future()
    wait_until(future.running)
    assert not future.cancel()
    opened.set()
    future.result(PATIENCE)


def test_futures_of_a_closed_app_end(make_app):
    app = make_app()
    future = app.task(sample.add)(2).future()
    wait_until(lambda: app._session.client.waiter._waiting, what="it waits")
    app.close()
    assert isinstance(future.exception(PATIENCE), RuntimeError)


def test_a_future_of_a_call_that_ran_inline(make_app):
    app = make_app(dev_mode_force_sync_tasks=True)
    assert app.task(sample.add)(2).future().result() == 3
    assert isinstance(app.task(sample.divide)(1, 0).future().exception(), ZeroDivisionError)


async def test_a_future_in_an_event_loop(worked):
    future = asyncio.wrap_future(worked.task(sample.add)(2).future())
    assert await future == 3


@pytest.mark.concurrent
def test_a_callback_of_a_cancelled_future_may_wait_for_another(app):
    first, second = (app.task(sample.add)(n).future() for n in (1, 2))
    found = []

    def wait_for_second(_):
        with working(app):
            found.append(second.result(PATIENCE))

    first.add_done_callback(wait_for_second)
    assert first.cancel()
    assert found == [3]


@pytest.mark.concurrent
def test_callbacks_of_two_futures_may_cancel_each_other(app):
    futures = [app.task(sample.add)(n).future() for n in (1, 2)]
    both = threading.Barrier(2)
    for future, other in zip(futures, reversed(futures), strict=True):
        future.add_done_callback(lambda _, other=other: (both.wait(PATIENCE), other.cancel()))
    threads = [threading.Thread(target=each.cancel, daemon=True) for each in futures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert all(future.cancelled() for future in futures)
    assert concurrent.futures.wait(futures, PATIENCE).done == set(futures)


class Leaving(FaultyFilesystem):
    """Its process leaves the spool in the middle of a collection."""

    leave = None

    def link(self, source, target):
        if self.leave is not None and "/kept/" in target:
            leave, self.leave = self.leave, None
            leave()
        return super().link(source, target)


def test_a_client_that_leaves_during_a_collection_leaves_no_empty_mailbox(make_app):
    app, fs = make_app(), Leaving()
    app._session._store = open_store(app.conf.root, fs)
    invocation = app.task(sample.add)(2)
    assert invocation.cancel()
    mailbox = app.store.layout.mailbox(app._session.client.name)
    assert os.listdir(mailbox) == [invocation.id]
    fs.leave = app.close
    with pytest.raises(CancelledError):
        _ = invocation.result
    assert fs.leave is None
    assert not os.path.lexists(mailbox)


def test_a_resolver_of_its_own_ends_with_close(worked):
    found, steps = [], []
    resolver = Resolver(lambda: steps.append("ended"))
    invocation = worked.task(sample.add)(2)
    resolver.add(invocation.pending_result, lambda *outcome: found.append(outcome))
    wait_until(lambda: found)
    assert resolvers()
    assert not steps
    resolver.close()
    resolver.join()
    assert not resolvers()
    assert steps == ["ended"]
    assert found[0][1] is None


# -- wait and as_completed --------------------------------------------------------------------


def test_wait_for_invocations_and_futures(worked):
    task = worked.task(sample.add)
    with ThreadPoolExecutor(1) as pool:
        calls = [task(1), task(2).future(), pool.submit(sample.add, 3), *task.parallelize([(4,)])]
        done, not_done = fsqueue.wait(calls, PATIENCE)
    assert done == set(calls)
    assert not_done == set()
    assert [fsqueue.State.SUCCEEDED, calls[1].result()] == [calls[0].status, 3]


def test_wait_for_the_first(worked, gate):
    opened, name = gate()
    slow, quick = worked.task(sample.behind_gate)(name), worked.task(sample.divide)
    # The worker has more than one slot.
    done, not_done = fsqueue.wait([slow, quick(1, 1)], PATIENCE, FIRST_COMPLETED)
    assert (len(done), not_done) == (1, {slow})
    done, not_done = fsqueue.wait([slow, quick(1, 0)], PATIENCE, FIRST_EXCEPTION)
    assert (len(done), not_done) == (1, {slow})
    assert fsqueue.wait([slow], 0).not_done == {slow}
    opened.set()


def test_as_completed_yields_what_it_was_given(worked, gate):
    opened, name = gate()
    slow, quick = worked.task(sample.behind_gate)(name), worked.task(sample.add)(1)
    found = fsqueue.as_completed([slow, quick, quick, quick.future()])
    assert {next(found), next(found)} == {quick, quick.future()}
    opened.set()
    assert list(found) == [slow]


def test_as_completed_in_time(app):
    call = app.task(sample.add)(1)
    with pytest.raises(TimeoutError):
        list(fsqueue.as_completed([call], 0.01))
    call.cancel()


# -- in bodies: P9 ------------------------------------------------------------------------------


@pytest.mark.concurrent
@pytest.mark.parametrize(
    "way", ["result", "exception", "wait", "as_completed", "std_wait", "callback", "loop", "thread"]
)
@pytest.mark.parametrize(
    "runner", ["thread", pytest.param("process", marks=pytest.mark.leaves_strays)]
)
def test_a_body_waits_for_futures_with_one_slot(nested, runner, way):
    if runner == "process":
        with nested.app.workers(1, runner="process", concurrency=1):
            assert nested.tree_of_futures(way, 3).get(PATIENCE) == 8
    else:
        with working(nested.app):
            assert nested.tree_of_futures(way, 3).get(PATIENCE) == 8


@pytest.mark.concurrent
def test_a_body_that_forgets_its_futures_ends(nested):
    with working(nested.app):
        assert nested.forget_a_future().get(PATIENCE) == "forgotten"


# -- errors of serialization --------------------------------------------------------------------


def test_errors_of_values_are_errors_of_pickle(app):
    with pytest.raises(pickle.PicklingError) as caught:
        app.task(sample.add)(threading.Lock())
    assert isinstance(caught.value, SerializationError)
    assert issubclass(DeserializationError, pickle.UnpicklingError)
    again = pickle.loads(pickle.dumps(SerializationError("text")))
    assert (type(again), again.args) == (SerializationError, ("text",))
