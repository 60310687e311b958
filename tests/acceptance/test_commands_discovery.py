"""How a command finds its application and its spool, and its errors if there is none."""

import json
import os
import pty
import subprocess

import pytest
from acceptance_harness import FSQUEUE

from fsqueue.cli import exits
from fsqueue.cli.finding.guess import applications_in
from fsqueue.spool.disk.mounts import filesystem_type, is_remote

APP = 'from fsqueue import FSQueue\n\n{name} = FSQueue("{id}", root="{root}")\n'
BOMB = "raise SystemExit('this must not be imported')\n"

SOURCE = """from fsqueue import FSQueue

{name} = FSQueue("{name}", root={root!r})


@{name}.task
def double(number):
    return 2 * number
"""


@pytest.fixture
def folder(site, tmp_path):
    """An empty current folder, and no shared directory in the environment."""
    del site.env["FSQUEUE__ROOT"]
    site.project = tmp_path / "here"
    site.project.mkdir()
    return site.project


def configured_root(site, *arguments):
    done = site.fsqueue("config", "--json", *arguments)
    assert done.returncode == exits.OK, done.stderr
    return json.loads(done.stdout)["settings"]["root"]["value"]


def write(folder, file, **values):
    (folder / file).write_text(APP.format(**values), "utf-8")


def test_the_only_application_of_the_folder(site, folder):
    write(folder, "work.py", name="queue", id="w", root="mine")
    (folder / "other.py").write_text(BOMB + "# FSQueue(\n", "utf-8")
    write(folder, "test_work.py", name="app", id="t", root="not-this")
    assert configured_root(site) == str(folder / "mine")


def test_the_one_that_the_configuration_names(site, folder):
    write(folder, "one.py", name="app", id="a", root="first")
    write(folder, "two.py", name="app", id="b", root="second")
    (folder / "fsqueue.toml").write_text('app = "two:app"\n', "utf-8")
    assert configured_root(site) == str(folder / "second")
    assert configured_root(site, "--app", "one") == str(folder / "first")
    assert configured_root(site, "--root", "third") == str(folder / "third")


def test_source_is_read_and_not_run(tmp_path):
    sources = {
        "plain.py": "import fsqueue\nplain: object = fsqueue.FSQueue()\n" + BOMB,
        "twice.py": "from fsqueue import FSQueue\na = b = FSQueue()\n",
        "within.py": "def make():\n    app = FSQueue()\n",
        "broken.py": "app = FSQueue(\n",
        "not-a-module.py": "app = FSQueue()\n",
        "conftest.py": "app = FSQueue()\n",
        "binary.py": "FSQueue\0",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "folder.py").mkdir()
    assert applications_in(str(tmp_path)) == ["plain:plain", "twice:a", "twice:b"]


def test_config_tells_where_task_options_come_from(site):
    done = site.fsqueue("config", "--app", "tasks", "--json", FSQUEUE__TASK__TIMEOUT="9")
    tasks = json.loads(done.stdout)["tasks"]
    assert tasks["tasks.crash_for_good"]["max_attempts"] == {"value": 1, "source": "decorator"}
    source = "environment variable FSQUEUE__TASK__TIMEOUT"
    assert tasks["tasks.square"]["timeout"] == {"value": 9.0, "source": source}
    assert tasks["tasks.square"]["priority"] == {"value": 5, "source": "default"}
    text = site.fsqueue("config", "--app", "tasks").stdout
    (row,) = [line for line in text.splitlines() if line.startswith("tasks.crash_for_good ")]
    assert row.split() == ["tasks.crash_for_good", "max_attempts", "1", "decorator"]


# -- the same rules for every command --------------------------------------------------------


@pytest.fixture
def write_app(folder, tmp_path):
    def write(name, where=folder):
        where.mkdir(exist_ok=True)
        (where / f"{name}.py").write_text(
            SOURCE.format(name=name, root=str(tmp_path / name)), "utf-8"
        )

    return write


def served(site, *arguments, **env):
    """What a worker without an application serves, and the log."""
    worker = site.start(*FSQUEUE, "worker", *arguments, "--until-empty", **env)
    assert worker.wait() == exits.OK, worker.text()
    return worker.text()


def test_a_worker_serves_the_only_application_of_the_folder(site, folder, write_app):
    write_app("work")
    text = served(site)
    assert f"application work:work, the only one in {folder}" in text
    assert f" serves {folder.parent / 'work'} " in text


def test_a_worker_serves_the_application_of_the_file(site, folder, write_app):
    write_app("one")
    write_app("two")
    file = folder / "fsqueue.toml"
    file.write_text('app = "two"\n', "utf-8")
    text = served(site)
    assert f"application two, named by {file}" in text
    assert f" serves {folder.parent / 'two'} " in text
    assert "application one, named by FSQUEUE__APP" in served(site, FSQUEUE__APP="one")


@pytest.mark.parametrize("arguments", [("one",), ("--app", "one")])
def test_the_command_line_goes_before_all_and_needs_no_notice(site, folder, write_app, arguments):
    write_app("one")
    write_app("two")
    (folder / "fsqueue.toml").write_text('app = "two"\n', "utf-8")
    text = served(site, *arguments, FSQUEUE__APP="two")
    assert f" serves {folder.parent / 'one'} " in text
    assert "application one" not in text


@pytest.mark.parametrize("named", [True, False])
def test_the_folder_of_the_file_counts_in_the_folders_below_it(site, folder, write_app, named):
    write_app("work")
    (folder / "fsqueue.toml").write_text('app = "work"\n' if named else "lease = 30\n", "utf-8")
    site.project = folder / "results"
    site.project.mkdir()
    assert f" serves {folder.parent / 'work'} " in served(site)
    done = site.fsqueue("submit", "double", "--arg", "4")
    assert done.returncode == exits.OK, done.stderr
    written = json.loads(site.fsqueue("list", "--json").stdout)["calls"]
    assert [each["id"] for each in written] == [done.stdout.strip()]


COMMANDS = [
    ("worker",),
    ("up",),
    ("status",),
    ("submit", "double"),
    ("emit", "paid"),
    ("triggers",),
    ("config",),
    ("launch", "slurm"),
    ("autoscale", "slurm"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_with_two_applications_a_command_lists_them(site, folder, write_app, command):
    write_app("one")
    write_app("two")
    done = site.fsqueue(*command)
    assert done.returncode == exits.USAGE
    assert f"which application? {folder} has 2: one:one, two:two. Choose one: --app" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_an_application_a_command_says_where_it_has_searched(site, folder, command):
    done = site.fsqueue(*command)
    assert done.returncode == exits.USAGE
    assert f"which application? No *.py file in {folder} contains" in done.stderr
    assert "--app MODULE:VARIABLE" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_that_an_application_lacks_is_named(site, folder):
    (folder / "shop.py").write_text(
        "import no_such_package\n" + APP.format(name="app", id="a", root="q")
    )
    done = site.fsqueue("worker", "shop:app")
    assert done.returncode == exits.USAGE
    assert done.stderr.startswith(
        "fsqueue: shop cannot be imported: No module named 'no_such_package', which "
    )
    assert "Install it for " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_that_is_elsewhere_is_looked_for_in_the_folder_that_is_named(site, folder):
    done = site.fsqueue("worker", "shop:app")
    assert done.returncode == exits.USAGE
    assert (
        f"there is no module 'shop' in {folder}. Run this in the folder that holds it"
        in done.stderr
    )


def test_a_call_without_a_worker_says_what_it_waits_for(site, folder, write_app):
    write_app("shop")
    done = site.fsqueue("submit", "double", "1", "--wait", "--timeout", "0.1")
    assert done.returncode == exits.TIMEOUT
    assert "is pending and has no result yet" in done.stderr
    assert "no live worker serves the queue" in done.stderr
    assert "ends with a worker: fsqueue worker" in done.stderr


def test_an_argument_and_an_option_are_one_too_many(site, folder, write_app):
    write_app("one")
    for command in ("worker", "up"):
        done = site.fsqueue(command, "one", "--app", "one")
        assert (done.returncode, done.stderr) == (
            exits.USAGE,
            "fsqueue: give one or --app one, not both\n",
        )


@pytest.mark.parametrize(
    "command",
    [
        ("worker", ""),
        ("worker", "--app", ""),
        ("worker", "", "--root", "r"),
        ("config", "--app", ""),
    ],
)
def test_an_empty_name_is_a_mistake(site, folder, write_app, command):
    write_app("work")
    done = site.fsqueue(*command)
    assert done.returncode == exits.USAGE
    assert "'' is not a module name" in done.stderr
    assert list(folder.iterdir()) == [folder / "work.py"]


def test_an_empty_variable_names_no_application(site, folder, write_app):
    write_app("work")
    assert "application work:work, the only one" in served(site, FSQUEUE__APP="")


def test_a_terminal_is_told_which_application_was_found(site, folder, write_app):
    write_app("work")
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        done = subprocess.run(
            [*FSQUEUE, "config"],
            cwd=folder,
            env=site.env,
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=True,
            timeout=60,
        )
        os.close(theirs)
        said = terminal.read(1000).decode()
    assert said.strip() == f"fsqueue: application work:work, the only one in {folder}"
    assert b"application" not in done.stdout


def test_workers_tell_once_that_other_hosts_cannot_see_their_root(site, folder, write_app):
    write_app("work")
    kind = filesystem_type(str(folder))
    if not kind or is_remote(str(folder)):
        pytest.skip("the tests run on a network filesystem")
    notice = f"{folder.parent / 'work'} is on a local filesystem of this machine ({kind})"
    text = served(site)
    assert text.count(notice) == 1
    assert "set FSQUEUE__ROOT to a directory that all of them see" in text
    many = site.fsqueue("up", "-n", "2", "--until-empty")
    assert many.returncode == exits.OK
    assert many.stderr.count(notice) == 1
    assert many.stderr.count(" serves ") == 2
    (folder / "work.py").write_text("from fsqueue import FSQueue\nqueue = FSQueue('w')\n", "utf-8")
    assert "a private folder of this machine, as no root is set" in served(
        site, TMPDIR=str(site.base)
    )
