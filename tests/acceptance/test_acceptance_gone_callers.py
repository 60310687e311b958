"""Callers that are killed: nothing runs for a process that cannot receive the result."""

import importlib
import os
import signal
import sys

import pytest
from acceptance_harness import alive, wait_until

COUNT = 200
HELD = -1


@pytest.fixture
def marks(site):
    return site.folder("marks")


@pytest.fixture
def gone_tasks(site, monkeypatch):
    """The tasks in this process, which is a caller that lives."""
    monkeypatch.syspath_prepend(str(site.project))
    monkeypatch.delitem(sys.modules, "gone_tasks", raising=False)
    return importlib.import_module("gone_tasks")


def start_caller(site, how, marks, count=COUNT):
    code = f"import gone_tasks; gone_tasks.call({how!r}, {marks.folder!r}, {count})"
    return site.start(sys.executable, "-c", code)


def kill(process):
    process.signal(signal.SIGKILL)
    process.wait()


def stop(worker):
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()


def pending_of(site, count):
    wait_until(
        lambda: len(site.files("pending")) == count,
        lambda: f"{count} pending calls, and not {len(site.files('pending'))}",
    )


def assert_nothing_left(site):
    """But the record of the caller, which says for as long as journals whose calls these were."""
    for top in ("pending", "after", "running", "done", "kept", "failed", "tmp", "lanes"):
        found = site.names(top) if top != "pending" else site.files(top)
        assert found == [], f"{top}/ has {found}"
    (record,) = site.names("clients")
    assert record.endswith(".json")


def finished(site):
    """All calls have left, whether their bodies have run or not."""
    return not site.files("pending") and not site.files("running") and not site.files("lanes")


@pytest.mark.parametrize(
    ("how", "files"),
    [("fan-out", COUNT), ("batches", COUNT // 10), ("async", COUNT), ("in turn", COUNT)],
)
def test_no_pending_call_of_a_killed_caller_runs(site, kind, marks, how, files):
    caller = start_caller(site, how, marks)
    pending_of(site, files)
    kill(caller)

    worker = site.worker(kind, 2).wait_for_start()
    wait_until(lambda: finished(site), lambda: f"all calls have left: {site.files('pending')}")
    stop(worker)

    assert marks.pids("starts") == []
    assert marks.pids("turns") == []
    assert_nothing_left(site)


def test_what_a_killed_caller_has_in_front_of_the_slots_is_withdrawn(site, kind, marks):
    """The worker has seen the caller alive before."""
    busy = site.folder("busy")
    worker = site.worker(kind, 1).wait_for_start()
    holder = site.call(site.tasks.hold, busy.folder)
    busy.wait_for_starts(1)
    caller = start_caller(site, "fan-out", marks)
    pending_of(site, COUNT)
    kill(caller)
    busy.release()
    holder.result(60)
    wait_until(lambda: finished(site), "all calls have left")
    stop(worker)
    assert marks.pids("starts") == []


def test_a_running_body_of_a_killed_caller_goes_on_and_leaves_no_result(site, kind, marks):
    worker = site.worker(kind, 1).wait_for_start()
    caller = start_caller(site, "held", marks)
    marks.wait_for_starts(1)
    kill(caller)
    marks.release()
    wait_until(lambda: marks.pids("ends"), "the body goes on to its end")
    wait_until(lambda: finished(site), "the call has left")
    stop(worker)
    assert_nothing_left(site)


def test_calls_of_tasks_run_though_their_caller_is_killed(site, kind, marks, gone_tasks):
    caller = start_caller(site, "later", marks, 20)
    ids = wait_until(lambda: caller.output().split(), "the calls are made")
    caller.wait()
    children = [
        gone_tasks.app.invocation(each).then(gone_tasks.after, marks.folder) for each in ids
    ]
    site.worker(kind, 2).wait_for_start()
    assert [child.get(60) for child in children] == ["done"] * 20
    assert len(marks.pids("starts")) == len(marks.pids("afters")) == 20


def test_a_direct_call_that_another_call_waits_for_runs(site, kind, marks, gone_tasks):
    caller = start_caller(site, "held", marks)
    pending_of(site, 1)
    (name,) = site.files("pending")
    parent = gone_tasks.app.invocation(name.rpartition(".")[0])
    child = gone_tasks.after(parent, marks.folder)
    kill(caller)
    marks.release()
    site.worker(kind, 1).wait_for_start()
    assert child.get(60) in marks.pids("starts")


def test_a_direct_call_that_waits_for_another_call_is_withdrawn_after_it(site, kind, marks):
    caller = start_caller(site, "awaits", marks)
    wait_until(lambda: site.files("after"), "it waits")
    kill(caller)
    marks.release()
    worker = site.worker(kind, 1).wait_for_start()
    wait_until(lambda: not site.files("after") and finished(site), "both have left")
    stop(worker)
    assert len(marks.pids("ends")) == 1
    assert marks.pids("afters") == []


def test_calls_of_others_get_their_turn_behind_those_of_a_killed_caller(
    site, kind, marks, gone_tasks
):
    """The worker holds the only turn, the killed caller's calls wait for theirs."""
    busy = site.folder("busy")
    worker = site.worker(kind, 2).wait_for_start()
    holder = site.call(gone_tasks.take_turns, busy.folder, HELD)
    busy.wait_for_starts(1)
    caller = start_caller(site, "in turn", marks, 30)
    wait_until(lambda: len(site.files("lanes")) == 30, "they wait for their turn")
    kill(caller)
    call = site.call(gone_tasks.take_turns, marks.folder, HELD)
    wait_until(lambda: len(site.files("lanes")) == 31, "it waits behind them")
    busy.release()
    marks.release()
    holder.result(60)
    assert call.result(60)[0] in marks.pids("starts")
    assert marks.pids("turns") == []
    stop(worker)


def test_nested_calls_of_a_killed_worker_do_not_run(site, kind, marks, gone_tasks):
    """They were made by a body that runs again, and then makes its own."""
    first = site.worker(kind, 1).wait_for_start()
    call = site.call(gone_tasks.outer, marks.folder)
    wait_until(lambda: marks.pids("outer"), "the body runs")
    (pid,) = marks.pids("outer")
    wait_until(lambda: marks.pids(f"inner-of-{pid}"), "a nested call runs")
    kill(first)
    wait_until(lambda: not alive(pid), "the body's process is gone")
    marks.release()
    site.worker(kind, 1).wait_for_start()
    assert len(call.result(60)) == 10
    assert len(marks.pids("outer")) == 2
    assert len(marks.pids(f"inner-of-{pid}")) == 1


def test_a_caller_that_cannot_be_seen_from_here_is_gone_after_the_lease(site, kind, marks):
    """It is in a PID namespace of its own, as in a container: that is as far as another host."""
    isolated = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if os.getuid() != 0 or site.run(*isolated, "true").returncode:
        pytest.skip("needs PID namespaces")
    busy = site.folder("busy")
    worker = site.worker(kind, 1, FSQUEUE__HEARTBEAT="0.2", FSQUEUE__LEASE="1").wait_for_start()
    holder = site.call(site.tasks.hold, busy.folder)
    busy.wait_for_starts(1)
    code = f"import gone_tasks; gone_tasks.call('fan-out', {marks.folder!r}, {COUNT})"
    caller = site.start(*isolated, sys.executable, "-c", code)
    pending_of(site, COUNT)
    stamp = site.root / "locks" / "upkeep"
    since = stamp.stat().st_mtime
    wait_until(lambda: stamp.stat().st_mtime > since + 2.5, "the worker has seen that it lives")
    kill(caller)
    pending_of(site, 0)
    worker.wait_for_log("seems to be gone; its calls withdrawn")
    busy.release()
    holder.result(60)
    assert marks.pids("starts") == []
