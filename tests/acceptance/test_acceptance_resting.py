"""Many workers on one host: one listens for new calls while the others rest."""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from acceptance_harness import alive, wait_until, wait_until_idle

pytestmark = [
    pytest.mark.concurrent,
    pytest.mark.skipif(sys.platform != "linux", reason="workers rest on Linux only"),
]
COUNT = 6
ENV = {"FSQUEUE__HEARTBEAT": "0.2"}


class Crowd:
    """Workers with one slot each on one spool."""

    def __init__(self, site, kind):
        self.site = site
        self.workers = [site.worker(kind, 1, **ENV) for _ in range(COUNT)]
        for each in self.workers:
            each.wait_for_start()
        wait_until(lambda: self.listener() is not None, "one of them has the turn")
        for each in self.workers:
            wait_until_idle(each.pid)

    @property
    def pipe(self):
        (path,) = Path(self.site.root, "bell").glob(".turns-*")
        return path

    def listener(self):
        """The process that has the turn, as the kernel knows it."""
        found = list(Path(self.site.root, "bell").glob(".turns-*"))
        if not found:
            return None
        inode = found[0].stat().st_ino
        for line in Path("/proc/locks").read_text("utf-8").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return int(fields[4])
        return None


@pytest.fixture
def crowd(site):
    return Crowd(site, "thread")


def test_calls_that_come_at_once_wake_as_many_workers(site, crowd):
    marks = site.folder("held")
    calls = [site.tasks.hold_later(marks.folder) for _ in range(COUNT)]
    assert len(set(marks.wait_for_starts(COUNT))) == COUNT
    marks.release()
    assert len({call.get(60) for call in calls}) == COUNT
    # And afterwards one of them has the turn again.
    wait_until(lambda: crowd.listener() is not None, "one of them has the turn")


def test_a_call_runs_though_the_one_that_has_the_turn_dies_or_is_suspended(site, crowd):
    listener = crowd.listener()
    os.kill(listener, signal.SIGKILL)
    wait_until(lambda: not alive(listener), "it is gone")
    assert site.tasks.square(7).get(60)[0] == 49
    wait_until(lambda: crowd.listener() not in {None, listener}, "another one has the turn")
    suspended = crowd.listener()
    os.kill(suspended, signal.SIGSTOP)
    try:
        for number in range(5):
            assert site.tasks.square(number).get(60)[0] == number**2
    finally:
        os.kill(suspended, signal.SIGCONT)


def test_a_call_to_the_others_that_is_lost_costs_a_poll(site, crowd):
    """The bytes are read by a process that is no worker."""
    handle = os.open(crowd.pipe, os.O_RDWR)
    thief = threading.Thread(target=lambda: [*iter(lambda: os.read(handle, 1), b"q")])
    thief.start()
    try:
        marks = site.folder("held")
        calls = [site.tasks.hold_later(marks.folder) for _ in range(COUNT)]
        assert len(set(marks.wait_for_starts(COUNT))) == COUNT
        marks.release()
        assert len({call.get(60) for call in calls}) == COUNT
    finally:
        while thief.is_alive():
            os.write(handle, b"q")
            thief.join(0.1)
        os.close(handle)


def test_process_slots_need_no_inotify_instance(site):
    worker = site.worker("process", 3, **ENV).wait_for_start()
    assert site.tasks.square(7).get(60)[0] == 49
    links = []
    for pid in (worker.pid, *worker.children()):
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # of a file that was open for a moment
                links.append(os.readlink(handle))
    assert links.count("anon_inode:inotify") == 1


def test_a_delayed_call_and_one_with_needs_find_a_worker(site, crowd):
    delayed = site.tasks.square.options(countdown=0.5)(3)
    waiting = site.tasks.square_of(site.tasks.square(2))
    assert delayed.get(60)[0] == 9
    assert waiting.get(60) == 16
    able = site.worker("thread", 1, "--resource", "gpu=1", **ENV).wait_for_start()
    assert site.tasks.square.options(resources={"gpu": 1})(5).get(60)[0] == 25
    able.signal(signal.SIGTERM)
    able.wait()
