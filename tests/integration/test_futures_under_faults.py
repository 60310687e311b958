"""Futures while the shared directory fails: no result is lost, and `cancel` is honest."""

from __future__ import annotations

import concurrent.futures as cf
import errno
import os

import pytest
from support import PATIENCE, wait_until

import fsqueue
from fsqueue.executor.application import ByValue
from fsqueue.spool.store.open_spool import open_store
from fsqueue.testing import Fault, FaultyFilesystem
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
    made.disk.inject(Fault.fail(errno.EIO, verb="rename", path="/pending/"))
    assert future.cancel() is False
    assert f"cannot cancel {future.id}" in caplog.text
    assert not future.done()
    with worker_of(made):
        assert future.result(PATIENCE) == 2


def test_a_cancel_whose_answer_is_lost_happens(made):
    """It is only not known to be cancelled: the next worker ends it."""
    future = made.make(1)
    made.disk.inject(Fault.lost_reply(verb="rename", path="/pending/", code=errno.EIO))
    assert future.cancel() is False
    with worker_of(made), pytest.raises(cf.CancelledError):
        future.result(PATIENCE)
    assert future.cancelled()


def test_cancelling_many_goes_on_after_one_without_an_answer(made):
    futures = [made.make(number) for number in range(4)]
    made.disk.inject(Fault.fail(errno.EIO, verb="rename", path="/pending/", at=2))
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
    disk.inject(Fault.fail(errno.EIO, verb="rename", path="/pending/"))
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
