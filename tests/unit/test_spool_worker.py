"""A worker's registration in the spool."""

from __future__ import annotations

import errno
import os

import pytest
from spool_pair import opened_pair
from support import open_store

from fsqueue.spool.wakeups.bell import listening
from fsqueue.spool.worker.liveness import Observer
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import Fault, FaultyFilesystem


@pytest.fixture
def store(spool):
    return open_store(spool, FaultyFilesystem())


@pytest.fixture
def worker(store):
    worker = Worker(store, queues=("t.default",), runner="thread", concurrency=1)
    worker.register()
    yield worker
    worker.deregister()


def test_a_worker_that_lives_keeps_its_name(store, worker):
    name = worker.name
    worker.keep_alive()
    assert worker.name == name
    assert os.listdir(store.layout.running_folder) == [name]


def test_a_worker_that_was_declared_dead_registers_again_and_leaves_no_files(store, worker):
    former = worker.name
    os.rmdir(store.layout.running(former))
    worker.keep_alive()
    assert worker.name != former
    assert os.listdir(store.layout.running_folder) == [worker.name]
    kinds = {os.path.splitext(name) for name in os.listdir(store.layout.workers_folder)}
    assert kinds == {(worker.name, ".json"), (worker.name, ".lock"), (worker.name, ".beat")}


def test_an_observer_forgets_workers_that_have_left(store):
    observer = Observer(store, heartbeat=1.0, lease=3.0)
    store.fs.make_folders(store.layout.running("gone-1-abcdef"))
    observer.discover()
    observer.dead_elsewhere()
    assert observer._observations
    os.rmdir(store.layout.running("gone-1-abcdef"))
    observer.discover()
    assert not observer._observations


def test_without_a_bell_there_is_polling(store):
    store.fs.inject(Fault.fail(errno.ENOSPC, verb="create", path="bell"))
    with listening(store.files.touch, store.layout.bell("t.default"), lambda: None) as watch:
        assert not watch.works


# -- the hold of a host on files that it has read ------------------------------------------


@pytest.fixture(params=[True, False], ids=["remote", "local"])
def pair(spool, request):
    fs = FaultyFilesystem(remote=request.param)
    with opened_pair(spool, fs, records="files") as pair:  # a server delegates no link
        yield pair


def let_go(pair):
    return [each.path for each in pair.fs.trace if each.verb == "chmod"]


def test_a_call_that_runs_for_long_is_let_go_once(pair):
    """So a reaper need not wait until the server has given up on this host."""
    claim = pair.worker.claim(pair.publish().path)
    pair.fs.inject()
    pair.worker.keep_alive()
    assert let_go(pair) == []
    pair.worker.keep_alive()
    pair.worker.keep_alive()
    assert let_go(pair) == [claim.path] * pair.fs.remote
    pair.complete(claim)
    pair.fs.inject()
    pair.worker.keep_alive()
    assert let_go(pair) == []


def test_short_calls_cost_nothing_more_whenever_a_beat_comes(pair):
    for _ in range(3):
        claim = pair.worker.claim(pair.publish().path)
        pair.worker.keep_alive()
        pair.complete(claim)
    assert let_go(pair) == []


def test_a_worker_beats_whether_or_not_a_call_can_be_let_go(pair):
    claim = pair.worker.claim(pair.publish().path)
    pair.worker.keep_alive()
    pair.fs.inject(Fault.fail(errno.EIO, verb="chmod"))
    name = pair.worker.name
    pair.worker.keep_alive()
    assert pair.worker.name == name
    assert pair.worker.claims == [claim]


def test_a_record_that_was_read_is_let_go(pair):
    """Its worker could not remove it for as long as the server takes the reader for alive."""
    observer = Observer(pair.store, heartbeat=1.0, lease=3.0)
    pair.fs.inject()
    observer.discover()
    observer.discover()
    assert let_go(pair) == [pair.store.layout.worker_record(pair.worker.name)] * pair.fs.remote
