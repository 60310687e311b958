"""What the command says, above all about mistakes."""

import sys

import pytest

import fsqueue


def complaint(site, *arguments, **env):
    """What a worker that cannot start says: one line, and no traceback."""
    result = site.fsqueue("worker", *arguments, **env)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("fsqueue: ")
    return line


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("nowhere:app", ["no module 'nowhere'", "PYTHONPATH"]),
        ("nowhere.at.all:app", ["no module 'nowhere.at.all'", "PYTHONPATH"]),
        ("tasks.app", ["no module 'tasks.app'"]),
        ("tasks:application", ["tasks has no FSQueue called 'application'", "app"]),
        ("tasks:pid", ["tasks has no FSQueue called 'pid'", "app"]),
        ("tasks.py", ["is a path", "'tasks'"]),
        ("tasks.py:app", ["is a path", "'tasks'"]),
        ("./tasks.py", ["is a path", "tasks"]),
        ("plain", ["exactly one FSQueue", "none"]),
        ("plain:app", ["no FSQueue called 'app'", "none"]),
        ("several", ["exactly one FSQueue", "several:red", "several:blue"]),
        (":app", ["module"]),
        (".tasks:app", ["module"]),
        ("", ["module"]),
    ],
)
def test_an_application_that_is_not_there(site, target, parts):
    line = complaint(site, target)

    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("FSQUEUE__RUNNER", "fork", ["FSQUEUE__RUNNER", "'fork'", "'process' or 'thread'"]),
        ("FSQUEUE__CONCURRENCY", "0", ["FSQUEUE__CONCURRENCY", "'0'", ">= 1"]),
        ("FSQUEUE__CONCURRENCY", "many", ["FSQUEUE__CONCURRENCY", "'many'", "whole number"]),
        ("FSQUEUE__HEARTBAET", "1", ["FSQUEUE__HEARTBAET", "did you mean FSQUEUE__HEARTBEAT"]),
        ("FSQUEUE__LEASE", "1", ["FSQUEUE__LEASE", "at least 6"]),
        ("FSQUEUE__ROOT", "/proc/nowhere", ["/proc/nowhere", "FSQUEUE__ROOT"]),
        ("FSQUEUE__ROOT", "/dev/null", ["/dev/null", "FSQUEUE__ROOT"]),
    ],
)
def test_a_bad_setting(site, name, value, parts):
    line = complaint(site, "tasks:app", **{name: value})

    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["worker", "tasks:app", "--concurrency", "0"], "--concurrency"),
        (["worker", "tasks:app", "--concurrency", "many"], "--concurrency"),
        (["worker", "tasks:app", "--runner", "fork"], "--runner"),
        (["worker"], "which application?"),
        (["wroker", "tasks:app"], "wroker"),
    ],
)
def test_a_bad_option(site, arguments, part):
    result = site.fsqueue(*arguments)

    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert part in result.stderr


def test_a_module_that_imports_a_missing_one_shows_where(site):
    result = site.fsqueue("worker", "dependent:app")

    assert result.returncode != 0
    assert "a_package_that_nobody_has" in result.stderr
    assert "dependent.py" in result.stderr, "where: that needs the traceback"


def test_mistakes_leave_no_worker(site):
    complaint(site, "tasks:nothing")

    assert not site.root.exists()


def test_the_version(site):
    result = site.fsqueue("version")

    assert (result.returncode, result.stdout, result.stderr) == (0, f"{fsqueue.__version__}\n", "")


def test_help(site):
    result = site.fsqueue("worker", "--help")

    assert result.returncode == 0
    assert "--concurrency" in result.stdout
    assert "SIGTERM" in result.stdout


def test_a_module_with_one_application_can_be_named_alone(site):
    command = (sys.executable, "-m", "fsqueue", "worker", "tasks")
    worker = site.start(*command).wait_for_start()

    assert site.call(site.tasks.pid).result(60) == worker.pid
