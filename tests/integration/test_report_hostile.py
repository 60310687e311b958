"""Reports of spools in which somebody has forged lines, and reports that others must not read."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from journals import write_journal
from support import PATIENCE

from fsqueue.cli import exits
from fsqueue.codec import traceback_text
from fsqueue.report.facts import Limits, Window
from fsqueue.report.gather import Sources, gather
from fsqueue.report.redaction import redacted
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import FleetRecord, Member, PastRecord
from fsqueue.spool.history.journal import hour_of
from fsqueue.spool.store.open_spool import open_store
from fsqueue.testing import Fault, FaultyFilesystem
from integration import sample_tasks
from integration.conftest import working

RUN = "abcdefgh"
HUGE = 1e308
FORGED = {
    "a path as the id": {"id": "../../x"},
    "an id with a line end": {"id": f"{RUN}-1\n"},
    "a long run": {"run": HUGE},
    "a long wait": {"wait": HUGE},
    "a late start": {"started": HUGE},
    "a late end": {"ended_at": HUGE},
    "a negative time": {"run": -HUGE},
    "many calls": {"members": 10**400},
    "many failures": {"failed": 10**400},
    "a high attempt": {"attempt": 10**400},
    "a path as the worker": {"worker": "../../x"},
    "a path as the fingerprint": {"fp": "../../x"},
    "a long fingerprint": {"fp": "0" * 500},
}


@pytest.fixture
def forge(app):
    """Two lines of a journal, twice, after those of 20 honest attempts of a run."""
    app.task(sample_tasks.add)
    app.store.files.sync_clock()
    layout = app.store.layout

    def write(changes):
        write_journal(Path(layout.root), attempts=20, age=60.0)
        folder = layout.journal_hour(hour_of(time.time() - 60.0))
        honest = {
            "id": f"{RUN}-77",
            "task": "t.forged",
            "queue": "t.default",
            "attempt": 1,
            "state": "failed",
            "started": time.time() - 30.0,
            "wait": 0.1,
            "run": 0.05,
            "failure": "ForgedError",
            "fp": "0badf00d",
            "failed": 1,
        }
        lines = (json.dumps(honest | changes, separators=(",", ":")) + "\n") * 2
        with open(f"{folder}/w0-7-abcdef.jsonl", "a") as file:
            file.write(lines)

    return write


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED)
def test_a_forged_line_is_passed_over(forge, fsqueue, in_json, changes):
    forge(changes)
    for arguments in (("report",), ("report", "--run", RUN)):
        found = in_json(*arguments)
        assert found["totals"]["calls"] == 20
        assert "ForgedError" not in json.dumps(found)
        assert "20 calls ended between" in fsqueue(*arguments, "-o", "-").stdout
    groups = in_json("failures")["groups"]
    assert sum(each["calls"] for each in groups) == 10
    assert {each["fp"] for each in groups} == {f"{kind:08x}" for kind in range(3)}
    assert "ForgedError" not in fsqueue("failures").stdout
    assert [each["ended"] for each in in_json("runs")["runs"]] == [20]
    fsqueue("runs")
    assert in_json("list", "--failed-with", "ForgedError")["calls"] == []


@pytest.mark.parametrize("changes", [each for each in FORGED.values() if "id" not in each])
def test_a_call_is_shown_without_its_forged_attempts(
    app, forge, fsqueue, in_json, tmp_path, changes
):
    fail = app.task(sample_tasks.fail_before, retry_for=ConnectionError, retry_delay=0.01)
    with working(app):
        call = fail(str(tmp_path / "ran"), 1)
        call.get(timeout=PATIENCE)
    forge({"id": call.id, "attempt": 3, **changes})
    assert [each["attempt"] for each in in_json("show", call.id)["attempts"]] == [1, 2]
    assert "ForgedError" not in fsqueue("show", call.id).stdout


def test_the_honest_line_is_read(forge, in_json):
    forge({})
    found = in_json("report", "--run", RUN)
    assert found["totals"]["calls"] == 22
    assert "ForgedError" in json.dumps(found)


def test_a_file_with_the_name_of_no_worker_is_passed_over(forge, app, in_json):
    forge({})
    folder = Path(app.store.layout.journal_hour(hour_of(time.time() - 60.0)))
    for name in ("w0-7-abcdef.jsonl", "w0-7-abcdef.sums"):
        found = (folder / name).read_bytes()
        (folder / f"no worker{Path(name).suffix}").write_bytes(found)
    assert "no worker" not in json.dumps([in_json("report"), in_json("failures")])
    assert in_json("report")["totals"]["calls"] == 20


# -- the file -------------------------------------------------------------------------------------


def test_only_the_owner_may_read_the_file(app, fsqueue, tmp_path):
    app.store.files.sync_clock()
    path = tmp_path / "report.html"
    path.write_text("older")
    path.chmod(0o666)
    fsqueue("report", "-o", path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir() if "report" in each.name] == [path.name]


def test_nothing_is_written_through_a_link(app, fsqueue, tmp_path):
    app.store.files.sync_clock()
    folder = tmp_path / "shared"
    folder.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("mine")
    path = folder / "report.html"
    for link in (path, Path(f"{path}.part")):
        link.symlink_to(precious)
    fsqueue("report", "-o", path)
    assert precious.read_text() == "mine"
    assert "<html" in path.read_text()
    assert not path.is_symlink()


def test_a_failure_leaves_no_part(app, fsqueue, tmp_path):
    app.store.files.sync_clock()
    folder = tmp_path / "shared"
    folder.mkdir()
    done = fsqueue("report", "-o", folder / ("x" * 300), expect=exits.USAGE)
    assert "cannot write" in done.stderr
    assert not list(folder.iterdir())


# -- redaction ------------------------------------------------------------------------------------


def define(app, name):
    files = FleetFiles(app.store.files, name)
    fields = {"app_id": "t", "queues": ("default",), "walltime": 60.0, "slots": 1}
    files.define(FleetRecord(name=name, system="local", **fields))
    return files


def test_no_host_and_nobody_is_named_by_batch_jobs(app, in_json, fsqueue):
    app.store.files.sync_clock()
    ids = ("node7.uni.example:4242", "4711.pbs.uni.example")
    for fleet in ("alice", "bob"):
        files = define(app, fleet)
        for number, job in enumerate(ids, 1):
            past = PastRecord(kind="done", at=files.now(), id=job, detail=f"{job} of {fleet}")
            files.free(Member("abcdefgh", number), past)
    whole, found = in_json("report"), in_json("report", "--redact")
    secrets = (*ids, "alice", "bob")
    page = fsqueue("report", "--redact", "-o", "-").stdout
    for secret in secrets:
        assert secret in json.dumps(whole)
        assert secret not in json.dumps(found)
        assert secret not in page
    numbered = {"alice": "fleet-1", "bob": "fleet-2"}
    assert [each["fleet"] for each in found["jobs"]] == [
        numbered[each["fleet"]] for each in whole["jobs"]
    ]
    assert {each["job"] for each in found["jobs"]} == {"job-1", "job-2"}


def test_no_fleet_is_named_that_cannot_be_read(app):
    for fleet in ("alice", "bob"):
        define(app, fleet)
    fs = FaultyFilesystem([Fault.fail(at=None, verb="listdir", path="fleet/bob/past")])
    store = open_store(app.store.layout.root, fs, look=True)
    store.files.sync_clock()
    now = store.clock.now()
    found = gather(
        Sources(store, None, traceback_text, {}, {}), Window(begin=now - 60, end=now), Limits()
    )
    assert found.left_out == ["the batch jobs of the fleet bob: Input/output error"]
    assert redacted(found).left_out == ["the batch jobs of the fleet fleet-1: Input/output error"]
