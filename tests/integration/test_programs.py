"""Programs that start while another thread forks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fsqueue.environment import programs

# Forked processes that live on, as those of a pool do, while programs start in another thread.
FORKS = """
import os, signal, subprocess, sys, threading
from fsqueue.environment import programs

def start_all():
    for _ in range(25):
        programs.start(["true"]).wait()
        programs.run(["true"], timeout=60)

children = []
thread = threading.Thread(target=start_all, daemon=True)
thread.start()
while thread.is_alive() and len(children) < 100:
    child = os.fork()
    if not child:
        signal.pause()
    children.append(child)
thread.join(60)
stuck = thread.is_alive()
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
os._exit(stuck)
"""


@pytest.mark.concurrent
def test_a_fork_of_another_thread_holds_up_no_start():
    assert subprocess.run([sys.executable, "-c", FORKS], check=False, timeout=120).returncode == 0


def test_a_program_that_does_not_end_is_killed():
    with pytest.raises(subprocess.TimeoutExpired):
        programs.run(["sleep", "3600"], timeout=0.1)


def test_a_program_gets_its_input_and_returns_its_output():
    done = programs.run(["sh", "-c", "cat; echo error >&2; exit 3"], text=b"input", timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"input", b"error\n")


def test_a_missing_program_is_an_os_error():
    with pytest.raises(FileNotFoundError):
        programs.run(["no_such_program"], timeout=60)
