from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from support import open_store, wait_until

from fsqueue.spool.disk.identity import processor_time, start_of, this_process
from fsqueue.spool.format.records import WorkerRecord
from fsqueue.spool.worker.liveness import Observer, watchers
from fsqueue.testing import FaultyFilesystem

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

HEARTBEAT, LEASE = 5.0, 30.0
pytestmark = pytest.mark.leaves_strays


@pytest.fixture
def fs() -> FaultyFilesystem:
    return FaultyFilesystem()


@pytest.fixture
def store(spool, fs) -> Store:
    return open_store(spool, fs)


@pytest.fixture
def observer(store) -> Observer:
    return Observer(store, heartbeat=HEARTBEAT, lease=LEASE)


def record(store: Store, name: str = "w", **changes) -> WorkerRecord:
    process = this_process()
    values = {
        "name": name,
        "host": "here",
        "boot": process.boot,
        "pid": process.pid,
        "start": process.start,
        "queues": ("default",),
        "runner": "thread",
        "concurrency": 1,
        "started": 0.0,
    }
    written = WorkerRecord(**(values | changes))
    with open(store.layout.worker_record(name), "wb") as file:
        file.write(msgspec.json.encode(written))
    return written


def beat(store: Store, seconds: float, name: str = "w") -> None:
    store.fs.touch(store.layout.worker_beat(name))
    os.utime(store.layout.worker_beat(name), (seconds, seconds))


def test_a_process_that_lives_here_is_not_dead(store, observer):
    record(store)
    observer.discover()
    assert observer.dead_here() == {}
    assert observer.dead_elsewhere() == {}
    assert observer.serving("default") == ["w"]
    assert observer.serving("other") == []


def test_a_process_that_is_gone_is_dead_at_once(store, observer, fs):
    record(store, start="another process had this pid")
    observer.discover()
    fs.inject()
    assert list(observer.dead_here()) == ["w"]
    assert fs.count() == 0
    assert observer.serving("default") == []


def test_a_process_of_this_host_is_not_judged_like_one_elsewhere(store, observer, fs):
    record(store)
    observer.discover()
    observer.dead_elsewhere()
    fs.clock_offset += 10 * LEASE
    assert observer.dead_elsewhere() == {}


@pytest.fixture
def other():
    """A process of this host."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_silent_process_of_this_host_that_does_not_run_is_dead_after_the_lease(
    store, observer, fs, other
):
    record(store, pid=other.pid, start=start_of(other.pid))
    os.kill(other.pid, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{other.pid}/stat").read_text("ascii").split()[2] == "T")
    observer.discover()
    assert observer.dead_here() == observer.silent_here() == {}
    fs.clock_offset += LEASE - 1
    beat(store, 1.0)  # one that it had begun before
    assert observer.silent_here() == {}
    fs.clock_offset += LEASE - 1
    assert observer.silent_here() == {}
    fs.clock_offset += 2
    assert list(observer.silent_here()) == ["w"]
    assert observer.dead_here() == {}


def test_a_silent_process_of_this_host_that_runs_is_busy(store, observer, fs, other):
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        record(store, pid=busy.pid, start=start_of(busy.pid))
        observer.discover()
        for _ in range(3):
            before = processor_time(busy.pid)
            assert observer.silent_here() == {}
            wait_until(lambda seen=before: processor_time(busy.pid) != seen)
            fs.clock_offset += 2 * LEASE
        assert observer.silent_here() == {}
        busy.kill()


def test_a_former_registration_of_a_process_that_runs_is_dead_after_the_lease(store, observer, fs):
    """Whether another observer sees both, or the process itself one."""
    record(store, "former")
    observer.discover()
    for _ in range(2):
        assert observer.silent_here() == {}
        fs.clock_offset += LEASE / 2
    assert list(observer.silent_here()) == ["former"]


def test_time_in_which_the_observer_was_suspended_does_not_count_as_silence(
    store, observer, fs, other
):
    record(store, pid=other.pid, start=start_of(other.pid))
    observer.discover()
    observer.silent_here()
    fs.clock_offset += 10 * LEASE
    observer.excuse(10 * LEASE)
    assert observer.silent_here() == {}


def test_a_worker_elsewhere_is_dead_after_the_lease(store, observer, fs):
    record(store, boot="elsewhere", start="never here")
    beat(store, 1.0)
    observer.discover()
    assert observer.dead_here() == {}
    assert observer.dead_elsewhere() == {}
    fs.clock_offset += LEASE - 1
    assert observer.dead_elsewhere() == {}
    fs.clock_offset += 2
    assert list(observer.dead_elsewhere()) == ["w"]


@pytest.mark.parametrize("step", [-7200.0, 0.5, 7200.0])
def test_any_change_of_the_beat_is_a_sign_of_life(store, observer, fs, step):
    record(store, boot="elsewhere")
    seconds = 1_000_000.0
    observer.discover()
    for _ in range(4):
        beat(store, seconds)
        assert observer.dead_elsewhere() == {}
        fs.clock_offset += LEASE - 1
        seconds += step


def test_a_lock_seen_held_and_then_free_shows_a_death_earlier(store, observer, fs):
    record(store, boot="elsewhere")
    beat(store, 1.0)
    lock = store.fs.lock(store.layout.worker_lock("w"))
    assert lock is not None
    observer.discover()
    assert observer.dead_elsewhere() == {}
    fs.clock_offset += 2 * HEARTBEAT + 1
    assert observer.dead_elsewhere() == {}
    lock.release()
    assert list(observer.dead_elsewhere()) == ["w"]


def test_a_free_lock_alone_proves_nothing(store, observer, fs):
    record(store, boot="elsewhere")
    beat(store, 1.0)
    observer.discover()
    for _ in range(3):
        assert observer.dead_elsewhere() == {}
        fs.clock_offset += 2 * HEARTBEAT


def test_a_folder_without_record_is_a_worker_by_its_silence(store, observer, fs):
    store.fs.make_folders(store.layout.running("w"))
    observer.discover()
    assert observer.dead_here() == {}
    assert observer.dead_elsewhere() == {}
    fs.clock_offset += LEASE + 1
    assert list(observer.dead_elsewhere()) == ["w"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"name":"other"}'])
def test_a_damaged_record_is_a_worker_by_its_silence(store, observer, fs, content):
    with open(store.layout.worker_record("w"), "wb") as file:
        file.write(content)
    observer.discover()
    assert observer.dead_elsewhere() == {}
    assert observer.serving("default") == []
    fs.clock_offset += LEASE + 1
    assert list(observer.dead_elsewhere()) == ["w"]


def test_a_record_of_another_name_is_ignored(store, observer):
    record(store, start="gone")
    os.rename(store.layout.worker_record("w"), store.layout.worker_record("v"))
    observer.discover()
    assert observer.dead_here() == {}


def test_workers_that_have_left_are_forgotten(store, observer):
    record(store, start="gone")
    observer.discover()
    os.unlink(store.layout.worker_record("w"))
    observer.discover()
    assert observer.dead_here() == {}


def test_an_observer_does_not_watch_itself(store, observer):
    record(store, start="gone")
    observer.discover(but="w")
    assert observer.dead_here() == {}


def test_a_record_is_read_once(store, observer, fs):
    record(store)
    observer.discover()
    fs.inject()
    observer.discover()
    assert fs.count("read") == 0


class Hanging(FaultyFilesystem):
    """Its file server is away for a while, so the next request for a time takes this long."""

    outage = 0.0

    def modified(self, path: str) -> float:
        outage, self.outage = self.outage, 0.0
        self.clock_offset += outage
        return super().modified(path)


def test_no_worker_is_declared_dead_because_the_file_server_was_away(spool):
    fs = Hanging()
    store = open_store(spool, fs)
    observer = Observer(store, heartbeat=HEARTBEAT, lease=LEASE)
    for name in ("v", "w"):
        record(store, name, boot="elsewhere")
        beat(store, 1.0, name)
    observer.discover()
    assert observer.dead_elsewhere() == {}
    fs.outage = 10 * LEASE
    assert observer.dead_elsewhere() == {}
    fs.clock_offset += LEASE - HEARTBEAT - 1
    assert observer.dead_elsewhere() == {}
    fs.clock_offset += 2
    assert sorted(observer.dead_elsewhere()) == ["v", "w"]


def test_a_pause_of_the_observer_is_no_silence_of_the_others(store, observer, fs):
    record(store, boot="elsewhere")
    beat(store, 1.0)
    observer.discover()
    assert observer.dead_elsewhere() == {}
    fs.clock_offset += 10 * LEASE
    observer.excuse(10 * LEASE)
    assert observer.dead_elsewhere() == {}
    # Told twice of one pause, it takes the silence to begin now, not later.
    observer.excuse(10 * LEASE)
    fs.clock_offset += LEASE + 1
    assert list(observer.dead_elsewhere()) == ["w"]


def test_a_missing_file_counts_as_unchanged(store, observer, fs):
    path = store.layout.upkeep_stamp
    assert observer.unchanged_for(path) == 0
    fs.clock_offset += 3
    assert observer.unchanged_for(path) >= 3
    store.fs.touch(path)
    assert observer.unchanged_for(path) == 0


def test_two_machines_watch_by_the_worker_that_has_been_there_for_longest(store):
    served = [
        record(store, "new", boot="a.1", started=4.0),
        record(store, "third", boot="c.1", started=3.0),
        record(store, "second", boot="b.1", started=2.0),
        record(store, "in a container", boot="a.2", started=1.0),
        record(store, "oldest", boot="a.1", started=0.0),
    ]
    assert watchers(served) == ["oldest", "second"]
    assert watchers(served[:-1]) == ["in a container", "second"]
    assert watchers(served[:1]) == ["new"]
    assert watchers([]) == []


def test_the_lock_of_a_living_worker_is_tried_once(store, observer, fs):
    record(store, boot="elsewhere")
    lock = store.fs.lock(store.layout.worker_lock("w"))
    observer.discover()
    fs.inject()
    for seconds in range(5):
        beat(store, 1.0 + seconds)
        assert observer.dead_elsewhere() == {}
    assert fs.count("lock") == 1
    lock.release()
