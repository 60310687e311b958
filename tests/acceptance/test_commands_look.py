"""Commands that inspect, submit and wait, as a user gives them: real processes on one spool."""

import contextlib
import json
import os
import pty
import select
import signal
import sys

import pytest
from acceptance_harness import Site, wait_until

from fsqueue.cli import exits


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A site whose worker the tests of this module share."""
    site = Site(tmp_path_factory.mktemp("served"))
    try:
        site.open()
        site.first = site.worker("thread", 3).wait_for_start()
        yield site
    finally:
        site.close()


def answer(site, *arguments, expect=exits.OK):
    """The JSON document that a command prints, and nothing else."""
    done = site.fsqueue(*arguments, "--json")
    assert (done.returncode, done.stderr) == (expect, "")
    return json.loads(done.stdout)


def test_a_call_by_hand(served):
    done = served.fsqueue("submit", "square", "--app", "tasks", "--arg", "7", "--wait")
    assert (done.returncode, done.stderr) == (exits.OK, "")
    assert done.stdout == f"(49, {served.first.pid})\n"


def test_a_call_by_hand_that_fails(served):
    done = served.fsqueue(
        "submit", "tasks.reject", "--app", "tasks:app", "--kwarg", 'text="so sorry"', "--wait"
    )
    assert (done.returncode, done.stdout) == (exits.NEGATIVE, "")
    assert "LookupError: so sorry" in done.stderr
    assert "tasks.py" in done.stderr


def test_from_submission_to_result(served):
    marks = served.folder("followed")
    invocation_id = answer(
        served, "submit", "hold_later", "--app", "tasks", "--arg", json.dumps(marks.folder)
    )["id"]
    marks.wait_for_starts(1)
    (worker,) = answer(served, "workers")["workers"]
    assert (worker["pid"], worker["state"]) == (served.first.pid, "alive")
    assert [call["id"] for call in worker["running"]] == [invocation_id]
    seen = answer(served, "show", invocation_id)
    assert (seen["state"], seen["worker"]) == ("running", worker["name"])
    marks.release()
    done = served.fsqueue("wait", invocation_id, "--timeout", "60")
    assert (done.returncode, done.stdout) == (exits.OK, f"{invocation_id} succeeded\n")
    assert answer(served, "result", invocation_id)["value"] == served.first.pid
    calls = answer(served, "list", "--state", "succeeded", "--task", "tasks.hold_later")["calls"]
    assert [call["id"] for call in calls] == [invocation_id]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["square", "--arg", "seven"], "not JSON"),
        (["square", "--arg", "1", "--arg", "2"], "square()"),
        (["square", "--kwarg", "7"], "NAME=JSON"),
    ],
)
def test_calls_that_cannot_be_made(served, arguments, part):
    done = served.fsqueue("submit", "--app", "tasks", *arguments)
    assert done.returncode == exits.USAGE
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_a_task_that_is_not_there(served):
    done = served.fsqueue("submit", "--app", "tasks", "cube")
    assert done.returncode == exits.NOT_FOUND
    assert "tasks.square" in done.stderr


def test_a_reader_that_has_seen_enough(served):
    command = "python -m fsqueue list --json | true; exit ${PIPESTATUS[0]}"
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    done = served.run("bash", "-c", command, PATH=path)
    assert "Traceback" not in done.stderr
    assert "shared directory" not in done.stderr


def test_top_shows_the_status_until_ctrl_c(served):
    """On a real terminal, as its control sequences are part of it."""
    command = [sys.executable, "-m", "fsqueue", "top", "--interval", "0.1"]
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.chdir(served.project)
            os.execve(command[0], command, served.env | {"COLUMNS": "120", "TERM": "xterm"})
        finally:
            os._exit(99)
    shown = bytearray()

    def is_shown():
        if select.select([terminal], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):  # its other end is closed
                shown.extend(os.read(terminal, 65536))
        return shown.count(b"acceptance.default") >= 3

    try:
        wait_until(is_shown, lambda: f"three times the queue: {shown}")
        os.kill(pid, signal.SIGINT)
        status = wait_until(lambda: ended(pid, terminal), "top ends")
        assert os.waitstatus_to_exitcode(status[1]) == exits.OK
    finally:
        os.close(terminal)


def ended(pid, terminal):
    """Whether a process has ended; reads on, or its last words would hold it up."""
    if select.select([terminal], [], [], 0)[0]:
        with contextlib.suppress(OSError):  # its other end is closed
            os.read(terminal, 65536)
    found = os.waitpid(pid, os.WNOHANG)
    return found if found[0] else None
