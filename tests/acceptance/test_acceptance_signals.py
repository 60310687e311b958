"""Stopping a worker: the first signal drains, the second one gives back."""

import os
import shutil
import signal
import sys

import psutil
import pytest
from acceptance_harness import alive, wait_until

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])


def insist(worker, number):
    """Signal a worker that drains until that counts as a second signal.

    Two signals within 0.1 s are one, so the worker may say once or twice that it stops already.
    """
    said = "is stopping already", "giving the running calls back"
    while worker.popen.poll() is None and said[1] not in worker.text():
        count = worker.text().count(said[0])
        worker.signal(number)
        wait_until(
            lambda count=count: (
                worker.popen.poll() is not None
                or said[1] in worker.text()
                or worker.text().count(said[0]) > count
            ),
            "it reacts",
        )


def drained(site):
    """Let the body end, and check that the worker leaves as it should."""
    assert not site.held.done()
    assert site.busy.popen.poll() is None
    site.marks_of_call.release()
    assert site.held.result(60) == site.body
    assert site.busy.wait() == 0, site.busy.text()
    assert site.marks_of_call.pids("starts") == [site.body], "it ran once"
    left_nothing(site)


def left_nothing(site):
    assert site.names("running") == []
    assert site.names("workers") == []
    assert site.files("pending") == []
    assert site.names("tmp") == []
    wait_until(lambda: not site.busy.group(), lambda: f"processes end: {site.busy.group()}")


@BOTH
def test_the_running_body_finishes(busy, number):
    busy.busy.signal(number)
    busy.busy.wait_for_log("stopping")

    drained(busy)


@BOTH
def test_a_signal_to_the_whole_group(busy, number):
    # Ctrl-C in a terminal, timeout(1), `scancel --full`, systemd's default KillMode.
    busy.busy.signal_group(number)
    busy.busy.wait_for_log("stopping")

    drained(busy)


@BOTH
def test_an_idle_worker_leaves(site, kind, number):
    site.busy = site.worker(kind).wait_for_start()

    site.busy.signal(number)

    assert site.busy.wait() == 0

    left_nothing(site)


def test_nothing_new_is_begun_while_draining(busy):
    waiting = busy.call(busy.tasks.pid)
    wait_until(lambda: busy.files("pending"), "the second call is pending")

    busy.busy.signal(signal.SIGTERM)
    busy.busy.wait_for_log("stopping")
    busy.marks_of_call.release()

    assert busy.held.result(60) == busy.body
    assert busy.busy.wait() == 0
    assert not waiting.done()
    assert [name.rpartition(".")[2] for name in busy.files("pending")] == ["1"]
    other = busy.worker("thread").wait_for_start()
    assert waiting.result(60) == other.pid


def test_a_nested_call_is_made_and_run_while_draining(site, kind):
    marks = site.folder("marks")
    site.busy = site.worker(kind, 1).wait_for_start()
    call = site.call(site.tasks.hold_and_fib, marks.folder, 8)
    marks.wait_for_starts(1)

    site.busy.signal(signal.SIGTERM)
    site.busy.wait_for_log("stopping")
    marks.release()

    assert call.result(60) == 21
    assert site.busy.wait() == 0
    left_nothing(site)


def signal_at_once(worker, *numbers):
    """Send signals of which the worker hears together, however busy the machine is."""
    worker.signal(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED, "it stands")
    for number in numbers:
        worker.signal(number)
    worker.signal(signal.SIGCONT)


def test_two_signals_at_once_are_one(busy):
    signal_at_once(busy.busy, signal.SIGTERM, signal.SIGTERM)
    busy.busy.wait_for_log("stopping")

    drained(busy)


def test_two_different_signals_at_once_are_one(busy):
    signal_at_once(busy.busy, signal.SIGTERM, signal.SIGINT)
    busy.busy.wait_for_log("stopping")

    drained(busy)


@pytest.mark.skipif(shutil.which("timeout") is None, reason="needs timeout(1)")
def test_under_timeout(site, kind):
    # It signals its child and then the group, which the child belongs to.
    site.marks_of_call = site.folder("marks")
    site.busy = site.worker(kind, 1, before=("timeout", "600")).wait_for_start()
    site.held = site.call(site.tasks.hold, site.marks_of_call.folder)
    (site.body,) = site.marks_of_call.wait_for_starts(1)

    site.busy.signal(signal.SIGTERM)
    site.busy.wait_for_log("stopping")

    drained(site)


@BOTH
def test_the_second_signal_gives_the_call_back(busy, number):
    (name,) = busy.files("running")
    busy.busy.signal(number)
    busy.busy.wait_for_log("stopping")
    insist(busy.busy, number)

    assert busy.busy.wait() == 128 + number, "it does not wait for the body"
    assert not alive(busy.body)
    assert busy.files("pending") == [name], "it is pending again, as the same attempt"
    assert busy.files("running") == []
    other = busy.worker("thread", 1).wait_for_start()
    assert busy.marks_of_call.wait_for_starts(2)[1] == other.pid
    busy.marks_of_call.release()
    assert busy.held.result(60) == other.pid
    wait_until(lambda: len(busy.names("running")) == 1, "only the new worker's folder is left")
    # A slot's process may die while it takes a lock, but not its claim with it.
    wait_until(lambda: not busy.busy.group(), lambda: f"processes end: {busy.busy.group()}")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("signals", [1, 2])
def test_there_are_no_semaphores_that_could_be_left(site, signals):
    marks = site.folder("marks")
    worker = site.worker("process", 1).wait_for_start()
    site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)
    assert worker.semaphores() == [], "slots share nothing that a kill could leave locked"

    worker.signal(signal.SIGTERM)
    worker.wait_for_log("stopping")
    if signals == 1:
        marks.release()
    else:
        insist(worker, signal.SIGTERM)
    worker.wait()

    wait_until(lambda: not worker.group(), lambda: f"processes end: {worker.group()}")


def test_stops_given_back_cost_no_attempt(site, kind):
    """More planned stops than the call has attempts."""
    marks = site.folder("marks")
    call = site.call(site.tasks.hold, marks.folder)
    for round_ in range(1, 5):
        worker = site.worker(kind, 1).wait_for_start()
        marks.wait_for_starts(round_)
        (name,) = site.files("running")
        assert name.endswith(".1")
        worker.signal(signal.SIGTERM)
        worker.wait_for_log("stopping")
        insist(worker, signal.SIGTERM)
        assert worker.wait() == 128 + signal.SIGTERM
    site.worker(kind, 1)
    marks.wait_for_starts(5)
    marks.release()

    assert call.result(60) != os.getpid()


# -- the grace ------------------------------------------------------------------------------

GRACE = "0.3"


@BOTH
def test_what_outlasts_the_grace_is_given_back(site, kind, number):
    marks = site.folder("marks")
    worker = site.worker(kind, 1, FSQUEUE__STOP_GRACE=GRACE).wait_for_start()
    held = site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)
    (name,) = site.files("running")

    worker.signal(number)
    worker.wait_for_log(f"get {GRACE} s to finish: 1;")

    assert worker.wait() == 0, worker.text()
    assert f"given back: {name}" in worker.text()
    assert site.files("pending") == [name], "it is pending again, as the same attempt"
    assert site.names("running") == site.names("workers") == []
    other = site.worker("thread", 1).wait_for_start()
    assert marks.wait_for_starts(2)[1] == other.pid
    marks.release()
    assert held.result(60) == other.pid


def test_a_nested_call_is_given_back_too_and_costs_no_attempt(site, kind):
    marks = site.folder("marks")
    worker = site.worker(kind, 1, FSQUEUE__STOP_GRACE=GRACE).wait_for_start()
    held = site.call(site.tasks.hold_within, marks.folder)
    marks.wait_for_starts(1)

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.text()
    assert [name.rpartition(".")[2] for name in site.files("pending")] == ["1", "1"]
    assert site.names("running") == site.names("workers") == []
    marks.release()
    site.worker("thread", 1)
    assert held.result(60) != worker.pid


# -- app.runner.run() in a script -----------------------------------------------------------


@BOTH
def test_a_script_that_runs_the_runner(site, kind, number):
    site.marks_of_call = site.folder("marks")
    site.busy = site.start(sys.executable, "serve.py", FSQUEUE__RUNNER=kind)
    site.held = site.call(site.tasks.hold, site.marks_of_call.folder)
    (site.body,) = site.marks_of_call.wait_for_starts(1)

    site.busy.signal(number)
    drained(site)

    assert site.busy.output().split() == ["starting", "returned"]
