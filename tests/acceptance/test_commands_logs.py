"""Output and progress of bodies, as the commands show them: real processes on one spool."""

import contextlib
import json
import os
import pty
import select
import signal
import sys

import pytest
from acceptance_harness import wait_until

from fsqueue.cli import exits
from fsqueue.spool.disk.mounts import filesystem_type, is_remote


def document(site, *arguments, expect=exits.OK):
    done = site.fsqueue(*arguments, "--json")
    assert (done.returncode, done.stderr) == (expect, ""), done
    return json.loads(done.stdout)


def test_from_the_first_line_to_the_last(site, kind):
    site.worker(kind, 2).wait_for_start()
    marks = site.folder("chat")
    call = site.tasks.chat(marks.folder)
    marks.wait_for_starts(1)
    wait_until(lambda: "a warning" in call.output, "the output comes")
    wait_until(lambda: call.reported, "the report comes")

    following = site.start(sys.executable, "-m", "fsqueue", "logs", call.id, "--follow")
    wait_until(lambda: "a warning" in following.output(), "the output is followed")
    shown = document(site, "show", call.id)
    assert shown["progress"] == {"done": 1.0, "total": 4.0, "message": "a \x1b quarter"}
    assert shown["output"] == "first \x1b[31mline\nWARNING chat: a warning\n"
    wait_until(lambda: "25% (1/4)" in site.fsqueue("status").stdout, "a worker counts")
    (worker,) = document(site, "status")["workers"]
    assert worker["running"][0]["progress"]["done"] == 1.0
    status = site.fsqueue("status").stdout
    assert "25% (1/4) a \\x1b quarter" in status
    assert "\x1b" not in status

    marks.release()
    call.get(timeout=60)
    assert following.wait() == exits.OK
    lines = ["first \\x1b[31mline", "WARNING chat: a warning"]
    # A thread of a body is known as such where nothing else runs in its process.
    lines += ["last line, of a thread"] * (kind == "process")
    assert following.output().splitlines() == lines
    done = site.fsqueue("logs", call.id)
    assert (done.returncode, done.stdout.splitlines()) == (exits.OK, lines)
    assert "\noutput\nfirst" in site.fsqueue("show", call.id).stdout
    assert "progress" not in document(site, "show", call.id)
    assert site.names("progress") == []


def test_nothing_to_show(site):
    site.worker().wait_for_start()
    call = site.tasks.app.tasks["tasks.square"](3)
    call.get(timeout=60)
    done = site.fsqueue("logs", call.id)
    assert (done.returncode, done.stdout) == (exits.OK, "")
    assert "Does its task have the option capture_output?" in done.stderr
    assert document(site, "logs", call.id) == {"id": call.id, "attempt": 1, "output": ""}
    assert site.fsqueue("logs", call.id, "--follow").stdout == ""
    for arguments in (["abcd-99"], ["abcd-99", "--follow"]):
        assert site.fsqueue("logs", *arguments).returncode == exits.NOT_FOUND
    for arguments in (["no id"], [call.id, "--follow", "--json"]):
        assert site.fsqueue("logs", *arguments).returncode == exits.USAGE


def test_after_a_kill_the_report_goes_and_the_output_stays(site, kind):
    first = site.worker(kind, 1).wait_for_start()
    marks = site.folder("die")
    call = site.tasks.chat_and_die(marks.folder)
    (pid,) = marks.wait_for_starts(1)
    wait_until(
        lambda: call.output == "attempt 1\n" and call.reported, "its first output and progress"
    )
    assert site.names("progress") == [f"{call.id}.1"]
    second = first if kind == "process" else site.worker(kind, 1).wait_for_start()
    os.kill(pid, signal.SIGKILL)
    marks.wait_for_starts(2)
    wait_until(lambda: site.names("progress") == [f"{call.id}.2"], "only the new report is there")
    wait_until(lambda: call.output == "attempt 2\n", "the new output is there")
    following = site.start(sys.executable, "-m", "fsqueue", "logs", call.id, "--follow")
    wait_until(lambda: "attempt 2" in following.output(), "it is followed")
    marks.release()
    call.get(timeout=60)
    assert following.wait() == exits.OK
    assert following.output().splitlines() == ["attempt 1", "attempt 2"]
    done = site.fsqueue("logs", call.id, "--attempt", "1")
    assert done.stdout == "attempt 1\n"
    wait_until(lambda: site.names("progress") == [], "no report is left")
    assert second.popen.poll() is None


# -- the log of the worker -----------------------------------------------------------------


def test_json_lines_with_tags(site, kind):
    worker = site.start(
        *(sys.executable, "-m", "fsqueue", "worker", "tasks:app", "--runner", kind),
        *("--log-format", "json"),
        FSQUEUE__WORKER__LOG_CALLS="1",
    ).wait_for_start()
    call = site.tasks.app.tasks["tasks.square"](3)
    call.get(timeout=60)
    worker.wait_for_log(" has succeeded ")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == exits.OK
    records = [json.loads(line) for line in worker.text().splitlines()]
    assert {record["level"] for record in records} == {"INFO"}
    about = [record for record in records if record["logger"] == "fsqueue.calls"]
    assert [record["message"].split()[2] for record in about] == ["started:", "succeeded"]
    for record in about:
        assert (record["invocation"], record["attempt"]) == (call.id, 1)
        assert record["task"] == "tasks.square"
        assert record["worker"]
        assert record["time"].endswith("Z")


def beats(site):
    return [path.stat().st_mtime_ns for path in (site.root / "workers").glob("*.beat")]


def test_a_worker_that_has_nothing_to_do_logs_nothing(site):
    worker = site.worker(FSQUEUE__POLL_INTERVAL="0.05", FSQUEUE__HEARTBEAT="0.1").wait_for_start()
    site.tasks.app.tasks["tasks.square"](3).get(timeout=60)
    # It has checked its queue twice as often.
    for _ in range(5):
        former = beats(site)
        wait_until(lambda former=former: beats(site) != former, "it beats")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == exits.OK
    lines = [line.split(" INFO ")[1].split()[0] for line in worker.text().splitlines()]
    root = str(site.root)
    # Where its root is, if other hosts cannot see that; it serves; it stops; it has left.
    notice = [root] if filesystem_type(root) and not is_remote(root) else []
    assert lines == [*notice, "worker", "stopping", "worker"]


# -- on a terminal ---------------------------------------------------------------------------


@contextlib.contextmanager
def on_a_terminal(site, *command):
    """Run a command whose standard error is a terminal; yields what that has shown so far."""
    leader, follower = pty.openpty()
    env = {"TERM": "xterm", "COLUMNS": "200", "LINES": "50"}
    process = None
    try:
        process = site.start("sh", "-c", 'exec "$@" 2>"$0"', os.ttyname(follower), *command, **env)
        shown = bytearray()

        def screen():
            while select.select([leader], [], [], 0)[0]:
                try:
                    shown.extend(os.read(leader, 1 << 16))
                except OSError:
                    break
            return shown.decode("utf-8", "replace")

        yield process, screen
    finally:
        if process is not None:
            process.kill()
        os.close(follower)
        os.close(leader)


WAIT = """
import sys, tasks
group = tasks.app.tasks["tasks.chat"].parallelize([(folder,) for folder in sys.argv[1:]])
list(tasks.app.track(group, "chatting"))
"""


@pytest.mark.parametrize(
    "way", ["list(tasks.app.track(group, 'chatting'))", "group.progress('chatting')"]
)
def test_a_bar_counts_what_has_ended_and_shows_what_runs(site, way):
    site.worker("thread", 2).wait_for_start()
    both = [site.folder(name) for name in ("one", "two")]
    program = WAIT.replace('list(tasks.app.track(group, "chatting"))', way)
    command = (sys.executable, "-c", program, *(marks.folder for marks in both))
    with on_a_terminal(site, *command) as (caller, screen):
        wait_until(lambda: "0/2" in screen() and "a ? quarter" in screen(), screen)
        both[0].release()
        wait_until(lambda: "1/2" in screen(), screen)
        both[1].release()
        assert caller.wait() == 0
        wait_until(lambda: "2/2" in screen(), screen)
        assert "chatting" in screen()
        assert caller.output() == ""


def test_the_log_is_coloured_on_a_terminal(site):
    command = (sys.executable, "-m", "fsqueue", "worker", "tasks:app")
    with on_a_terminal(site, *command) as (worker, screen):
        wait_until(lambda: "serves" in screen(), screen)
        assert "\x1b[" in screen()
        worker.signal(signal.SIGTERM)
        assert worker.wait() == exits.OK
