"""What a worker does beside running calls."""

from __future__ import annotations

import os
import threading

import msgspec
import pytest
from support import wait_until

from fsqueue.config import load_config
from fsqueue.runner.upkeep import Upkeep
from fsqueue.spool.identity import this_process
from fsqueue.spool.opening import open_store
from fsqueue.spool.records import WorkerRecord
from fsqueue.spool.worker import Worker
from fsqueue.testing import FaultyFilesystem


class Slow(FaultyFilesystem):
    """Its file server takes its time to remove the folder of a worker called ghost."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answer = threading.Event(), threading.Event()

    def rmdir(self, path: str) -> bool:
        if path.endswith("/ghost"):
            self.asked.set()
            assert self.answer.wait(20)
        return super().rmdir(path)


@pytest.fixture
def fs():
    fs = Slow()
    yield fs
    fs.answer.set()


def test_a_worker_beats_while_it_waits_for_the_removal_of_a_dead_one(spool, fs):
    store = open_store(spool, fs)
    worker = Worker(store, queues=("default",), runner="thread", concurrency=1)
    worker.register()
    ghost = WorkerRecord(
        name="ghost",
        host="here",
        boot=this_process().boot,
        pid=this_process().pid,
        start="another process had this pid",
        queues=("default",),
        runner="thread",
        concurrency=1,
        started=0.0,
    )
    with open(store.layout.worker_record("ghost"), "wb") as file:
        file.write(msgspec.json.encode(ghost))
    store.fs.make_folders(store.layout.running("ghost"))
    upkeep = Upkeep(store, worker, load_config({"heartbeat": 0.1}), *[lambda: None] * 2)
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
