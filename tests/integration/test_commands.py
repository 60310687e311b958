"""The operating commands in this process: what they print and answer, on real spools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import wait_until

from fsqueue.cli import exits
from fsqueue.errors import WorkerLostError
from integration import sample_tasks
from integration.conftest import registered, working

# Of a file server's clock, in seconds: those of Linux have at least a hundred a second; and times
# are rounded to a thousandth.
TICK = 0.011


# -- inspecting -----------------------------------------------------------------------------


def test_status(app, fsqueue, in_json):
    app.task(sample_tasks.add)(1)
    text = fsqueue("status").stdout
    for part in (app.store.layout.root, "t.default", "not served", "no workers", "failed calls"):
        assert part in text
    found = in_json("status")
    (queue,) = found["queues"]
    assert (queue["name"], queue["due"], queue["paused"]) == ("t.default", 1, False)
    assert found["counts"]["clients"] == 1


def test_status_and_top_tell_what_has_ended(app, failed, fsqueue, in_json):
    text = fsqueue("status").stdout
    assert "1 call ended" in text
    assert "failed: 1 (100.0%)" in text
    recent = in_json("status")["recent"]
    assert (recent["calls"], recent["failed"]) == (1, 1)
    assert recent["tasks"][0]["task"] == "integration.sample_tasks.fail_before"


def test_requeue_takes_a_call_from_a_worker_that_hangs(app, gate, fsqueue, in_json, tmp_path):
    """The first outcome counts, whoever makes it, and the later one is not seen."""
    event, name = gate()
    path = tmp_path / "ran"
    task = app.task(sample_tasks.behind_gate)
    with working(app, app.make_runner(concurrency=2)):
        invocation = task(name, "value", str(path))
        wait_until(path.exists)
        done = fsqueue("requeue", invocation.id, expect=exits.USAGE)
        assert "alive" in done.stderr
        after = in_json("requeue", invocation.id, "--yes")["requeued"]
        assert after[invocation.id] in {"pending", "running"}
        wait_until(lambda: path.read_text().count("value") == 2, what="the body runs again")
        event.set()
        assert invocation.get(timeout=60) == "value"
    seen = in_json("show", invocation.id)
    assert seen["state"] == "succeeded"


@pytest.mark.leaves_strays
def test_requeue_of_what_a_dead_worker_held(app, fsqueue, in_json):
    invocation = app.task(sample_tasks.add, max_attempts=2)(1)
    layout = app.store.layout
    for attempt in (1, 2):
        (path,) = Path(layout.pending_folder).glob(f"*/*/{invocation.id}.*")
        folder = Path(layout.running("gone-1-aaaaaa"))
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
        last = attempt == 2
        done = fsqueue("requeue", invocation.id, expect=exits.NEGATIVE if last else exits.OK)
        assert ("has ended: failed" if last else "given back") in done.stdout
    with pytest.raises(WorkerLostError, match="an operator took it"):
        invocation.get(timeout=60)
    assert "no worker holds" in fsqueue("requeue", invocation.id, expect=exits.NOT_FOUND).stderr


def test_stats(app, failed, fsqueue, in_json):
    with working(app):
        for number in range(3):
            app.task(sample_tasks.add)(number).get(timeout=60)
    found = in_json("stats")
    assert (found["calls"], found["failed"]) == (4, 1)
    add, fail = found["tasks"]
    assert (add["task"], add["failure_rate"]) == ("integration.sample_tasks.add", 0.0)
    assert 0 < add["run"]["p50"] <= add["run"]["p99"] < 20
    assert (fail["failed"], fail["failure_rate"]) == (1, 1.0)
    assert [worker["alive"] for worker in found["workers"]] == [False, False]
    text = fsqueue("stats", "--window", "2d").stdout
    for part in (add["task"], "WAIT 50/95/99%", "BUSY", "1 (100.0%)"):
        assert part in text
    for window in ("0", "later"):
        assert fsqueue("stats", "--window", window, expect=exits.USAGE).stdout == ""


def test_stats_of_a_spool_where_nothing_has_ended(app, fsqueue, in_json):
    assert app.store
    assert in_json("stats")["rate"] == 0
    assert "no calls have ended" in fsqueue("stats").stdout


def test_workers(worked, fsqueue, in_json):
    assert worked.store  # makes the spool, if the worker has not yet
    (worker,) = wait_until(lambda: registered(in_json))
    assert (worker["state"], worker["queues"]) == ("alive", ["t.default"])
    text = fsqueue("workers").stdout
    assert worker["name"] in text
    assert f"0/{worker['slots']}" in text


def test_no_workers(app, fsqueue, in_json):
    assert app.store
    assert fsqueue("workers").stdout == "no workers\n"
    assert in_json("workers")["workers"] == []


def test_list_and_its_filters(app, failed, fsqueue, in_json):
    add = app.task(sample_tasks.add)
    made = [add(number) for number in range(3)]
    ids = {each["id"]: each for each in in_json("list")["calls"]}
    assert ids.keys() == {failed.id, *(each.id for each in made)}
    assert ids[failed.id]["failure"]["type"] == "ConnectionError"
    assert len(in_json("list", "--state", "pending")["calls"]) == 3
    assert len(in_json("list", "--task", add.name)["calls"]) == 3
    assert in_json("list", "--older-than", "2h") == {"calls": [], "more": False}
    (one,) = in_json("list", "--worker", ids[failed.id]["worker"])["calls"]
    assert one["id"] == failed.id
    limited = in_json("list", "--limit", 2)
    assert (len(limited["calls"]), limited["more"]) == (2, True)
    text = fsqueue("list").stdout
    assert "ConnectionError: run 1" in text
    assert text.endswith("4 calls\n")
    assert "there are more" in fsqueue("list", "--limit", 1).stdout


def test_what_a_file_says_is_no_command_to_the_terminal(app, fsqueue):
    task = app.task(sample_tasks.add)
    task._publisher._task = "bad\x1b[2Jname"
    task(1)
    text = fsqueue("list").stdout
    assert "\x1b[2J" not in text
    assert "bad\\x1b[2Jname" in text


def test_show_a_pending_call(app, fsqueue, in_json):
    invocation = app.task(sample_tasks.add)(1, b=[2])
    found = in_json("show", invocation.id)
    assert (found["id"], found["state"]) == (invocation.id, "pending")
    assert found["task"] == "integration.sample_tasks.add"
    assert "arguments" not in found
    assert in_json("show", invocation.id, "--arguments")["arguments"] == [
        f"{found['task']}(1, b=[2])"
    ]
    text = fsqueue("show", invocation.id).stdout
    assert "max attempts  3" in text
    assert "t.default" in text


def test_show_a_failed_call(failed, fsqueue, in_json):
    found = in_json("show", failed.id)
    assert (found["state"], found["attempt"]) == ("failed", 1)
    failure = found["failure"]
    assert (failure["type"], failure["message"]) == ("ConnectionError", "run 1")
    assert failure["at"].endswith("in fail_before")
    assert "Traceback (most recent call last)" in found["traceback"]
    # Two processes' readings of the file server's clock differ by one of its ticks at most.
    assert found["created"] < found["started"] + TICK
    assert found["started"] < found["ended"] + TICK
    text = fsqueue("show", failed.id).stdout
    assert "ConnectionError: run 1" in text
    assert "sample_tasks.py" in text


def test_show_tells_why_arguments_cannot_be_read(app, fsqueue):
    invocation = app.task(sample_tasks.add)(sample_tasks.MadeByHand())
    assert "cannot be deserialized" in fsqueue("show", invocation.id, "--arguments").stdout


def test_members_of_a_batch(app, in_json, fsqueue):
    group = app.task(sample_tasks.add, parallel_batch_size=3).parallelize([(1,), (2,), (3,)])
    batch = group[0].id.partition(":")[0]
    assert len(in_json("show", batch, "--arguments")["arguments"]) == 3
    assert in_json("show", group[1].id, "--arguments")["arguments"][0].endswith("add(2)")
    with working(app):
        assert group.get(timeout=60) == [2, 3, 4]
    assert in_json("result", group[2].id)["value"] == 4
    assert in_json("wait", *(each.id for each in group))["states"] == {
        each.id: "succeeded" for each in group
    }
    assert "ask for one of them" in fsqueue("result", batch, expect=exits.USAGE).stderr


# -- results ----------------------------------------------------------------------------------


def test_results(app, failed, fsqueue, in_json):
    echo = app.task(sample_tasks.echo)
    for value, shown in [({"a": (1, None)}, {"a": [1, None]}), ({1, 2}, "{1, 2}")]:
        with working(app):
            invocation = echo(value)
            invocation.get(timeout=60)
        assert fsqueue("result", invocation.id).stdout == f"{value!r}\n"
        assert in_json("result", invocation.id) == {
            "id": invocation.id,
            "state": "succeeded",
            "value": shown,
        }
    done = fsqueue("result", failed.id, expect=exits.NEGATIVE)
    assert done.stdout == ""
    assert "ConnectionError: run 1" in done.stderr
    assert in_json("result", failed.id, expect=exits.NEGATIVE)["failure"]["message"] == "run 1"


def test_waiting(app, failed, fsqueue, in_json):
    later = app.task(sample_tasks.add).options(countdown=1000)(1)
    good = app.task(sample_tasks.add)(1)
    assert fsqueue("wait", later.id, "--timeout", 0.01, expect=exits.TIMEOUT).stdout == (
        f"{later.id} pending\n"
    )
    assert "no result yet" in fsqueue("result", later.id, expect=exits.TIMEOUT).stderr
    with working(app):
        assert fsqueue("wait", good.id).stdout == f"{good.id} succeeded\n"
    both = in_json("wait", good.id, failed.id, expect=exits.NEGATIVE)["states"]
    assert both == {good.id: "succeeded", failed.id: "failed"}


@pytest.mark.parametrize("command", ["show", "wait", "result", "cancel", "retry"])
def test_ids_that_nobody_knows(app, fsqueue, command):
    assert app.store
    assert "abcd-1" in fsqueue(command, "abcd-1", expect=exits.NOT_FOUND).stderr
    assert "not an invocation id" in fsqueue(command, "../x", expect=exits.USAGE).stderr


# -- settings, and mistakes -----------------------------------------------------------------------


def test_config_tells_sources(fsqueue, in_json, monkeypatch, spool):
    monkeypatch.setenv("FSQUEUE__LEASE", "77")
    found = in_json("config")["settings"]
    assert found["lease"] == {"value": 77.0, "source": "environment variable FSQUEUE__LEASE"}
    assert found["root"] == {"value": spool, "source": "argument"}
    assert found["runner"] == {"value": "thread", "source": "default"}
    assert "FSQUEUE__LEASE" in fsqueue("config").stdout


def test_a_spool_that_is_not_there_is_not_made(fsqueue, spool, tmp_path):
    done = fsqueue("status", expect=exits.NOT_FOUND).stderr
    assert f"no spool in {spool}" in done
    assert fsqueue("config").exit_code == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("age", ["x", "-1", "1y", "inf", "nan", ""])
def test_bad_ages(app, fsqueue, age):
    assert app.store
    assert "not a duration" in fsqueue("list", f"--older-than={age}", expect=exits.USAGE).stderr


def test_flags_have_twins_in_the_environment(app, fsqueue, monkeypatch, spool):
    app.task(sample_tasks.add)(1)
    monkeypatch.setenv("FSQUEUE__ROOT", spool)
    monkeypatch.setenv("FSQUEUE__JSON", "1")
    monkeypatch.setenv("FSQUEUE__LIST__STATE", "succeeded")
    assert json.loads(fsqueue("list", root=False).stdout) == {"calls": [], "more": False}


def test_app_and_root_exclude_each_other(fsqueue):
    done = fsqueue("status", "--app", "tasks:app", expect=exits.USAGE).stderr
    assert "--app or --root, not both" in done
