"""A worker that stops does not wait for bodies whose calls have ended, nor does its process."""

import os
import signal

import pytest
from acceptance_harness import alive, timed_out, wait_until

from fsqueue.errors import TaskTimeoutError

# Far more than the test waits for the worker.
GRACE = "300"


@pytest.fixture
def stuck(site):
    """A worker with thread slots, and a folder whose bodies nobody releases."""
    site.marks_of_call = site.folder("marks")
    site.busy = site.worker("thread", 2, FSQUEUE__STOP_GRACE=GRACE).wait_for_start()
    return site


def leaves(site, *, log="not waiting for the body of"):
    assert site.busy.wait() == 0, site.busy.text()
    assert log in site.busy.text()
    assert "given back" not in site.busy.text()
    assert site.marks_of_call.pids("ends") == []
    assert site.names("running") == site.names("workers") == site.files("pending") == []
    assert not alive(site.busy.pid)


def outlasts_its_time(stuck):
    """Make a call whose body goes on when its time is over."""
    _, stuck.marks_of_call = timed_out(
        stuck, lambda seconds, folder: stuck.tasks.hold_later.options(timeout=seconds)(folder)
    )


def test_a_body_whose_call_has_timed_out(stuck):
    outlasts_its_time(stuck)

    stuck.busy.signal(signal.SIGTERM)

    leaves(stuck)


def test_a_body_whose_call_times_out_during_the_drain(stuck):
    call = stuck.tasks.hold_later.options(timeout=2)(stuck.marks_of_call.folder)
    stuck.marks_of_call.wait_for_starts(1)

    stuck.busy.signal(signal.SIGTERM)
    with pytest.raises(TaskTimeoutError):
        call.get(60)

    leaves(stuck)


@pytest.mark.parametrize("draining", [False, True])
def test_a_body_whose_call_was_cancelled(stuck, draining):
    call = stuck.tasks.hold_later(stuck.marks_of_call.folder)
    stuck.marks_of_call.wait_for_starts(1)
    if draining:
        stuck.busy.signal(signal.SIGTERM)
        stuck.busy.wait_for_log("stopping")
    assert call.cancel()

    if not draining:
        stuck.busy.signal(signal.SIGTERM)

    leaves(stuck)
    assert call.status == "cancelled"


def test_it_waits_for_the_others(stuck):
    outlasts_its_time(stuck)
    other = stuck.folder("other")
    running = stuck.call(stuck.tasks.hold, other.folder)
    other.wait_for_starts(1)

    stuck.busy.signal(signal.SIGTERM)
    stuck.busy.wait_for_log("stopping")
    assert stuck.busy.popen.poll() is None
    other.release()

    assert running.result(60) == stuck.busy.pid
    leaves(stuck)


def test_it_waits_for_a_call_that_runs_in_the_body_of_one_that_has_ended(stuck):
    inner = stuck.folder("inner")
    task = stuck.tasks.wait_for_another.options(timeout=5)
    outer = task(stuck.marks_of_call.folder, inner.folder)
    inner.wait_for_starts(1)
    with pytest.raises(TaskTimeoutError):
        outer.get(60)

    stuck.busy.signal(signal.SIGTERM)
    stuck.busy.wait_for_log("stopping")
    assert stuck.busy.popen.poll() is None
    inner.release()

    assert stuck.busy.wait() == 0, stuck.busy.text()
    assert inner.pids("ends") == [stuck.busy.pid]
    assert "given back" not in stuck.busy.text()


def test_a_thread_that_a_body_has_left_does_not_hold_up_the_end(site, kind):
    marks = site.folder("marks")
    worker = site.worker(kind, 1).wait_for_start()
    call = site.tasks.leave_a_thread(marks.folder)
    assert call.get(60) != os.getpid()
    marks.wait_for_starts(1)

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.text()
    assert marks.pids("ends") == []
    wait_until(lambda: not worker.group(), lambda: f"processes end: {worker.group()}")
