"""`fsqueue up`: supervised workers on this machine, in the foreground and in the background."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from command_server import of_interpreters, run
from support import PATIENCE, wait_until

TASKS = """
import os

from fsqueue import FSQueue

app = FSQueue("demo")


@app.direct_task
def pid():
    return os.getpid()
"""


class Site:
    """A project with one application, and a spool."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "tasks.py").write_text(TASKS)
        self.environ = {
            "HOME": str(folder),
            "PATH": os.defpath,
            "FSQUEUE__ROOT": str(folder / "spool"),
        }

    def command(self, *words):
        return {
            "args": [sys.executable, "-m", "fsqueue", *words],
            "cwd": self.folder,
            "env": self.environ,
            "text": True,
        }

    def run(self, *words):
        return run(words, str(self.folder), of_interpreters() | self.environ, PATIENCE)

    def fsqueue(self, *words):
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def call(self):
        """The process that runs a call."""
        program = "import tasks; print(tasks.pid())"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return int(done.stdout)

    def workers(self):
        done = self.run("workers", "--json")
        found = json.loads(done.stdout)["workers"] if done.returncode == 0 else []
        return [each["name"] for each in found if each["state"] == "alive"]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def up(site):
    """Two workers in the foreground."""
    command = site.command("up", "tasks:app", "-n", "2", "--runner", "thread")
    with subprocess.Popen(**command, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            wait_until(lambda: len(site.workers()) == 2)
            yield process
        finally:
            process.kill()  # its workers leave with it


def test_ctrl_c_drains_all_workers(site, up):
    workers = psutil.Process(up.pid).children()
    assert site.call() in {worker.pid for worker in workers}
    assert "running" in site.fsqueue("fleet", "show", "local")
    up.send_signal(signal.SIGINT)
    _, errors = up.communicate(timeout=60)
    assert up.returncode == 0
    assert errors.count("has left; calls claimed") == 2
    assert site.workers() == []
    assert "running" not in site.fsqueue("fleet", "show", "local")


def test_a_killed_worker_is_replaced(site, up):
    victim = site.call()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in {site.call() for _ in range(3)})
    wait_until(lambda: len(site.workers()) == 2)


def test_the_workers_leave_with_their_supervisor(site, up):
    workers = psutil.Process(up.pid).children()
    up.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_workers_in_the_background_end_by_a_stop_of_the_fleet(site):
    printed = site.fsqueue("up", "tasks:app", "-n", "2", "--runner", "thread", "--detach")
    assert printed.startswith("2 workers in the background (")
    pid = int(printed.partition(")")[0].rpartition(":")[2])
    supervisor = psutil.Process(pid)
    site.call()
    assert "running" in site.fsqueue("fleet", "show", "local")
    assert "fleet local stops" in site.fsqueue("fleet", "stop", "local")
    supervisor.wait(60)
    assert site.workers() == []
    assert "has left" in site.fsqueue("fleet", "logs", "local")
    # A stop holds for those that ran then.
    site.fsqueue("up", "tasks:app", "--runner", "thread", "--detach")
    site.call()
    site.fsqueue("fleet", "stop", "local", "--now")
    wait_until(lambda: site.workers() == [])


def test_a_wrong_option_is_told_before_anything_starts(site):
    done = site.run("up", "tasks:app", "--queue", "a b")
    assert done.returncode == 2
    assert "--queue a b: expected a name" in done.stderr
    assert not (site.folder / "spool").exists()
