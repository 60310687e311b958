"""A spool that an earlier version has left, with a call in every state: read, finished, collected.

`tests/data/make_spool.py` made it. Whoever updates fsqueue has such a spool.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import files_under, strays, wait_until

from fsqueue import CancelledError
from fsqueue.cli.main import command_line
from fsqueue.errors import InvocationCorruptError
from integration.conftest import working

DATA = Path(__file__).parent.parent / "data"
ARCHIVE = DATA / "spool_v1.tar.gz"

STATES = {
    "pending": "pending",
    "pending_json": "pending",
    "delayed": "pending",
    "delayed_until_made": "pending",
    "retried": "pending",
    "waiting_for_call": "pending",
    "waiting_for_two": "pending",
    "waiting_for_limit": "pending",
    "deduplicated": "pending",
    "on_gpu": "pending",
    "batch_0": "pending",
    "batch_1": "pending",
    "batch_2": "pending",
    "blob_0": "pending",
    "blob_1": "pending",
    "running": "running",
    "running_alone": "running",
    "done": "succeeded",
    "done_batch_0": "succeeded",
    "done_batch_1": "succeeded",
    "done_batch_2": "succeeded",
    "kept": "succeeded",
    "kept_json": "succeeded",
    "cached": "succeeded",
    "spoken": "succeeded",
    "failed": "failed",
    "damaged": "failed",
    "cancelled": "cancelled",
}
# On_arrival ran once before, for the first of two events.
FIRED = {"on_arrival": 2, "on_both": 1}
VALUES = {
    "pending": 11,
    "pending_json": 21,
    "delayed_until_made": 41,
    "retried": 1,
    "waiting_for_call": 111,
    "waiting_for_two": 18,
    "waiting_for_limit": "alone",
    "deduplicated": 51,
    "on_gpu": 60,
    "batch_0": 0,
    "batch_1": 2,
    "batch_2": 4,
    "blob_0": 40_000,
    "blob_1": 40_000,
    "running": "held",
    "running_alone": "alone",
    "done": 3,
    "done_batch_0": 0,
    "done_batch_1": 2,
    "done_batch_2": 4,
    "kept": 7,
    "kept_json": 7,
    "cached": 11,
    "spoken": 6,
}


_MEMORY = {"bell", "journal", "triggers"}


class OldSpool:
    """The spool, its application, and the ids of its calls."""

    def __init__(self, root, tasks, calls):
        self.root, self.tasks, self.calls = root, tasks, calls
        self.app = tasks.app

    def command(self, *arguments):
        """Run a command; what it prints as JSON."""
        done = CliRunner().invoke(command_line, [*arguments, "--root", self.root, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def get(self, name):
        return self.app.invocation(self.calls[name]).get(timeout=60)


def unpack(root):
    """Put the spool at its root, with the files' times and links; the ids of its calls by name."""
    beside = f"{root}-archive"  # on the same filesystem
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(beside, filter="data")
    os.rename(os.path.join(beside, "spool"), root)
    with open(os.path.join(beside, "calls.json"), encoding="utf-8") as file:
        calls = json.load(file)
    shutil.rmtree(beside)
    return calls


@pytest.fixture
def old(spool, monkeypatch):
    calls = unpack(spool)
    monkeypatch.setenv("FSQUEUE__ROOT", spool)
    monkeypatch.setattr(sys, "path", [str(DATA), *sys.path])
    monkeypatch.delitem(sys.modules, "spool_app", raising=False)
    tasks = importlib.import_module("spool_app")
    yield OldSpool(spool, tasks, calls)
    tasks.app.close()
    sys.modules.pop("spool_app", None)


@pytest.mark.leaves_strays
def test_the_archive_has_every_kind_of_file(old):
    folders = {os.path.dirname(path).partition("/")[0] for path in files_under(old.root)}
    assert folders == {
        *("", "after", "bell", "blobs", "cache", "clients", "done", "events", "failed", "journal"),
        *("kept", "lanes", "once", "output", "pending", "quarantine", "running", "triggers"),
        "workers",
    }


@pytest.mark.leaves_strays
def test_its_calls_can_be_looked_at(old):
    """By the list, and each by itself; looking changes nothing."""
    before = sorted(files_under(old.root))
    listed = {each["id"]: each["state"] for each in old.command("list")["calls"]}
    for name, state in STATES.items():
        carrier = old.calls[name].partition(":")[0]
        shown = old.command("show", old.calls[name])
        assert (name, shown["state"]) == (name, state)
        assert (name, listed[carrier]) == (name, "succeeded" if "done_batch" in name else state)
    facts = {name: old.command("show", identity) for name, identity in old.calls.items()}
    assert facts["waiting_for_call"]["waits_for"] == old.calls["pending"]
    assert "concurrency limit" in str(facts["waiting_for_limit"]["why"])
    assert (facts["retried"]["retries"], facts["retried"]["attempt"]) == (1, 2)
    assert facts["failed"]["failure"] == {"type": "LookupError", "message": "on purpose"}
    assert "raise LookupError(text)" in facts["failed"]["traceback"]
    assert facts["damaged"]["failure"]["type"] == "InvocationCorruptError"
    assert facts["spoken"]["output"] == "a line\n"
    assert facts["pending_json"]["serializer"] == "json"
    assert sorted(files_under(old.root)) == before


@pytest.mark.leaves_strays
def test_its_queues_workers_and_statistics_can_be_looked_at(old):
    status = old.command("status")
    queues = {each["name"]: each for each in status["queues"]}
    assert set(queues) == {"archive.default", "archive.default.gpu-1"}
    assert queues["archive.default"]["delayed"] == 1
    assert (status["counts"]["quarantined"], status["counts"]["parked"]) == (1, 2)
    (worker,) = old.command("workers")["workers"]
    assert {call["id"] for call in worker["running"]} == {
        old.calls["running"],
        old.calls["running_alone"],
    }
    stats = old.command("stats", "--window", "36500d")
    tasks = {each["task"]: (each["calls"], each["failed"]) for each in stats["tasks"]}
    assert tasks["spool_app.reject"] == (1, 1)
    assert tasks["spool_app.scale"][0] >= 1


def test_a_worker_finishes_it_and_a_caller_collects_it(old):
    with working(old.app, old.app.make_runner(resources="gpu=1")):
        assert {name: old.get(name) for name in VALUES} == VALUES
        with pytest.raises(LookupError, match="on purpose"):
            old.get("failed")
        with pytest.raises(InvocationCorruptError):
            old.get("damaged")
        with pytest.raises(CancelledError):
            old.get("cancelled")
        # The events, one of which completes a trigger whose other part was seen before.
        wait_until(lambda: not list(files_under(f"{old.root}/events")), what="events are handled")
        for task in ("on_arrival", "on_both"):
            named = ("list", "--task", f"spool_app.{task}", "--state", "succeeded")
            wait_until(lambda: len(old.command(*named)["calls"]) == FIRED[task], what=task)  # noqa: B023
        # A result that is cached stands for that of a new call, and a new call can join none
        # that has ended.
        assert old.tasks.add_cached(5, 6).get(timeout=60) == 11
        assert sum(each["calls"] for each in cached_runs(old)) == 1
        assert old.tasks.add_once(50).get(timeout=60) == 51
        assert old.app.invocation(old.calls["delayed"]).cancel()
    old.app.close()
    leave_clean(old)


def cached_runs(old):
    stats = old.command("stats", "--window", "36500d")
    return [each for each in stats["tasks"] if each["task"] == "spool_app.add_cached"]


def leave_clean(old):
    """Clean up everything that may go. What stays belongs to the spool and to no call.

    Journals stay until their hour is over, and triggers remember what they have seen.
    """
    old.command("gc", "--older-than", "0", "--cache")
    left = {path for path in files_under(old.root) if path.partition("/")[0] not in _MEMORY}
    assert left <= {"spool.json", "locks/upkeep"}
    assert strays(old.root) == []
