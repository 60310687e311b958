"""Calls that no worker or fleet can ever run: the caller and operators are told."""

from __future__ import annotations

import contextlib
import logging
import os
import time

import pytest
from support import wait_until

from fsqueue.launch.autoscaling.demand import free_workers
from fsqueue.spool.fleets.coverage import outlook
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import FleetRecord
from fsqueue.spool.format.records import BatchJob
from fsqueue.spool.worker.registration import Worker
from integration import sample_tasks
from integration.conftest import clocked, silence_of, working

UNCOVERED = "12 calls of queue default need gpu=8 and 8h; no worker or fleet has that"


def define(app, name="cpu", *, walltime=14_400.0, resources=""):
    files = FleetFiles(app.store.files, name)
    files.define(
        FleetRecord(
            name=name,
            system="slurm",
            app_id=app.app_id,
            queues=("default",),
            walltime=walltime,
            slots=4,
            resources=resources,
        )
    )
    return files


@contextlib.contextmanager
def registered(app, *, left=None, resources=""):
    """A worker that is only registered, and leaves in `left` seconds, if ever."""
    worker = Worker(
        app.store,
        queues=("t.default",),
        runner="thread",
        concurrency=2,
        resources=resources,
        batch=lambda now: None if left is None else BatchJob(until=now + left),
    )
    worker.register()
    os.utime(app.store.layout.worker_beat(worker.name), (2 * time.time(),) * 2)  # never silent
    try:
        yield worker
    finally:
        worker.deregister()


@pytest.fixture
def calls(app):
    task = app.task(resources={"gpu": 8}, walltime="6h")(sample_tasks.add)
    made = [task(number) for number in range(12)]
    yield made
    for each in made:
        each.cancel()


def reasons(in_json, calls):
    return {each["code"]: each["text"] for each in in_json("show", calls[0].id).get("why", [])}


def test_status_and_show_name_what_nobody_has(app, calls, fsqueue, in_json):
    needs = "for gpu=8 and 8h: no worker or fleet has that"
    with registered(app, left=28_000, resources="gpu-8"), working(app):
        assert UNCOVERED in fsqueue("status").stdout
        assert "not served" in fsqueue("status").stdout
        assert needs in fsqueue("show", calls[0].id).stdout
        assert needs in reasons(in_json, calls)["no_resources"]
    with registered(app, left=40_000, resources="gpu-8"):
        assert UNCOVERED not in fsqueue("status").stdout
        assert "no_resources" not in reasons(in_json, calls)


def test_a_fleet_that_has_it_is_named(app, calls, fsqueue, in_json):
    small = define(app, "small", walltime=8 * 3600.0, resources="gpu-8")
    assert UNCOVERED in fsqueue("status").stdout, "a job of 8 h has less than 8 h for calls"
    large = define(app, "large", walltime=9 * 3600.0, resources="gpu-8")
    assert UNCOVERED not in fsqueue("status").stdout
    assert in_json("status")["queues"][0]["fleets"] == ["large"]
    assert "for a job of large" in fsqueue("status").stdout
    assert "fleet large" in in_json("show", calls[0].id)["why"][0]["ends"]
    large.mark("stopped", "test")
    assert UNCOVERED in fsqueue("status").stdout
    assert small.record() is not None


def test_status_tells_which_fleets_submit_no_jobs_and_why(app, fsqueue, in_json):
    define(app, "open")
    define(app, "tired").mark("paused", "three jobs failed:\nno module 'numpy'")
    gone = define(app, "gone")
    for what in ("paused", "stopped"):
        gone.mark(what, f"{what} by a test")
    assert in_json("status")["closed_fleets"] == [
        {"name": "gone", "state": "stopped", "reason": "stopped by a test"},
        {"name": "tired", "state": "paused", "reason": "three jobs failed:\nno module 'numpy'"},
    ]
    lines = fsqueue("status").stdout.splitlines()
    assert "fleet gone is stopped: stopped by a test" in lines
    assert "fleet tired is paused: three jobs failed: no module 'numpy'" in lines
    assert not [line for line in lines if "fleet open" in line]


def test_looking_at_plain_calls_reads_no_fleet(app, fsqueue):
    define(app)
    call = app.task(sample_tasks.add)(1)
    with working(app):
        assert call.get(timeout=60) == 2
        assert "no worker or fleet" not in fsqueue("status").stdout


def test_an_older_worker_that_takes_walltimes_for_resources_is_shown(app, fsqueue):
    """There, `--resource walltime=86400` has it take such calls."""
    with registered(app, resources="gpu-1_walltime-86400"):
        call = app.task(walltime="40m", resources="gpu=1")(sample_tasks.add)(1)
        text = fsqueue("status").stdout
        assert "gpu=1 walltime=1d" in text
        assert "no worker or fleet" not in text
        (supply,) = free_workers(app.store, heartbeat=2.0)
        assert supply.slots == 2
        call.cancel()


def test_the_caller_is_told_once(make_app, caplog):
    app = make_app(poll_interval=0.05)
    clock = clocked(app)
    call = app.task(walltime="6h")(sample_tasks.add)(1)
    with registered(app, left=3600.0), silence_of(app, clock, call) as answer:
        told = "that serves the queue default and has walltime=8h. If one runs already"
        wait_until(lambda: told in caplog.text)
        assert "--resource" not in caplog.text, "a walltime is no resource"
        clock.clock_offset += 60.0
        with working(app):
            assert answer.result(60) == 2
        warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
        assert len([each for each in warnings if "still waiting" in each.message]) == 1


def test_the_outlook_of_a_fleet_tells_what_its_jobs_do(app):
    files = define(app, "nights")
    show = "See `fsqueue fleet show nights`"

    def told():
        return outlook(app.store.files, "nights").removeprefix("A job of the fleet nights can run ")

    assert told() == f"it; jobs that have workers: none. {show}"
    first, _ = files.slots.take("k7f3q2", 2, 3)
    assert told() == f"it; jobs that wait in the batch system or are starting: 2 of 2. {show}"
    files.note_birth(first)
    assert told() == f"it; jobs that wait in the batch system or are starting: 1 of 2. {show}"
    files.mark("paused", "three jobs failed")
    assert told() == f"it; but it is paused: three jobs failed. {show}"


def test_the_caller_is_told_which_fleet_can_run_it(make_app, caplog):
    app = make_app(poll_interval=0.05)
    define(app, "nights", walltime=43_200.0)
    clock = clocked(app)
    call = app.task(walltime="6h")(sample_tasks.add)(1)
    with silence_of(app, clock, call) as answer:
        wait_until(
            lambda: (
                "A job of the fleet nights can run it; jobs that have workers: none" in caplog.text
            )
        )
        assert "Start one with" not in caplog.text
        with working(app):
            assert answer.result(60) == 2
