"""A warning before results fill the disk, on a small disk of the test's own."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys

import pytest
from support import open_store, wait_until

from fsqueue.config import load_config
from fsqueue.doctor.examine import examine
from fsqueue.doctor.findings import Verdict
from fsqueue.runner.loop.upkeep import Callbacks, Upkeep
from fsqueue.spool.worker import space
from fsqueue.spool.worker.registration import Worker

DAY = 86_400.0
pytestmark = pytest.mark.leaves_strays


def warning(store, result_ttl):
    return space.warning(store.fs, store.layout, store.clock.now(), result_ttl)


@pytest.fixture
def small(tmp_path):
    """A spool on a disk of 8 MiB."""
    root = tmp_path / "disk"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", root]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs to mount")
    store = open_store(root)
    store.files.sync_clock()
    yield store
    subprocess.run(["umount", "--lazy", root], check=True)


def keep(store, count, *, age=0.0):
    """Results of 100 kB each, as old as said."""
    folder = store.layout.kept_mailbox("abcdefgh")
    os.makedirs(folder, exist_ok=True)
    for _ in range(count):
        path = f"{folder}/abcdefgh-{len(os.listdir(folder))}"
        with open(path, "wb") as file:
            file.write(bytes(100_000))
        when = store.clock.now() - age
        os.utime(path, (when, when))


def test_few_results_are_no_reason_to_worry(small):
    assert warning(small, 7 * DAY) is None
    keep(small, 10, age=6 * DAY)
    assert warning(small, 7 * DAY) is None


def test_results_that_come_too_fast_are_told_of_while_most_of_the_disk_is_free(small):
    keep(small, 10, age=DAY / 4)
    text = warning(small, 7 * DAY)
    assert "about 1000.0 kB of" in text
    assert "(10 files)" in text
    assert re.search(r"is full in 4\d hours", text)
    assert "expire after 7 days" in text
    assert "fsqueue gc --older-than" in text
    assert warning(small, DAY / 2) is None  # they expire in time


def test_results_that_take_as_much_as_is_left_are_told_of_however_old(small):
    keep(small, 45, age=6.9 * DAY)
    assert "(45 files)" in warning(small, 7 * DAY)


def test_the_worker_in_charge_says_it(small, caplog):
    keep(small, 10, age=DAY / 4)
    worker = Worker(small, queues=("default",), runner="thread", concurrency=1)
    worker.register()
    upkeep = Upkeep(small, worker, load_config({"heartbeat": 0.1}), Callbacks())
    upkeep._lead()
    with caplog.at_level(logging.WARNING):
        upkeep._expire()
    assert "Set a shorter result_ttl" in caplog.text
    worker.deregister()


def test_the_cost_does_not_grow_with_the_results(small):
    for _ in range(2):
        keep(small, 5)
    folder = small.layout.kept_mailbox("abcdefgh")
    for number in range(1_000):
        with open(f"{folder}/abcdefgh-{10_000 + number}", "wb"):
            pass
    wait_until(lambda: space.measure(small.fs, small.layout, small.clock.now()).files == 1_010)


def test_status_says_it(small):
    keep(small, 10, age=DAY / 4)
    command = [sys.executable, "-m", "fsqueue", "status", "--root", small.layout.root]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Set a shorter result_ttl" in shown


def test_the_doctor_says_it(small):
    keep(small, 10, age=DAY / 4)
    root = small.layout.root
    report = examine(root)
    (finding,) = [each for each in report.findings if each.name == "results"]
    assert finding.verdict is Verdict.WEAK
    assert "(10 files)" in finding.measured
    assert "Set a shorter result_ttl" in finding.advice

    (finding,) = [
        each for each in examine(root, result_ttl=DAY / 2).findings if each.name == "results"
    ]
    assert finding.verdict is Verdict.OK


def test_the_doctor_names_the_configured_directory_when_it_asks_for_one(
    fsqueue, spool, monkeypatch
):
    monkeypatch.setenv("FSQUEUE__ROOT", spool)
    done = fsqueue("doctor", root=False, expect=2)
    assert f"Give ROOT, such as {spool}, or --launch" in done.stderr


def test_the_doctor_looks_for_no_results_without_a_spool(tmp_path):
    assert "results" not in [each.name for each in examine(str(tmp_path)).findings]
