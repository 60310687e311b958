"""The end of another process wakes its watcher."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from support import open_store, wait_until

from fsqueue.config import load_config
from fsqueue.runner.loop.upkeep import Callbacks, Upkeep
from fsqueue.spool.disk.identity import Process, boot_id, start_of
from fsqueue.spool.format.records import WorkerRecord
from fsqueue.spool.wakeups.process_ends import ProcessEnds
from fsqueue.spool.worker.registration import Worker, remove_worker_files

LONG = 60.0
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs descriptors for processes")


@pytest.fixture
def started():
    """Starts processes that do nothing."""
    found: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        found.append(subprocess.Popen(["sleep", "600"]))
        return found[-1]

    yield start
    for each in found:
        each.kill()
        each.wait()


def process_of(popen) -> Process:
    return Process(boot_id(), popen.pid, start_of(popen.pid) or "")


def process_handles() -> int:
    """How many descriptors of processes this process has."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing
            count += os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[pidfd]"
    return count


@linux
def test_an_end_is_announced_once_and_ends_the_wait(started):
    one, other = started(), started()
    ends = ProcessEnds()
    ends.watch(map(process_of, (one, other)))
    assert ends.ended() == set()
    expected = {process_of(one)}
    one.kill()  # and nobody has waited for it
    ends.wait(LONG)
    assert ends.ended() == expected
    ends.wake()
    ends.wait(LONG)  # by the call alone: an end that is known wakes no more
    assert ends.ended() == expected
    ends.watch([process_of(other)])
    assert ends.ended() == set()
    ends.watch([])


def test_a_process_whose_number_another_one_has_is_gone(started):
    ends = ProcessEnds()
    before = process_of(started())._replace(start="1")
    ends.watch([before])
    assert ends.ended() == {before}


def test_a_forked_child_that_inherits_the_descriptors_hides_no_end(started):
    watched = started()
    ends = ProcessEnds()
    expected = process_of(watched)
    ends.watch([expected])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)  # until the parent has seen the end
        os._exit(0)
    watched.kill()
    wait_until(lambda: ends.wait(1.0) or expected in ends.ended(), what="the end is noticed")
    os.close(write)
    os.waitpid(child, 0)
    os.close(read)
    ends.watch([])


def test_without_a_descriptor_processes_are_looked_up(started):
    watched = started()
    expected = process_of(watched)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    ends = ProcessEnds()
    spare = os.open("/dev/null", os.O_RDONLY)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))
    try:
        ends.watch([expected])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert process_handles() == 0
    watched.kill()
    wait_until(lambda: ends.wait(LONG) or expected in ends.ended(), what="the end is noticed")


def test_a_wait_is_ended_from_another_thread():
    ends = ProcessEnds()
    waiter = threading.Thread(target=ends.wait, args=(LONG,))
    waiter.start()
    ends.wake()
    waiter.join(LONG / 2)
    assert not waiter.is_alive()


# -- who watches whom -----------------------------------------------------------------------------


def enlist(store, number: int, popen) -> None:
    """Make a process look like a worker that was there before all that register."""
    process = process_of(popen)
    record = WorkerRecord(
        name=f"w{number}",
        host="here",
        boot=process.boot,
        pid=process.pid,
        start=process.start,
        queues=("default",),
        runner="thread",
        concurrency=1,
        started=float(number),
    )
    Path(store.layout.worker_record(record.name)).write_bytes(msgspec.json.encode(record))
    store.fs.make_folders(store.layout.running(record.name))


class Host:
    """A host with some workers, one of which is real."""

    def __init__(self, spool: str, started) -> None:
        self.store = open_store(spool)
        self.others = [started() for _ in range(6)]
        for number, each in enumerate(self.others):
            enlist(self.store, number, each)
        self.worker = Worker(self.store, queues=("default",), runner="thread", concurrency=1)
        self.worker.register()
        conf = load_config({"heartbeat": 0.2, "lease": 600.0})
        self.upkeep = Upkeep(self.store, self.worker, conf, Callbacks())

    def left(self) -> set[str]:
        return set(os.listdir(self.store.layout.running_folder)) - {self.worker.name}

    def end(self) -> None:
        self.upkeep.stop()
        for name in self.left():
            os.rmdir(self.store.layout.running(name))
            remove_worker_files(self.store, name)
        self.worker.deregister()


@pytest.fixture
def host(spool, started):
    host = Host(spool, started)
    yield host
    host.end()


@linux
def test_all_but_the_elders_watch_the_elders_only(host):
    host.upkeep.start()
    wait_until(lambda: process_handles() == 2, what="both elders are watched")
    host.others[0].kill()
    wait_until(lambda: host.left() == {"w1", "w2", "w3", "w4", "w5"}, what="an elder's death")
    wait_until(lambda: process_handles() == 2, what="the next one is watched")
    for each in host.others[1:5]:
        each.kill()
    # It is an elder now, beside the last one.
    wait_until(lambda: host.left() == {"w5"}, what="all deaths")
    host.others[5].kill()
    wait_until(lambda: not host.left(), what="the last death")
    assert process_handles() == 0


def test_a_death_is_noticed_though_the_elders_do_not_move(host):
    """They are suspended, or in another state of which nothing tells."""
    host.upkeep.start()
    host.others[4].kill()
    wait_until(lambda: host.left() == {"w0", "w1", "w2", "w3", "w5"}, what="the death")


@linux
def test_nothing_is_watched_after_the_end(host):
    host.upkeep.start()
    wait_until(lambda: process_handles() == 2, what="the elders are watched")
    host.upkeep.stop()
    assert process_handles() == 0
