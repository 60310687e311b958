"""A shared directory that is gone for a while, or that another spool takes the place of."""

import contextlib
import os
import shutil
import subprocess

import pytest
from acceptance_harness import wait_until
from support import open_store

from fsqueue.errors import SpoolReplacedError
from fsqueue.spool.format.layout import Layout

BEAT = 0.2
ENV = {"FSQUEUE__HEARTBEAT": str(BEAT), "FSQUEUE__LEASE": "60"}
# Seconds: less than a heartbeat, about one, and several.
ABSENCES = (0.05, BEAT, 6 * BEAT)


@contextlib.contextmanager
def renamed(root):
    """The root is moved away, and an empty folder is in its place, as a bare mount point."""
    away = f"{root}-away"
    os.rename(root, away)
    os.mkdir(root)
    try:
        yield
        assert os.listdir(root) == []
    finally:
        os.rmdir(root)
        os.rename(away, root)


@contextlib.contextmanager
def unmounted(root):
    """The root is unmounted, and mounted again afterwards."""
    subprocess.run(["umount", "--lazy", root], check=True)
    try:
        yield
        assert os.listdir(root) == []
    finally:
        subprocess.run(["mount", "--bind", f"{root}-disk", root], check=True)


@pytest.fixture(params=[renamed, unmounted])
def absent(request, site):
    """Makes the root disappear for a block."""
    if request.param is renamed:
        site.root.mkdir()
        yield lambda: renamed(site.root)
        return
    os.mkdir(f"{site.root}-disk")
    site.root.mkdir()
    mount = ["mount", "--bind", f"{site.root}-disk", site.root]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs to mount")
    yield lambda: unmounted(site.root)
    site.close()
    subprocess.run(["umount", "--lazy", site.root], check=True)


def remove(site, folder):
    """Remove a folder in one step: others put files into it, and take them out, all the time."""
    away = site.base / "removed"
    os.rename(folder, away)
    shutil.rmtree(away)


def pass_time(site, seconds):
    """Let at least this much time go by: for a process of this machine, not for this test."""
    site.run("sleep", str(seconds))


@pytest.mark.parametrize("absence", ABSENCES)
def test_running_and_pending_calls_survive_an_absence(site, kind, absent, absence):
    workers = [site.worker(kind, 2, **ENV).wait_for_start() for _ in range(2)]
    held = [site.folder(f"held-{number}") for number in range(3)]
    ends_meanwhile, *others = held
    results = [site.call(site.tasks.hold, marks.folder) for marks in held]
    for marks in held:
        marks.wait_for_starts(1)
    pending = [site.tasks.square(number) for number in range(20)]
    with absent():
        ends_meanwhile.release()
        pass_time(site, absence)
    for marks in others:
        marks.release()
    assert all(result.result(60) for result in results)
    assert [each.get(60)[0] for each in pending] == [number**2 for number in range(20)]
    assert [len(marks.pids("starts")) for marks in others] == [1, 1]
    assert site.tasks.square(7).get(60)[0] == 49
    assert all("Traceback" not in worker.text() for worker in workers)
    assert all("registered again" not in worker.text() for worker in workers)


def test_calls_in_a_lane_survive_an_absence(site, kind, absent):
    workers = [site.worker(kind, 3, **ENV).wait_for_start() for _ in range(2)]
    inside = site.folder("inside")
    visits = [site.tasks.visit(inside.folder, number) for number in range(30)]
    with absent():
        pass_time(site, 6 * BEAT)
    assert max(visit.get(60) for visit in visits) <= 2
    assert all("Traceback" not in worker.text() for worker in workers)


def test_a_slot_process_that_starts_during_an_absence_makes_no_spool(site, absent):
    worker = site.worker("process", 1, **ENV).wait_for_start()
    marks = site.folder("crash")
    crashing = site.call(site.tasks.crash_once, marks.folder, "exit")
    assert crashing.result(60)
    (slot,) = {pid for pid in worker.children() if pid in marks.pids("starts")}
    with absent():
        os.kill(slot, 9)
        wait_until(lambda: "trying again" in worker.text(), worker.text)
        pass_time(site, 1.0)
    assert site.tasks.square(7).get(60)[0] == 49


# -- another spool --------------------------------------------------------------------------------


def replace(site):
    """Put a new spool, with a pending call, in the place of the old one; returns what is in it."""
    new = f"{site.root}-new"
    store = open_store(new)
    queue = store.layout.queue("acceptance.default")
    os.makedirs(f"{queue}/4.0000000000001")
    with open(f"{queue}/4.0000000000001/abcdefgh-1.1", "wb") as file:
        file.write(b"a call of the new spool")
    os.makedirs(store.layout.running("other-1-aaaaaa"))
    shutil.copy(
        f"{queue}/4.0000000000001/abcdefgh-1.1", f"{store.layout.running('other-1-aaaaaa')}"
    )
    os.rename(site.root, f"{site.root}-old")
    os.rename(new, site.root)
    return listing(site)


def listing(site):
    return sorted(str(path.relative_to(site.root)) for path in site.root.rglob("*"))


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_ends_when_another_spool_takes_the_place_of_its_own(site, kind, busy):
    worker = site.worker(kind, 2, **ENV).wait_for_start()
    assert site.tasks.square(7).get(60)[0] == 49
    marks = site.folder("held")
    if busy:
        site.call(site.tasks.hold, marks.folder)
        marks.wait_for_starts(1)
    bodies = marks.pids("starts")
    before = replace(site)
    assert worker.wait() == 2
    assert "was replaced" in worker.text()
    assert "Traceback" not in worker.text()
    # Until its next heartbeat it may have tried whether the other worker's lock is held.
    assert listing(site) == before
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in bodies), "bodies end")


def test_callers_are_told_of_another_spool(site, kind):
    """Those who wait, and those who call from then on."""
    waiting = site.call(site.tasks.hold, site.folder("held").folder)
    later = site.tasks.square(7)
    wait_until(lambda: len(site.files("pending")) == 2, "both are pending")
    waiter = site.tasks.app._session.client.waiter
    wait_until(lambda: waiter._waiting, "the caller waits")
    before = replace(site)
    with pytest.raises(SpoolReplacedError, match="Restart this process"):
        waiting.result(60)
    with pytest.raises(SpoolReplacedError):
        later.get(60)
    with pytest.raises(SpoolReplacedError):
        site.tasks.square(8)
    assert listing(site) == before
    site.tasks.app.close()
    site.worker(kind, 1, **ENV).wait_for_start()
    assert site.tasks.square(8).get(60)[0] == 64  # it has joined the new one


# -- folders that are removed alone ----------------------------------------------------------------


def test_a_folder_that_is_removed_alone_is_made_again(site, kind, caplog):
    """Under a worker that runs a call, a caller that waits for it, and one that calls."""
    worker = site.worker(kind, 2, **ENV).wait_for_start()
    echo = site.load("echo")
    for folder in Layout(str(site.root)).folders:
        marks = site.folder(os.path.basename(folder))
        held = site.call(site.tasks.hold, marks.folder)
        marks.wait_for_starts(1)
        remove(site, folder)
        assert site.call(echo.echo, 1).result(60) == 1, folder
        assert site.tasks.square(3).get(60)[0] == 9, folder
        marks.release()
        assert held.result(60), folder
        assert len(marks.pids("starts")) == 1, folder
        wait_until(lambda: len(site.files("workers")) == 3, "the worker is registered")

        def said(folder=folder):
            text = f"{folder} was removed, and is made again"
            return f"{worker.text()}{caplog.text}".count(text)

        if folder.endswith(NEEDED):
            wait_until(said, f"it is said of {folder}")  # by the one that was first, if not by now
        assert said() <= 1, worker.text()
    assert "Traceback" not in worker.text()


# In each of these the test waits for a file that comes afterwards.
NEEDED = ("tmp", "pending", "running", "done", "workers")


@pytest.mark.parametrize("folder", ["running", "done", "kept", "pending"])
def test_a_folder_within_one_that_is_removed_alone_is_made_again(site, kind, folder):
    """A worker's, a client's or a queue's."""
    site.worker(kind, 2, **ENV).wait_for_start()
    marks = site.folder("held")
    held = site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)
    assert site.tasks.square(2).get(60)[0] == 4
    for name in site.names(folder):
        remove(site, site.root / folder / name)
    marks.release()
    assert held.result(60)
    assert site.tasks.square(3).get(60)[0] == 9
