"""Futures while the shared directory fails: no result is lost, and `cancel` is honest."""

from __future__ import annotations

import concurrent.futures as cf
import errno
import os
import sys
import threading

import pytest
from support import PATIENCE, wait_until

import fsqueue
from fsqueue.errors import SpoolError
from fsqueue.executor.application import ByValue
from fsqueue.spool.store.open_spool import open_store
from fsqueue.testing import Effect, Fault, FaultyFilesystem
from integration import sample_tasks as sample
from integration.conftest import working

pytestmark = pytest.mark.concurrent


class Made:
    """Makes futures of calls in a spool whose caller's directory can fail."""

    def __init__(self, app, make):
        self.app, self.make = app, make
        self.disk = FaultyFilesystem()
        app._session._store = open_store(app.root, self.disk)


@pytest.fixture(params=["task", "executor"])
def made(request, spool, make_app):
    if request.param == "task":
        app = make_app()
        task = app.task(sample.add)
        yield Made(app, lambda number: task(number).future())
        return
    with fsqueue.Executor(root=spool) as executor:
        yield Made(executor._app, lambda number: executor.submit(sample.add, number))
        executor.shutdown(wait=False, cancel_futures=True)


def worker_of(made):
    app = ByValue(made.app.root) if isinstance(made.app, ByValue) else made.app
    return working(app, app.make_runner(kind="thread"))


def test_a_cancel_without_an_answer_is_no_and_the_call_goes_on(made, caplog):
    future = made.make(1)
    made.disk.inject(Fault.fail(errno.EIO, verb="rename", path="/pending/", at=None))
    assert future.cancel() is False
    made.disk.inject()
    assert f"cannot tell whether {future.id} is cancelled" in caplog.text
    assert not future.done()
    with worker_of(made):
        assert future.result(PATIENCE) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault.fail(errno.EIO, verb="rename", path="/pending/"),
        Fault.lost_reply(verb="rename", path="/pending/", code=errno.EIO),
        Fault.fail(errno.EIO, verb="link", path="/done/"),
        Fault.lost_reply(verb="link", path="/done/", code=errno.EIO),
        Fault.fail(errno.EIO, verb="unlink", path="/pending/"),
    ],
    ids=lambda fault: f"{fault.effect.name}-{fault.verb}",
)
def test_a_cancel_is_tried_again_after_an_error(made, fault, caplog):
    future = made.make(1)
    made.disk.inject(fault)
    answer = future.cancel()
    assert any(fault.matches(operation) for operation in made.disk.trace)
    # The resolver may have collected the outcome of the first try before the second.
    assert answer or (fault.verb, fault.effect) in {
        ("link", Effect.LOSE_REPLY),
        ("unlink", Effect.FAIL),
    }
    wait_until(future.cancelled)
    assert not caplog.text


def test_a_cancel_whose_answers_are_lost_happens(made):
    """It is only not known to be cancelled: the next worker ends it."""
    future = made.make(1)
    made.disk.inject(
        Fault.lost_reply(verb="rename", path="/pending/", code=errno.EIO),
        Fault.fail(errno.EIO, verb="rename", path="/pending/", at=2),
    )
    assert future.cancel() is False
    made.disk.inject()
    with worker_of(made), pytest.raises(cf.CancelledError):
        future.result(PATIENCE)
    assert future.cancelled()


def test_cancelling_many_goes_on_after_one_without_an_answer(made):
    futures = [made.make(number) for number in range(4)]
    fail = [Fault.fail(errno.EIO, verb="rename", path="/pending/", at=n) for n in (2, 3)]
    made.disk.inject(*fail)
    assert [future.cancel() for future in futures] == [True, False, True, True]
    made.disk.inject()
    assert futures[1].cancel()
    assert all(future.cancelled() for future in futures)


def test_a_result_that_cannot_be_read_now_is_read_again(made, caplog):
    future = made.make(1)
    made.disk.inject(Fault.fail(errno.EIO, verb="read", path="/done/"))
    with worker_of(made):
        assert future.result(PATIENCE) == 2
    assert f"cannot read the result of {future.id}, trying again" in caplog.text


def test_a_shutdown_that_cancels_goes_on_after_a_cancel_without_an_answer(spool):
    executor = fsqueue.Executor(root=spool)
    futures = [executor.submit(abs, -number) for number in range(4)]
    disk = FaultyFilesystem()
    executor._app._session._store = open_store(spool, disk)
    fail = [Fault.fail(errno.EIO, verb="rename", path="/pending/", at=n) for n in (1, 2)]
    disk.inject(*fail)
    executor.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in futures] == [True, True, True, False]
    app = ByValue(spool)
    with working(app, app.make_runner(kind="thread")):
        assert futures[3].result(PATIENCE) == 3
    executor.shutdown()
    app.close()


def test_a_future_whose_call_was_claimed_is_not_cancelled(spool, tmp_path):
    def hold(path):
        open(f"{path}.begun", "w").close()
        wait_until(lambda: os.path.exists(path))
        return "done"

    app = ByValue(spool)
    with (
        fsqueue.Executor(root=spool) as executor,
        working(app, app.make_runner(kind="thread")),
    ):
        future = executor.submit(hold, str(tmp_path / "gate"))
        wait_until(lambda: os.path.exists(tmp_path / "gate.begun"))
        wait_until(future.running)
        assert future.cancel() is False
        (tmp_path / "gate").touch()
        assert future.result(PATIENCE) == "done"
        assert not future.running()
    app.close()


def test_a_shutdown_that_cancels_goes_on_after_a_damaged_outcome(spool):
    """The outcome has arrived, but the resolver, which waits in a callback, has not read it."""
    entered, gate = threading.Event(), threading.Event()
    executor = fsqueue.Executor(root=spool)
    first = executor.submit(abs, -1)
    first.add_done_callback(lambda _: (entered.set(), gate.wait(PATIENCE)))
    app = ByValue(spool)
    with working(app, app.make_runner(kind="thread")):
        assert entered.wait(PATIENCE)
        damaged = executor.submit(abs, -2)
        outcome = executor._app.store.layout.done(damaged.id)
        wait_until(lambda: os.path.exists(outcome))
    last = executor.submit(abs, -3)
    with open(outcome, "r+b") as file:
        file.write(bytes(os.path.getsize(outcome)))
    assert not damaged.running()
    executor.shutdown(wait=False, cancel_futures=True)
    gate.set()
    executor.shutdown()
    assert last.cancelled()
    assert isinstance(damaged.exception(0), SpoolError)
    app.close()


def test_a_future_that_is_asked_for_again_after_an_interrupt_has_its_result(app):
    invocation = app.task(sample.add)(1)
    code = type(invocation.pending_result.waiter).begin.__code__

    def interrupt(frame, event, arg):
        """As a signal handler can, between any two instructions."""
        if frame.f_code is code:
            sys.settrace(None)
            raise KeyboardInterrupt

    sys.settrace(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            invocation.future()
    finally:
        sys.settrace(None)
    with working(app):
        assert invocation.future().result(PATIENCE) == 2
