"""Commands that change something, with real workers in processes of their own."""

import json

import pytest
from acceptance_harness import wait_until

from fsqueue import CancelledError, State, WorkerLostError
from fsqueue.cli import exits


def answer(site, *arguments, expect=exits.OK):
    done = site.fsqueue(*arguments, "--json")
    assert (done.returncode, done.stderr) == (expect, "")
    return json.loads(done.stdout)


def test_a_remote_drain_is_a_planned_stop(site, kind):
    """The running body finishes, the rest stays pending, and the exit code is that of SIGTERM."""
    marks = site.folder("held")
    worker = site.worker(kind, 1, FSQUEUE__HEARTBEAT="0.2").wait_for_start()
    held = site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)
    later = site.tasks.square(3)
    (name,) = answer(site, "drain", "--all")["asked"]
    worker.wait_for_log("was asked to drain")
    assert answer(site, "workers")["workers"][0]["draining"]
    marks.release()
    assert held.result(60)
    assert worker.wait() == 0
    assert later.status is State.PENDING
    assert site.files("locks") in ([], ["upkeep"])
    assert site.files("workers") == []
    assert name in worker.text()


def test_a_drain_gives_back_what_outlasts_the_grace(site):
    marks = site.folder("held")
    stubborn = {"FSQUEUE__HEARTBEAT": "0.2", "FSQUEUE__STOP_GRACE": "0.3"}
    worker = site.worker("thread", 1, **stubborn).wait_for_start()
    invocation = site.tasks.hold_later(marks.folder)
    marks.wait_for_starts(1)
    assert answer(site, "drain", "--all", "--wait", "--timeout", "60")["left"]
    assert worker.wait() == 0
    assert invocation.status is State.PENDING
    assert site.files("pending") == [f"{invocation.id}.1"], "no attempt was counted"
    marks.release()


def test_pause_cancel_resume(site):
    site.worker("thread", 2).wait_for_start()
    assert site.tasks.square(1).get(60)
    assert answer(site, "pause", "default") == {"queue": "acceptance.default", "changed": True}
    first, second = site.tasks.square(2), site.tasks.square(3)
    waited = site.fsqueue("wait", first.id, "--timeout", "0.5", "--json")
    assert waited.returncode == exits.TIMEOUT
    assert json.loads(waited.stdout)["states"] == {first.id: "pending"}
    assert "its queue acceptance.default is paused; ends with fsqueue resume" in waited.stderr
    assert answer(site, "cancel", first.id) == {"cancelled": {first.id: True}}
    assert answer(site, "resume", "default")["changed"]
    assert second.get(60)[0] == 9
    with pytest.raises(CancelledError):
        first.get(60)


def test_retry_after_the_cause_is_mended(site):
    marks = site.folder("mended")
    worker = site.worker("process", 1).wait_for_start()
    with pytest.raises(WorkerLostError):
        site.tasks.crash_for_good(marks.folder, "exit")
    wait_until(lambda: site.files("failed"), "the call is kept")
    retried = answer(site, "retry", "--all-failed", "--task", "tasks.crash_for_good")["retried"]
    (new,) = retried.values()
    assert answer(site, "wait", new, "--timeout", "60", expect=exits.NEGATIVE)["states"] == {
        new: "failed"
    }
    assert len(marks.pids("starts")) == 2
    assert worker.popen.poll() is None
    assert answer(site, "show", new)["retry_of"] in retried
