"""A few seconds of `chaos/`, and its accounting, which must find what is wrong."""

import dataclasses
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fsqueue.spool.format import envelope
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.format.states import State

HOME = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(240)
def test_a_few_seconds_of_chaos():
    done = subprocess.run(
        [sys.executable, HOME / "chaos" / "run.py", "--seconds", "2", "--replay", "4"],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 4" in done.stdout
    table = dict(line.rsplit(None, 1) for line in done.stdout.splitlines() if "  " in line)
    assert table["lost"] == table["second outcomes"] == "0"
    assert int(table["accepted"].replace(",", "")) > 0
    assert int(table["attacks"]) > 0


def test_a_seed_makes_a_schedule(chaos):
    attacks = importlib.import_module("chaos.attacks")

    one, again, other = (attacks.schedule(seed, 60.0, 1.5) for seed in (1, 1, 2))

    assert one == again != other
    assert {attack.kind for attack in one} == set(attacks.DECK)
    assert all(attack.at < 60 for attack in one)


# -- the reckoning --------------------------------------------------------------------------


@pytest.fixture
def chaos(monkeypatch, tmp_path):
    """The package, imported anew for a folder of the test's own."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "chaos"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(HOME)
    monkeypatch.setenv("CHAOS_BASE", str(tmp_path))
    monkeypatch.setenv("FSQUEUE__ROOT", str(tmp_path / "spool"))
    for name in ("ledgers", "crashes"):
        (tmp_path / name).mkdir()
    yield importlib.import_module("chaos")
    for name in [name for name in sys.modules if name.partition(".")[0] == "chaos"]:
        del sys.modules[name]


class Site:
    """Calls of one caller, run by one worker in this process, and their account."""

    def __init__(self, base):
        self.base, self.spool = base, base / "spool"
        self.module = importlib.import_module("chaos.reconcile")
        self.tasks = importlib.import_module("chaos.tasks")
        caller = importlib.import_module("chaos.caller")
        ledger = importlib.import_module("chaos.ledger")
        self.ledger = base / "ledgers" / "c.jsonl"
        handle = ledger.open_log(self.ledger)
        one = caller.Caller("c", handle, random.Random(1), caller.Signals())
        runner = self.tasks.app.make_runner(kind="thread", concurrency=2)
        thread = threading.Thread(target=runner.run)
        thread.start()
        try:
            for action in (one.add, one.multiply, one.refuse, one.refuse_later, one.fan_out):
                action()
            for action in (one.squares, one.add_async, one.count_down, one.collect):
                action()
        finally:
            runner.stop_runner_loop()
            thread.join()
        ledger.append(handle, ["end"])
        os.close(handle)
        self.tasks.app.close()
        self.disturbances = self.module.Disturbances()

    def report(self):
        return self.module.reconcile(self.tasks.app, self.base, self.disturbances)

    def wrongs(self):
        return [violation.what for violation in self.report().violations]

    def entries(self, event):
        lines = [json.loads(line) for line in self.ledger.read_text().splitlines()]
        return [entry for entry in lines if entry[0] == event]

    def rewrite(self, change):
        """Change the ledger's entries."""
        lines = [change(json.loads(line)) for line in self.ledger.read_text().splitlines()]
        self.ledger.write_text("".join(json.dumps(line) + "\n" for line in lines if line))

    def kept(self):
        """Key, id and file of a call that was kept and has succeeded."""
        for _, key, invocation_id in self.entries("accepted"):
            (path,) = (self.spool / "kept").glob(f"*/{invocation_id}")
            if '"succeeded"' in path.read_bytes().split(b"\n")[1].decode():
                return key, invocation_id, path
        raise AssertionError("none")


@pytest.fixture
def site(chaos, tmp_path):
    site = Site(tmp_path)
    yield site
    site.tasks.app.close()


def test_nothing_is_wrong(site):
    report = site.report()

    assert report.violations == []
    assert report.counts["made"] == report.counts["accepted"] == len(site.entries("intent"))
    assert report.counts["looked at twice"] == len(site.entries("accepted")) > 8
    assert report.counts["extra executions"] == report.counts["lost"] == 0


def test_a_lost_outcome(site):
    key, _, path = site.kept()
    path.unlink()

    (violation,) = site.report().violations

    assert violation.what.startswith("lost: ")
    assert violation.key == key


def test_an_accepted_call_of_a_killed_caller_that_has_no_outcome(site):
    key, _, path = site.kept()
    site.rewrite(lambda entry: entry if entry[0] != "end" and entry[:2] != ["seen", key] else None)
    site.disturbances.killed.add("c")
    assert site.wrongs() == []
    path.unlink()

    (wrong,) = site.wrongs()

    assert wrong.startswith("lost: ")


def test_a_second_outcome_in_place_of_the_first(site):
    key, invocation_id, path = site.kept()
    store = site.tasks.app.store
    outcome, _ = store.outcomes.read(invocation_id, [path.read_bytes()])
    other = store_outcome(outcome, site.entries("seen"), key)
    path.write_bytes(other)

    report = site.report()

    assert report.counts["second outcomes"] == 1
    (violation,) = report.violations
    assert violation.what.startswith("two outcomes: ")
    assert violation.key == key


def store_outcome(outcome, seen, key):
    """The file of the right value, from another execution."""
    from fsqueue.codec import encode

    (answer,) = [entry[2] for entry in seen if entry[1] == key]
    payload = encode((answer[1], "another run"), "a result")
    return b"".join(envelope.encode(outcome, [payload]))


def test_a_wrong_value(site):
    key, _, _ = site.kept()
    site.rewrite(
        lambda entry: [*entry[:3], ["value", -1]] if entry[:2] == ["intent", key] else entry
    )

    (wrong,) = site.wrongs()

    assert wrong.startswith("expected ['value', -1], got ['value', ")


def test_a_lost_worker(site):
    key, invocation_id, path = site.kept()
    outcome, _ = site.tasks.app.store.outcomes.read(invocation_id, [path.read_bytes()])
    fields = {field: getattr(outcome, field) for field in outcome.__struct_fields__}
    failure = {"type": "WorkerLostError", "message": "dead"}
    records = importlib.import_module("fsqueue.spool.format.records")
    lost = Outcome(**fields | {"state": State.FAILED, "failure": records.Failure(**failure)})
    path.write_bytes(b"".join(envelope.encode(lost, ())))
    site.rewrite(lambda entry: entry if entry[:2] != ["seen", key] else None)
    site.disturbances.killed.add("c")

    report = site.report()

    assert report.counts["WorkerLostError"] == 1
    assert len(report.violations) == 1


@pytest.mark.parametrize("kind", ["add", "multiply"])
def test_an_answer_that_no_execution_gave(site, kind):
    number = {"add": 1, "multiply": 2}[kind]
    key = site.entries("intent")[number - 1][1]
    executions = site.base / "executions"
    lines = [line for line in executions.read_text().splitlines() if json.loads(line)[0] != key]
    executions.write_text("".join(f"{line}\n" for line in lines))

    assert site.wrongs() == ["an answer of no execution"]


def test_a_call_without_an_answer(site):
    key = site.entries("intent")[0][1]
    site.rewrite(lambda entry: entry if entry[:2] != ["seen", key] else None)

    assert site.wrongs() == ["no answer"]


def test_a_caller_that_ended_by_itself(site):
    site.rewrite(lambda entry: entry if entry[0] != "end" else None)

    assert site.wrongs() == ["caller c has not ended properly"]


def test_a_call_that_was_cut_short_counts_as_not_written(site):
    site.rewrite(lambda entry: entry if entry[0] != "end" else None)
    with site.ledger.open("a") as file:
        file.write('["intent", "c-77", "direct", ["val')
    site.disturbances.killed.add("c")

    assert site.wrongs() == []


@pytest.mark.parametrize(
    ("why", "full", "wrong"),
    [
        ("ENOSPC: full", True, None),
        ("ENOSPC: full", False, "calls were refused, and the disk was never full"),
        ("EIO: broken", True, "refused: EIO: broken"),
    ],
)
def test_refusals(site, why, full, wrong):
    key = site.entries("intent")[0][1]
    site.rewrite(lambda entry: ["refused", key, why] if entry[:2] == ["seen", key] else entry)
    site.disturbances.disk_was_full = full

    assert site.wrongs() == ([] if wrong is None else [wrong])


@pytest.mark.parametrize(
    "place", ["pending/chaos.default/4.1700000000000", "running/worker", "quarantine"]
)
def test_a_call_that_is_left_somewhere(site, place):
    _, invocation_id, path = site.kept()
    folder = site.spool / place
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / f"{invocation_id}.2")

    (violation,) = site.report().violations

    assert f"{place.partition('/')[0]}/: {invocation_id}.2" in violation.what
    assert violation.id == invocation_id


def test_a_call_in_failed_that_has_not_failed(site):
    _, invocation_id, path = site.kept()
    shutil.copy(path, site.spool / "failed" / f"{invocation_id}.1")

    (violation,) = site.report().violations

    assert violation.what.startswith("in failed/, and has not failed")


def test_a_call_in_failed_twice(site):
    (first, *_) = (site.spool / "failed").iterdir()
    shutil.copy(first, first.with_suffix(".2"))

    assert site.wrongs() == ["in failed/ twice"]


def test_files_left_in_tmp(site):
    (site.spool / "tmp" / "x.1").touch()
    now = time.time()

    assert len(site.wrongs()) == 2, "nobody has died"
    site.disturbances = dataclasses.replace(site.disturbances, deaths=1, last=now - 60)
    assert site.wrongs()[0].startswith("left in tmp/ ")
    site.disturbances.last = now
    assert site.wrongs() == []


def test_a_late_outcome_is_counted_and_is_no_violation(site):
    _, invocation_id, path = site.kept()
    mailbox = site.spool / "done" / path.parent.name
    mailbox.mkdir(exist_ok=True)
    shutil.copy(path, mailbox / invocation_id)

    report = site.report()

    assert report.violations == []
    assert report.counts["late outcomes, never seen"] == 1


def test_a_violation_is_described_with_all_that_is_known_about_its_call(site):
    key, invocation_id, path = site.kept()
    shutil.copy(path, site.spool / "quarantine" / f"{invocation_id}.1")

    (violation,) = site.report().violations
    lines = "\n".join(site.module.describe(site.base, str(site.spool), violation))

    assert f"['intent', '{key}'" in lines
    assert f"['accepted', '{key}', '{invocation_id}']" in lines
    assert f"executions: ['{key}'" in lines
    assert f"file quarantine/{invocation_id}.1" in lines
    assert "fsqueue 1 outcome" in lines
