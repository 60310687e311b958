"""Tokens beside what the application does: its signals, its leases and its forks."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pushing import ENV
from support import PATIENCE

pytestmark = [
    pytest.mark.concurrent,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases"),
]

BESIDE = """
import fcntl, os, signal, sys, threading, time
from fsqueue.spool.wakeups.recalls import Recalls, recalls

caught = []
handled = [signal.SIGIO, signal.SIGUSR1, signal.SIGRTMAX, signal.SIGRTMAX - 1, signal.SIGRTMIN]
for number in handled:
    signal.signal(number, lambda number, _: caught.append(number))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMAX - 2})
signal.signal(signal.SIGRTMAX - 3, signal.SIG_IGN)

from pushing import Mounted
fs, woken = Mounted(), threading.Event()
path, own = sys.argv[1] + "/token", sys.argv[1] + "/own"
open(own, "w").close()
armed = threading.Event()

def arm(told):
    global told_by
    told_by = told
    recalls().hold(fs.lease(path, told), woken.set)
    armed.set()

recalls().submit(arm)
assert armed.wait(60)
assert told_by.signal == signal.SIGRTMAX - 4, told_by
assert signal.getsignal(told_by.signal) == signal.SIG_DFL
mine = os.open(own, os.O_RDONLY)
fcntl.fcntl(mine, 1024, fcntl.F_RDLCK)  # the application's lease, and SIGIO
fs.ring_token(path)
assert woken.wait(60)
assert caught == [], caught
fs.ring_token(own)
for number in handled[1:]:
    os.kill(os.getpid(), number)
until = time.monotonic() + 60
while sorted(caught) != sorted(handled) and time.monotonic() < until:
    time.sleep(0.01)
assert sorted(caught) == sorted(handled), caught
assert signal.sigpending() == set()
print("well")
"""


def check_script(script, folder):
    """Run a program that prints "well" at its end."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        check=False,
        timeout=PATIENCE,
        env=ENV,
    )
    assert done.stdout == b"well\n", done.stderr.decode()


def test_signals_and_leases_of_the_application_stay_its_own(tmp_path):
    check_script(BESIDE, tmp_path)


FORK = """
import os, sys, threading
from pushing import Mounted
from fsqueue import FSQueue
from fsqueue.spool.wakeups.recalls import recalls

fs = Mounted()

def sleeps(path):
    armed, woken = threading.Event(), threading.Event()
    def arm(told):
        recalls().hold(fs.lease(path, told), woken.set)
        armed.set()
    recalls().submit(arm)
    assert armed.wait(60)
    return woken

parents, childs = sys.argv[1] + "/parent", sys.argv[1] + "/child"
woken = sleeps(parents)
before = len(os.listdir("/proc/self/fd"))
pid = os.fork()
if pid == 0:
    assert len(os.listdir("/proc/self/fd")) == before - 1, "it has its parent's lease"
    mine = sleeps(childs)
    fs.ring_token(parents)
    fs.ring_token(childs)
    assert mine.wait(60) and not woken.is_set()
    os._exit(7)
assert woken.wait(60)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
print("well")
"""


def test_a_forked_child_leaves_its_parent_s_tokens_and_has_its_own(tmp_path):
    check_script(FORK, tmp_path)
