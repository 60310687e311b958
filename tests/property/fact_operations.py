"""What a process writes for people only: its record, its notes and the counts of the spool.

These are chores, see `chore_sweep`. An error of one of them must not reach the call, the heartbeat
or the stop in the middle of which it is written.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from sweep import ARGUMENTS, CLIENT, Stage, call_of
from sweep_operations import Operation
from sweep_steps import present_client

from fsqueue.config import load_config
from fsqueue.errors import SpoolError
from fsqueue.runner.loop.lookout import Lookout
from fsqueue.spool.admin.glance import read_latest
from fsqueue.spool.admin.runs import read_record
from fsqueue.spool.format.names import new_token
from fsqueue.spool.history.gauges import read_gauges
from fsqueue.spool.history.journal import write_notes
from fsqueue.spool.history.statistics import read_stats

if TYPE_CHECKING:
    from collections.abc import Callable, Container


def without_error(step: Callable[[Stage], object]) -> Callable[[Stage], object]:
    """It must raise nothing, whatever the filesystem does."""

    def run(stage: Stage) -> None:
        try:
            step(stage)
        except (OSError, SpoolError) as error:
            pytest.fail(f"it hands on {error!r}: {stage.fs.trace}")

    return run


def without_record(stage: Stage) -> None:
    present_client(stage)
    stage.healthy.fs.unlink(stage.layout.client_record(CLIENT))


def check_record(stage: Stage, _: Container[bytes]) -> None:
    if os.path.lexists(stage.layout.client_record(CLIENT)):
        record = read_record(stage.healthy, CLIENT)
        assert record is not None
        assert record.pid == os.getpid()


def cancelled(stage: Stage) -> None:
    present_client(stage)
    path = stage.healthy.publish(call_of(stage.store, f"{CLIENT}-2"), [ARGUMENTS])
    assert stage.store.endings.cancel_pending(path)
    assert len(stage.store.endings.notes) == 1


def check_notes(stage: Stage, _: Container[bytes]) -> None:
    assert not stage.store.endings.notes
    stats = read_stats(stage.healthy, 3600.0)
    assert stats.calls in {0, 1}, "it counts twice"


def count(stage: Stage) -> None:
    """As the worker in charge of upkeep does it, and at its stop."""
    lookout = Lookout(stage.store, stage.worker, load_config({"root": stage.root}))
    lookout.watch()
    lookout.leave()


def check_counts(stage: Stage, _: Container[bytes]) -> None:
    if os.path.lexists(stage.layout.latest):
        glance = read_latest(stage.healthy)
        assert glance is not None
        assert glance.worker == stage.worker.name
    for hour in os.listdir(stage.layout.journal_folder):
        for gauge in read_gauges(stage.healthy, hour):
            assert gauge.workers in {0, 1}, "the worker's record could not be read, or it could"


FACTS = (
    Operation(
        "write-record",
        without_record,
        without_error(lambda stage: stage.client._record()),
        check=check_record,
    ),
    Operation(
        "write-notes",
        cancelled,
        without_error(lambda stage: write_notes(stage.store, new_token())),
        check=check_notes,
    ),
    Operation(
        "close-after-cancelling",
        cancelled,
        lambda stage: stage.client.close(),
        check=check_notes,
    ),
    Operation("count", lambda _: None, without_error(count), check=check_counts),
)
