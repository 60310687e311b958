"""Two mounts of one folder, each with a kernel's cache of its own that is believed for long.

FUSE keeps names, their absence and attributes for as long as the mount's options say: whoever
relied on one that was cached would wait for minutes here. File locks reach no other mount.
"""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest
from acceptance_harness import Site, wait_until
from support import open_store

from fsqueue.spool.disk.mounts import is_remote
from fsqueue.spool.worker.liveness import Observer
from fsqueue.spool.worker.reaper import reap

LONG = 300
BRISK = {"FSQUEUE__HEARTBEAT": "0.2", "FSQUEUE__LEASE": "10"}
# A process whose number means nothing here is that of another host.
ELSEWHERE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK), reason="/dev/fuse cannot be used"),
    pytest.mark.skipif(shutil.which("bindfs") is None, reason="bindfs is not installed"),
]


@contextlib.contextmanager
def mounted(disk, folder, attributes):
    folder.mkdir()
    options = f"attr_timeout={attributes},entry_timeout={LONG},negative_timeout={LONG}"
    command = ["bindfs", "-o", options, str(disk), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"bindfs cannot mount here: {done.stderr.strip()}")
    try:
        yield folder / "spool"
    finally:
        # Lazily: a process that was killed may not have closed its files yet.
        subprocess.run(["fusermount", "-u", "-z", str(folder)], check=True)


class Mounts:
    """The caller's root, the others', and the disk below, whose cache is the only true one."""

    def __init__(self, tmp_path, stack, attributes):
        disk = tmp_path / "disk"
        disk.mkdir()
        self.one = stack.enter_context(mounted(disk, tmp_path / "one", attributes))
        self.two = stack.enter_context(mounted(disk, tmp_path / "two", attributes))
        self.disk = disk / "spool"


@pytest.fixture
def mounts(request, tmp_path):
    with contextlib.ExitStack() as stack:
        yield Mounts(tmp_path, stack, getattr(request, "param", LONG))


@pytest.fixture
def site(mounts, tmp_path):
    site = Site(tmp_path)
    site.root = mounts.one
    site.env |= {"FSQUEUE__ROOT": str(mounts.one)} | BRISK
    try:
        site.open()
        yield site
    finally:
        site.close()


def settled(mounts):
    """Nothing is pending or running, by the disk's own word."""
    return not [
        name
        for top in ("pending", "running")
        for _, _, names in os.walk(mounts.disk / top)
        for name in names
    ]


def test_the_caches_of_the_mounts_are_stale(mounts):
    one, two = mounts.one.parent / "name", mounts.two.parent / "name"
    assert not two.exists()
    one.touch()
    assert not two.exists()
    assert os.listdir(two.parent) == ["name"]
    one.unlink()


def test_a_mount_of_another_filesystem_in_user_space_is_remote(mounts):
    assert is_remote(str(mounts.one.parent))


def test_calls_between_two_mounts(site, mounts, kind):
    worker = site.worker(kind, 2, FSQUEUE__ROOT=str(mounts.two)).wait_for_start()
    for number in range(30):
        assert site.tasks.describe(number)[0] == number
    with pytest.raises(LookupError, match="no such thing"):
        site.tasks.fail("no such thing")
    assert site.tasks.fib(5) == 5
    group = site.tasks.square.parallelize([(number,) for number in range(50)])
    assert [value for value, _ in group.results] == [number * number for number in range(50)]
    bad = site.tasks.reject("not this one")
    with pytest.raises(LookupError, match="not this one"):
        bad.get()
    ids = group[7].id, bad.id
    done = site.run(sys.executable, "read.py", *ids, FSQUEUE__ROOT=str(mounts.two))
    assert done.stdout.count("(49, ") == 3, done.stderr
    assert done.stdout.count("'not this one'") == 2
    assert worker.popen.poll() is None
    assert settled(mounts)


def test_claimants_on_both_mounts(site, mounts):
    roots = (mounts.one, mounts.two)
    for root in roots:
        site.worker("thread", 2, FSQUEUE__ROOT=str(root)).wait_for_start()
    marks = site.folder("calls")
    marks.release()
    group = site.tasks.hold_later.parallelize([(marks.folder,)] * 200)
    pids = group.results
    assert len(marks.pids("starts")) == len(marks.pids("ends")) == len(pids) == 200
    assert settled(mounts)


def test_a_worker_whose_folder_went_away_on_the_other_mount_registers_afresh(site, mounts):
    worker = site.worker("thread", FSQUEUE__ROOT=str(mounts.two)).wait_for_start()
    (name,) = os.listdir(mounts.disk / "running")
    assert site.tasks.pid() == worker.pid
    reap(open_store(mounts.one), name, "it seems so from here")
    worker.wait_for_log("registered again")
    assert site.tasks.pid() == worker.pid


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
@pytest.mark.parametrize("mounts", [1], indirect=True)
def test_a_worker_that_beats_on_the_other_mount_is_alive(site, mounts):
    """Attributes are a second late, which is less than the lease."""
    worker = site.worker("thread", before=ELSEWHERE, FSQUEUE__ROOT=str(mounts.two))
    worker.wait_for_start()
    (name,) = os.listdir(mounts.disk / "running")
    observer = Observer(open_store(mounts.one), heartbeat=0.2, lease=8.0)
    beats = set()

    def watch():
        observer.discover()
        assert observer.dead_elsewhere() == {}
        beats.add(os.stat(mounts.disk / "workers" / f"{name}.beat").st_mtime_ns)
        return len(beats) > 45

    wait_until(watch, "the worker has beaten for longer than the lease")
    worker.kill()
    wait_until(lambda: list(observer.dead_elsewhere()) == [name], "its death is noticed")
