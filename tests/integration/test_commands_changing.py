"""The commands that change something, in this process, on real spools."""

from __future__ import annotations

import pytest
from support import wait_until

from fsqueue import State
from fsqueue.cli import exits
from integration import sample_tasks
from integration.conftest import registered, working


def test_cancel(app, failed, fsqueue, in_json):
    pending = app.task(sample_tasks.add)(1)
    assert fsqueue("cancel", pending.id).stdout == f"{pending.id} cancelled\n"
    assert pending.status is State.CANCELLED
    answer = in_json("cancel", failed.id, expect=exits.NEGATIVE)
    assert answer == {"cancelled": {failed.id: False}}


def test_retry_one(app, failed, fsqueue, in_json):
    new = in_json("retry", failed.id)["retried"][failed.id]
    assert "was already retried" in fsqueue("retry", failed.id, expect=exits.NOT_FOUND).stderr
    with working(app):
        assert fsqueue("result", new, "--timeout", 60).stdout == "2\n"
    assert in_json("show", failed.id)["retried_as"] == new


def test_retry_all(app, failed, fsqueue, in_json):
    assert in_json("retry", "--all-failed", "--task", "other.task")["retried"] == {}
    done = fsqueue("retry", "--all-failed", "--task", "integration.sample_tasks.fail_before")
    assert done.stdout.startswith(f"{failed.id} runs again as ")
    with working(app):
        wait_until(lambda: not in_json("list", "--state", "pending")["calls"])


@pytest.mark.parametrize("arguments", [(), ("abcd-1", "--all-failed"), ("--task", "a.b")])
def test_retry_wants_to_know_what(app, fsqueue, arguments):
    assert app.store
    assert "which calls?" in fsqueue("retry", *arguments, expect=exits.USAGE).stderr


def test_one_damaged_call_does_not_keep_others_from_being_retried(app, failed, in_json):
    (text,) = app.store.fs.names(app.store.layout.failed_folder)
    with open(f"{app.store.layout.failed_folder}/{text}", "ab") as file:
        file.write(b"more")
    answer = in_json("retry", "--all-failed", expect=exits.NEGATIVE)
    assert answer["retried"] == {}
    assert "damaged" in answer["problems"][failed.id]


def test_pause_and_resume(app, fsqueue, in_json):
    app.task(sample_tasks.add)(1)
    assert fsqueue("pause", "default").stdout == "t.default is paused\n"
    assert in_json("pause", "t.default") == {"queue": "t.default", "changed": False}
    assert "paused" in fsqueue("status").stdout
    assert fsqueue("resume", "default").stdout == "t.default is open again\n"
    assert in_json("resume", "default")["changed"] is False


def test_a_queue_that_is_not_there_or_not_clear(app, make_app, fsqueue):
    app.task(sample_tasks.add)(1)
    other = make_app("u")
    other.task(sample_tasks.add)(1)
    for name in ("nope", "t.nope", "default", "../../etc"):
        done = fsqueue("pause", name, expect=exits.NOT_FOUND).stderr
        assert "t.default, u.default" in done


def test_purge(app, fsqueue, in_json):
    pending = app.task(sample_tasks.add)(1)
    assert in_json("purge", "default", "--dry-run") == {"queue": "t.default", "would_cancel": 1}
    refused = fsqueue("purge", "default", expect=exits.USAGE)
    assert "--yes" in refused.stderr
    assert pending.status is State.PENDING
    assert fsqueue("purge", "default", "--yes").stdout == "t.default: 1 call cancelled\n"
    assert pending.status is State.CANCELLED


def test_drain(make_app, fsqueue, in_json):
    app = make_app(heartbeat=0.1, lease=10.0)
    assert app.store
    with working(app):
        (worker,) = wait_until(lambda: registered(in_json))
        answer = in_json("drain", worker["name"], "--wait", "--timeout", 60)
        assert answer == {"asked": [worker["name"]], "left": True}
    assert fsqueue("drain", "--all").stdout == "asked: 0 workers\n"
    assert "there is no worker" in fsqueue("drain", "nobody", expect=exits.NOT_FOUND).stderr
    assert "which workers?" in fsqueue("drain", expect=exits.USAGE).stderr


def test_gc(app, failed, fsqueue, in_json):
    assert set(in_json("gc")["removed"].values()) == {0}
    text = fsqueue("gc", "--older-than", "0").stdout
    assert "      1  failed\n" in text
    assert in_json("list") == {"calls": [], "more": False}
