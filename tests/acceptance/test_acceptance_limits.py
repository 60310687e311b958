"""Bodies that are ended: by a timeout, by cancelling, by Ctrl-C of their caller."""

import signal
import sys

import pytest
from acceptance_harness import alive, timed_out, wait_until
from support import PATIENCE

from fsqueue import CancelledError, State


def test_a_timeout_kills_the_process_of_the_body(site):
    worker = site.worker("process", 1)
    invocation, marks = timed_out(
        site, lambda seconds, folder: site.tasks.hold_later.options(timeout=seconds)(folder)
    )
    (body,) = marks.pids("starts")
    wait_until(lambda: not alive(body), "the body's process ends")
    assert invocation.status is State.FAILED
    assert site.call(site.tasks.pid).result(60) != body
    assert worker.popen.poll() is None
    wait_until(lambda: site.files("running") == [], "both attempts are removed")


def test_a_body_that_lets_no_thread_run_is_killed_too(site):
    site.worker("process", 1)
    _, marks = timed_out(
        site, lambda seconds, folder: site.tasks.sleep_in_c.options(timeout=seconds)(folder)
    )
    (body,) = marks.pids("starts")
    wait_until(lambda: not alive(body), "the body's process ends")
    assert site.call(site.tasks.pid).result(60) != body
    assert marks.pids("starts") == [body]


def test_a_timeout_that_is_retried(site):
    marks = site.folder("marks")
    site.worker("process", 2)
    task = site.tasks.hold_briefly.options(retry_for=TimeoutError, max_retries=99, retry_delay=0.0)
    invocation = task(marks.folder)
    marks.wait_for_starts(2)
    marks.release()
    # A body that has ended may be too late to tell.
    assert invocation.get(timeout=60 + PATIENCE) in marks.pids("ends")


def test_cancelling_kills_the_process_of_the_body(site):
    marks = site.folder("marks")
    site.worker("process", 1)
    invocation = site.tasks.hold_later(marks.folder)
    (body,) = marks.wait_for_starts(1)

    assert invocation.cancel() is True

    with pytest.raises(CancelledError):
        invocation.get(timeout=60)
    wait_until(lambda: not alive(body), "the body's process ends")
    assert site.call(site.tasks.pid).result(60) != body
    assert marks.pids("starts") == [body]
    wait_until(lambda: site.files("running") == [], "the attempt is removed")
    assert site.files("pending") == []
    assert invocation.status is State.CANCELLED


def test_cancelling_with_threads_tells_the_caller_at_once(site):
    marks = site.folder("marks")
    site.worker("thread", 2)
    invocation = site.tasks.hold_later(marks.folder)
    marks.wait_for_starts(1)
    assert invocation.cancel() is True
    with pytest.raises(CancelledError):
        invocation.get(timeout=60)
    assert marks.pids("ends") == []
    marks.release()
    wait_until(lambda: marks.pids("ends"), "the body ends by itself")
    wait_until(lambda: site.files("running") == [], "the attempt is removed")
    assert invocation.status is State.CANCELLED


def test_ctrl_c_in_a_fan_out_ends_the_rest(site):
    marks = site.folder("marks")
    site.worker("process", 2)
    caller = site.start(sys.executable, "fan_out.py", marks.folder)
    bodies = marks.wait_for_starts(2)
    wait_until(lambda: len(site.files("pending")) == 2, "two calls wait")

    caller.signal(signal.SIGINT)

    assert caller.wait() != 0
    assert "KeyboardInterrupt" in caller.text()
    wait_until(lambda: not any(map(alive, bodies)), "the bodies' processes end")
    assert site.files("pending") == []
    wait_until(lambda: site.files("running") == [], "the attempts are removed")
    assert sorted(marks.pids("starts")) == sorted(bodies)
