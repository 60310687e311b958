"""Callers, workers and commands whose working directory was removed."""

import os
import shlex
import signal
import sys

import psutil
import pytest
from acceptance_harness import wait_until
from cli_reference import commands

FSQUEUE = (sys.executable, "-m", "fsqueue")
NOBODY = "aaaabbbb-1"
# How each command is called, and how it ends in this spool, which has one finished call.
CALLS = {
    "worker": (("no_such_module",), 2),
    "doctor": (("ROOT",), None),
    "up": (("--app", "nowhere:app"), 2),
    "launch": (("nothing",), 2),
    "autoscale": (("nothing", "--once"), 2),
    "fleet": (("--help",), 0),
    "fleet list": ((), 0),
    **{f"fleet {name}": (("nobody",), 3) for name in ("show", "logs", "pause", "resume", "stop")},
    "fleet scale": (("nobody", "2"), 3),
    "fleet forget": (("nobody",), 3),
    "status": ((), 0),
    "top": (("--once",), None),
    "workers": ((), 0),
    "stats": ((), 0),
    "metrics": ((), None),
    "failures": ((), 0),
    "runs": ((), 0),
    "report": (("--json",), 0),
    "monitor": (("--help",), 0),  # otherwise it serves until it is stopped
    "list": ((), 0),
    "show": (("ID",), 0),
    "logs": (("ID",), None),
    "wait": (("ID",), 0),
    "result": (("ID",), 0),
    "submit": (("square", "--app", "tasks:app", "--arg", "3"), 0),
    "emit": (("happened", "--app", "tasks:app"), 0),
    "triggers": (("--app", "tasks:app"), 0),
    "cancel": ((NOBODY,), 3),
    "retry": ((NOBODY,), 3),
    "requeue": ((NOBODY,), None),
    "pause": (("acceptance.default",), 0),
    "resume": (("acceptance.default",), 0),
    "purge": (("acceptance.default", "--yes"), 0),
    "drain": (("nobody",), None),
    "gc": (("--yes",), None),
    "config": ((), 0),
    "version": ((), 0),
    "completion": (("zsh",), 0),  # for bash it runs bash, which prints a warning there
}


def in_removed(site, command):
    """A command line that first removes the directory it is started in."""
    folder = site.base / "gone"
    folder.mkdir(exist_ok=True)
    steps = f"cd {shlex.quote(str(folder))} && rmdir ../gone && exec {shlex.join(command)}"
    return ("sh", "-c", steps)


def run_removed(site, *command, **env):
    return site.run(*in_removed(site, command), **{"PYTHONPATH": str(site.project)} | env)


def test_each_command_has_a_call_here():
    assert set(CALLS) == set(commands())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A site whose spool has one finished call."""
    from acceptance_harness import Site

    site = Site(tmp_path_factory.mktemp("removed"))
    try:
        site.open()
        worker = site.worker("thread", 1).wait_for_start()
        call = site.tasks.square(3)
        assert call.get(timeout=60)[0] == 9
        worker.signal(signal.SIGTERM)
        worker.wait()
        site.call_id = call.id
        yield site
    finally:
        site.close()


@pytest.mark.parametrize("name", commands())
def test_a_command_works_or_says_what_happened(finished, name):
    arguments, status = CALLS[name]
    known = {"ID": finished.call_id, "ROOT": str(finished.root)}
    arguments = [known.get(each, each) for each in arguments]
    done = run_removed(finished, *FSQUEUE, *name.split(), *arguments)
    assert "Traceback" not in done.stderr, done.stderr
    assert "the shared directory fails" not in done.stderr
    assert "No such file or directory" not in done.stderr
    if status is not None:
        assert done.returncode == status, done.stderr
    if name == "worker":
        assert "the current directory was removed" in done.stderr


def test_a_command_without_application_and_root_says_what_happened(finished):
    done = run_removed(finished, *FSQUEUE, "status", FSQUEUE__ROOT="")
    assert done.returncode == 2
    assert "which application? the current directory was removed. Run this in" in done.stderr


@pytest.mark.parametrize("setting", ["FSQUEUE__ROOT", "FSQUEUE__SIGNING_KEY_FILE"])
def test_a_relative_path_is_refused_with_its_source(finished, setting):
    code = "import tasks"
    done = run_removed(finished, sys.executable, "-c", code, **{setting: "queue"})
    assert done.returncode == 1
    assert f"environment variable {setting}" in done.stderr
    assert "a relative path, and the current directory was removed" in done.stderr
    done = run_removed(finished, *FSQUEUE, "status", "--root", "queue")
    assert done.returncode == 2
    assert "a relative path, and the current directory was removed" in done.stderr


def test_callers_and_workers_in_a_removed_directory(site, kind):
    command = (*FSQUEUE, "worker", "tasks:app", "--runner", kind, "--concurrency", "2")
    worker = site.start(*in_removed(site, command), PYTHONPATH=str(site.project))
    worker.wait_for_start()
    code = "from tasks import pid, square; print(pid(), square(4).get(timeout=60)[0])"
    done = run_removed(site, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "16"
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_directory_that_is_removed_while_the_worker_runs(site):
    """A process of a slot that dies later is replaced all the same."""
    folder = site.base / "scratch"
    folder.mkdir()
    command = (*FSQUEUE, "worker", "tasks:app", "--runner", "process", "--concurrency", "1")
    steps = f"cd {shlex.quote(str(folder))} && exec {shlex.join(command)}"
    worker = site.start("sh", "-c", steps, PYTHONPATH=str(site.project)).wait_for_start()
    first = site.tasks.pid()
    os.rmdir(folder)
    assert site.tasks.pid() == first
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(first), "the process is gone")
    assert site.tasks.pid() != first
    assert "the current directory was removed: a new process slot" in worker.text()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
