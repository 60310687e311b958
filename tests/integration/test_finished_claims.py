"""A worker forgets the calls that have ended."""

from __future__ import annotations

import logging
import os

import pytest
from support import open_store, wait_until

from fsqueue.testing import FaultyFilesystem
from integration.conftest import working

MANY = 60


@pytest.fixture
def traced(nested):
    """The application, whose worker's file operations are recorded."""
    fs = FaultyFilesystem()
    nested.app._session._store = open_store(nested.app.conf.root, fs)
    return nested, fs


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_stop_looks_at_no_call_that_has_ended(traced, kind, caplog):
    caplog.set_level(logging.INFO)
    module, fs = traced
    runner = module.app.make_runner(kind=kind, concurrency=2)
    with working(module.app, runner):
        group = module.leaf.parallelize([(number,) for number in range(MANY)])
        assert len(group.results) == MANY
        # The last outcome is there before its attempt is removed.
        folder = module.app.store.layout.running(runner._runs[0].loop._worker.name)
        wait_until(lambda: os.listdir(folder) == [], what="no attempt is left")
        wait_until(lambda: not runner._runs[0].loop._worker.claims, what="every claim is released")
        fs.inject()
        runner.stop_runner_loop()
    ids = [member.id for member in group]
    touched = [each.path for each in fs.trace if os.path.basename(each.path).startswith(tuple(ids))]
    assert touched == []
    assert "given back" not in caplog.text
