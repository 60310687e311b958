"""``import fsqueue``: what it offers, and that it loads nothing before that is used."""

import subprocess
import sys

import pytest

import fsqueue


def modules_after(code):
    """The modules of the package that a fresh interpreter has loaded after some code."""
    code += "\nimport sys; print(*[name for name in sys.modules if name.startswith('fsqueue')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.split()


def test_import_loads_nothing_else_of_the_package():
    assert modules_after("import fsqueue") == ["fsqueue"]


@pytest.mark.parametrize("name", fsqueue.__all__)
def test_each_public_name_is_there_when_it_is_used(name):
    assert getattr(fsqueue, name) is not None
    assert name in dir(fsqueue)


def test_a_star_import_has_all_of_them():
    found = {}
    exec("from fsqueue import *", found)
    assert set(fsqueue.__all__) <= set(found)


def test_a_public_name_is_the_one_of_its_module():
    assert fsqueue.FSQueue.__module__ == "fsqueue.app"
    assert fsqueue.FSQueue is fsqueue.FSQueue


def test_modules_of_public_names_are_there_without_an_import():
    assert "fsqueue.triggers" in modules_after("import fsqueue; fsqueue.triggers.cron")
    assert "fsqueue.errors" in modules_after("import fsqueue; fsqueue.errors.SpoolError")


def test_another_name_is_an_error():
    with pytest.raises(AttributeError, match="module 'fsqueue' has no attribute 'nothing'"):
        _ = fsqueue.nothing
