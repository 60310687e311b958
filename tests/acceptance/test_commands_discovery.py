"""How a command finds its application and its spool, and its errors if there is none."""

import json

import pytest

from fsqueue.cli import exits
from fsqueue.cli.guess import applications_in

APP = 'from fsqueue import FSQueue\n\n{name} = FSQueue("{id}", root="{root}")\n'
BOMB = "raise SystemExit('this must not be imported')\n"


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


def test_several_or_none(site, folder):
    done = site.fsqueue("status")
    assert done.returncode == exits.USAGE
    assert "has none" in done.stderr
    write(folder, "one.py", name="app", id="a", root="first")
    write(folder, "two.py", name="app", id="b", root="second")
    done = site.fsqueue("status")
    assert done.returncode == exits.USAGE
    assert "one:app, two:app" in done.stderr
    assert "--app" in done.stderr
    assert "Traceback" not in done.stderr


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
