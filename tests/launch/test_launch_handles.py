"""Fleets and local workers of a program: `app.launch`, `app.fleet`, `app.workers`."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest
from fake_cluster import FakeBatch

TASKS = """
import os

from fsqueue import FSQueue

app = FSQueue("demo")


@app.direct_task
def pid():
    return os.getpid()


@app.task
def double(number):
    return 2 * number
"""


@pytest.fixture
def run(tmp_path):
    """Runs a program beside the module `tasks`; returns what it prints."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "fsqueue.toml").write_text(
        f'root = "{tmp_path}/spool"\n[launch.cpu]\nsystem = "slurm"\nwalltime = "1h"\nmax = 3\n'
    )
    cluster = FakeBatch(str(tmp_path / "bin"), "slurm")

    def run(program):
        path = f"{cluster.folder}{os.pathsep}{os.defpath}"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.cluster = cluster
    return run


def test_local_workers_run_calls_and_leave_at_the_end_of_the_block(run):
    printed = run(
        "import tasks\n"
        "with tasks.app.workers(2, runner='thread', concurrency=1) as workers:\n"
        "    assert tasks.pid() in workers.pids\n"
        "    print(*workers.pids)\n"
    )
    pids = [int(pid) for pid in printed.split()]
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


_BAD_COUNTS = ["0", "-1", "10**10", "float('inf')", "float('nan')", "1.5", "True", "'2'", "None"]


def test_bad_values_for_local_workers_are_refused_before_one_starts(run):
    """Workers would fail again and again, or the list of them would fill the memory."""
    bad = [f"dict(count={count})" for count in _BAD_COUNTS]
    bad += [f"dict(concurrency={count})" for count in _BAD_COUNTS[:-1]]
    bad += ["dict(runner='fork')", "dict(queues='a/b')", "dict(queues=['a', ''])"]
    printed = run(
        "import tasks\n"
        "from fsqueue import ConfigError\n"
        f"for options in [{', '.join(bad)}]:\n"
        "    try: tasks.app.workers(**options)\n"
        "    except ConfigError as error: assert next(iter(options)) in str(error), error\n"
        "    else: print(options)\n"
    )
    assert printed == ""


def test_a_fleet_of_a_program_scales_and_ends_with_its_block(run):
    printed = run(
        "import time, tasks\n"
        "[tasks.double(number) for number in range(3)]\n"
        "with tasks.app.launch('cpu', max=2) as fleet:\n"
        "    while not any(job.id for job in fleet.jobs): time.sleep(0.05)\n"
        "    print(fleet.name, fleet.state, *[job.state for job in fleet.jobs])\n"
        "    print(fleet.wait(timeout=0.1))\n"
        "fleet = tasks.app.fleet('cpu')\n"
        "print(fleet.state)\n"
    )
    assert printed == "cpu open waiting\nFalse\nstopped\n"
    assert run.cluster.live() == {}
    assert len(run.cluster.every()) == 1


def test_a_fleet_can_outlive_its_program(run):
    run(
        "import time, tasks\n"
        "tasks.double(1)\n"
        "with tasks.app.launch('cpu', on_exit='keep') as fleet:\n"
        "    while not fleet.jobs: time.sleep(0.05)\n"
    )
    assert len(run.cluster.live()) == 1
    printed = run(
        "import tasks\n"
        "fleet = tasks.app.fleet('cpu')\n"
        "fleet.pause(); print(fleet.state); fleet.resume(); print(fleet.state)\n"
        "fleet.scale(1); fleet.stop(); print(fleet.state)\n"
    )
    assert printed == "paused\nopen\nstopped\n"
    assert run.cluster.live() == {}
