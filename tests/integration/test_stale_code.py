"""Workers whose code is not that of the caller: `stale_code`."""

from __future__ import annotations

import importlib
import logging
import sys

import pytest
from support import PATIENCE

from fsqueue.environment import module_code
from fsqueue.errors import StaleCodeError
from integration.conftest import working

TEXT = """
from fsqueue import FSQueue

app = FSQueue("stale", root={root!r}, stale_code={setting!r})


@app.task
def version():
    return {version!r}
"""


@pytest.fixture
def load(spool, tmp_path, monkeypatch):
    """Load a version of a module, as another process does after an update."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loaded = []

    def load(version, setting="warn"):
        text = TEXT.format(root=spool, setting=setting, version=version)
        (tmp_path / "stale_module.py").write_text(text, "utf-8")
        sys.modules.pop("stale_module", None)
        importlib.invalidate_caches()
        loaded.append(importlib.import_module("stale_module"))
        return loaded[-1]

    yield load
    for module in loaded:
        module.app.close()
    sys.modules.pop("stale_module", None)


def warnings(caplog):
    return [each.getMessage() for each in caplog.records if "other code" in each.getMessage()]


def test_a_worker_with_older_code_and_its_caller_say_so_once(load, caplog):
    old = load("old")
    assert old.version.for_workers.code.digest
    with working(old.app), caplog.at_level(logging.WARNING):
        new = load("newer")
        assert [new.version().get(PATIENCE) for _ in range(3)] == ["old"] * 3
        found = warnings(caplog)
    assert len(found) == 2
    assert "stale_module.version runs with other code" in found[0]
    assert "stale_module.version ran on the worker " in found[1]
    assert all("Restart the worker" in each for each in found)


def test_a_worker_that_reads_its_file_only_later_notices_too(load, caplog):
    old = load("old")  # nothing asks for the digest before the file has changed
    with working(old.app), caplog.at_level(logging.WARNING):
        assert load("newer").version().get(PATIENCE) == "old"
    assert "has changed since the worker loaded it" in warnings(caplog)[0]


def test_a_worker_can_refuse(load):
    old = load("old", "refuse")
    with working(old.app):
        assert old.version().get(PATIENCE) == "old"
        with pytest.raises(StaleCodeError, match="Restart the worker"):
            load("newer", "refuse").version().get(PATIENCE)


def test_equal_code_and_calls_without_a_digest_are_fine(load, caplog):
    old = load("same")
    with working(old.app), caplog.at_level(logging.WARNING):
        assert old.version().get(PATIENCE) == "same"
        assert load("newer", "ignore").version().get(PATIENCE) == "same"
    assert not warnings(caplog)


def test_a_worker_can_ignore_it(load, caplog):
    old = load("old", "ignore")
    with working(old.app), caplog.at_level(logging.WARNING):
        assert load("newer").version().get(PATIENCE) == "old"
    assert not warnings(caplog)


def test_a_file_is_read_once_for_all_calls(load):
    module = load("one")
    calls = [module.version() for _ in range(3)]
    code = module_code.code_of("stale_module")
    assert code is module.version.for_workers.code
    assert "digest" in vars(code)  # cached
    for call in calls:
        call.cancel()


def test_a_caller_with_older_code_sends_none(load, tmp_path):
    module = load("one")
    (tmp_path / "stale_module.py").write_text("changed = True", "utf-8")
    assert module.version.for_workers.code.for_calls == ""


@pytest.mark.parametrize("name", ["__main__", "no_such_module", "sys"])
def test_modules_without_a_source(name):
    code = module_code.code_of(name)
    assert code.digest == ""
    assert code.reason_against("0123") == ""
