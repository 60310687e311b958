"""Workers in jobs of a real Grid Engine of this machine, launched from the command line.

`grid_engine.sh` starts and ends it, where FSQUEUE_GRID_ENGINE is set. It takes over the machine's
Grid Engine, so this must not be one that somebody uses.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from batch_site import BatchSite
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parent / "grid_engine.sh"
pytestmark = [
    pytest.mark.skipif(
        "FSQUEUE_GRID_ENGINE" not in os.environ or shutil.which("qconf") is None,
        reason="FSQUEUE_GRID_ENGINE is not set, or Grid Engine is not installed",
    ),
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("grid engine"),
]
TASKS = """
import os, time
import fsqueue

app = fsqueue.FSQueue("lab")


@app.task(max_attempts=1)
def where(number):
    return number, os.environ["SGE_TASK_ID"], fsqueue.current_invocation().attempt


@app.task(max_attempts=1)
def hold(folder, number):
    open(f"{folder}/start-{number}", "a").close()
    while not os.path.exists(f"{folder}/release"):
        time.sleep(0.05)
    return number, fsqueue.current_invocation().attempt
"""
PROFILES = """
app = "tasks:app"

[launch.cpu]
system = "sge"
walltime = "5m"
signal_before = "5s"
idle_timeout = "3s"
max = 4
runner = "thread"

[launch.short]
extends = "cpu"
walltime = "25s"
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[None]:
    up = subprocess.run([SCRIPT, "up"], capture_output=True, text=True, check=False)
    assert up.returncode == 0, up.stderr
    yield
    subprocess.run([SCRIPT, "down"], check=False)


def make_site(folder: Path) -> BatchSite:
    environ = {"SGE_ROOT": "/var/lib/gridengine"}
    return BatchSite(folder, TASKS, PROFILES, "qstat | awk 'NR > 2 {print $1}'", environ)


@pytest.fixture
def site(engine) -> Iterator[BatchSite]:
    site = make_site(Path(tempfile.mkdtemp(prefix="fsqueue-sge-")))
    yield site
    site.release()
    site.run("sh", "-c", "qdel -u '*' || true")
    site.wait_for_end()
    shutil.rmtree(site.folder)


def hold_two(site: BatchSite) -> None:
    site.python("[tasks.hold('.', number) for number in range(2)]; print(0)")


def test_an_array_of_four_jobs_does_two_hundred_calls(site):
    assert "submitted 4 jobs" in site.fsqueue("launch cpu --count 4 --wait --timeout 90")
    found = site.python(
        "print(json.dumps(tasks.where.parallelize([(n,) for n in range(200)]).get()))"
    )
    assert [number for number, _, _ in found] == list(range(200))
    assert {attempt for _, _, attempt in found} == {1}
    assert {task for _, task, _ in found} <= {"1", "2", "3", "4"}
    site.wait_for_end()  # without work, by the idle timeout
    kinds = json.loads(site.fsqueue("fleet show cpu --json"))
    assert len(kinds["jobs"]) <= 4


def test_a_deleted_job_gives_its_calls_back(site):
    hold_two(site)
    site.fsqueue("launch cpu")
    wait_until(lambda: site.starts() >= 1, what=site.logs, pause=0.1)
    (job,) = site.ids()
    site.run("qdel", job)
    site.wait_for_end()
    assert site.pending() == 2, site.logs()
    site.release()
    site.fsqueue("launch cpu")
    assert site.python("print(json.dumps([tasks.hold('.', n).get() for n in (5, 6)]))") == [
        [5, 1],
        [6, 1],
    ]
    wait_until(lambda: not site.pending(), what="the first calls are done, too")


def test_a_job_ends_before_its_time_limit(site):
    hold_two(site)
    site.fsqueue("launch short")
    wait_until(lambda: site.starts() >= 1, what=site.logs, pause=0.1)
    site.wait_for_end()
    assert site.pending() == 2, site.logs()
    assert "the job ends in" in site.logs()


def test_a_stop_of_the_fleet_cancels_what_waits_and_drains_what_runs(site):
    hold_two(site)
    site.fsqueue("launch cpu --count 2")
    wait_until(lambda: site.starts() >= 1, what=site.logs, pause=0.1)
    site.fsqueue("fleet stop cpu")
    site.wait_for_end()
    assert site.pending() == 2, site.logs()
    assert "giving the running calls back" in site.logs()


def test_a_wrong_queue_is_told_before_anything_is_submitted(site):
    (site.folder / "fsqueue.toml").write_text(PROFILES + 'batch_queue = "nowhere.q"\n')
    printed = site.fsqueue("launch short --dry-run", code=2)
    assert "nowhere.q" in printed
    assert "nowhere.q" in site.fsqueue("launch short", code=2)
    assert site.ids() == []
