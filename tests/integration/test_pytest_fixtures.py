"""The fixtures for projects that test code with tasks."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fsqueue

TASKS = """
from fsqueue import FSQueue

app = FSQueue("shop", root="/nowhere/in/production")

FACTOR = 2

@app.task
def double(x):
    return FACTOR * x

@app.direct_task(queue="slow")
def total(xs):
    return sum(each.result for each in map(double, xs))
"""
CONFTEST = """
import pytest

@pytest.fixture
def fsqueue_app():
    from shop import app
    return app
"""
TESTS = """
import os
import pytest
import shop

def test_on_a_worker(fsqueue_worker):
    assert fsqueue_worker is shop.app
    assert os.path.isdir(shop.app.root)
    assert shop.double(2).get(30) == 4
    assert shop.total([1, 2, 3]) == 12

def test_patches_reach_the_bodies(fsqueue_worker, monkeypatch):
    monkeypatch.setattr(shop, "FACTOR", 10)
    assert shop.total([1, 2]) == 30

def test_in_sync_mode(fsqueue_sync):
    call = shop.double(2)
    assert call.id.startswith("inline-")
    assert call.result == 4

def test_each_test_leaves_the_app_as_it_was():
    assert shop.app.root == "/nowhere/in/production"
    assert not shop.app.conf.dev_mode_force_sync_tasks

def test_spools_are_not_shared(fsqueue_worker):
    assert fsqueue_worker.status().snapshot.counts.kept == 0
"""


@pytest.fixture
def project(tmp_path):
    for name, text in {"shop.py": TASKS, "conftest.py": CONFTEST, "test_shop.py": TESTS}.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def run_pytest(folder, *options):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *options],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_project_uses_the_fixtures(project):
    done = run_pytest(project, "-p", "fsqueue.integrations.pytest")
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_without_a_conftest_there_is_an_app_for_tests(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "def add(a): return a + 1\n"
        "def test_it(fsqueue_worker): assert fsqueue_worker.task(add)(1).get(30) == 2\n",
        "utf-8",
    )
    done = run_pytest(tmp_path, "-p", "fsqueue.integrations.pytest")
    assert done.returncode == 0, done.stdout


def test_pytest_finds_the_fixtures_and_loads_little():
    project = tomllib.loads((Path(fsqueue.__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {
        "fsqueue": "fsqueue.integrations.pytest"
    }
    code = "import fsqueue.integrations.pytest, sys; print('fsqueue.app' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout == "False\n"
