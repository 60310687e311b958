"""What a worker does beside running calls."""

from __future__ import annotations

import os
import threading
import time

import msgspec
import pytest
from support import open_store, wait_until

from fsqueue.config import load_config
from fsqueue.runner.loop.upkeep import Callbacks, Upkeep
from fsqueue.spool.disk.identity import this_process
from fsqueue.spool.format.records import WorkerRecord
from fsqueue.spool.worker.registration import Worker, remove_worker_files
from fsqueue.testing import FaultyFilesystem


class Slow(FaultyFilesystem):
    """Its file server takes its time to remove the folder of a worker called ghost."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answer = threading.Event(), threading.Event()

    def rmdir(self, path: str) -> bool:
        if path.endswith("/ghost"):
            self.asked.set()
            assert self.answer.wait(60)
        return super().rmdir(path)


@pytest.fixture
def fs():
    fs = Slow()
    yield fs
    fs.answer.set()


def appear(store, name, boot, started=0.0):
    """A worker whose process is not there."""
    ghost = WorkerRecord(
        name=name,
        host="here",
        boot=boot,
        pid=this_process().pid,
        start="another process had this pid",
        queues=("default",),
        runner="thread",
        concurrency=1,
        started=started,
    )
    with open(store.layout.worker_record(name), "wb") as file:
        file.write(msgspec.json.encode(ghost))
    store.fs.make_folders(store.layout.running(name))


def test_a_worker_beats_while_it_waits_for_the_removal_of_a_dead_one(spool, fs):
    store = open_store(spool, fs)
    worker = Worker(store, queues=("default",), runner="thread", concurrency=1)
    worker.register()
    appear(store, "ghost", this_process().boot)
    upkeep = Upkeep(store, worker, load_config({"heartbeat": 0.1}), Callbacks())
    upkeep.start()
    wait_until(fs.asked.is_set, what="the dead worker is found")
    for _ in range(3):
        before = beat(store, worker)
        wait_until(lambda seen=before: beat(store, worker) != seen, what="another beat")
    assert not fs.answer.is_set()
    fs.answer.set()
    upkeep.stop()
    assert not os.path.exists(store.layout.worker_record("ghost"))
    worker.deregister()


def beat(store, worker) -> int:
    return os.stat(store.layout.worker_beat(worker.name)).st_mtime_ns


def test_the_death_of_a_watcher_s_host_is_noticed_by_the_lease_and_a_beat(spool):
    """It had watched for longest, and there is another one that has watched all the time."""
    fs = FaultyFilesystem()
    store = open_store(spool, fs)
    worker = Worker(store, queues=("default",), runner="thread", concurrency=1)
    worker.register()
    conf = load_config({"heartbeat": 2.0, "lease": 10.0})
    upkeep = Upkeep(store, worker, conf, Callbacks())
    appear(store, "oldest", "elsewhere.1")
    appear(store, "its-neighbour", "elsewhere.1")
    appear(store, "newest", "another.1", started=2 * time.time())
    upkeep.discover()

    def goes_on(*names):
        for name in names:
            fs.touch(store.layout.worker_beat(name))
        upkeep._lead()
        fs.clock_offset += conf.heartbeat

    for _ in range(3):
        fs.touch(store.layout.upkeep_stamp)
        goes_on("oldest", "its-neighbour", "newest")
    for _ in range(6):  # no longer than the lease and a beat
        goes_on("newest")
    assert sorted(os.listdir(store.layout.running_folder)) == sorted(["newest", worker.name])
    os.rmdir(store.layout.running("newest"))
    remove_worker_files(store, "newest")
    worker.deregister()


def test_dead_workers_are_forgotten_once_they_are_removed(spool):
    store = open_store(spool)
    worker = Worker(store, queues=("default",), runner="thread", concurrency=1)
    worker.register()
    upkeep = Upkeep(store, worker, load_config({"heartbeat": 0.1}), Callbacks())
    for number in range(20):
        appear(store, f"ghost-{number}", this_process().boot)
        upkeep.discover()
        upkeep.reap_here()
    assert os.listdir(store.layout.running_folder) == [worker.name]
    assert len(upkeep._reap_again) == 0
    worker.deregister()
