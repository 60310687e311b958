"""P5 and P11: the signals of batch systems, terminals and shells, besides SIGTERM and Ctrl-C."""

import signal
import sys

import pytest
from acceptance_harness import alive, wait_until

WARNINGS = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]
EACH = pytest.mark.parametrize("number", WARNINGS, ids=lambda number: number.name)
TARGET = pytest.mark.parametrize("target", ["process", "group"])


def send(worker, number, target):
    (worker.signal if target == "process" else worker.signal_group)(number)


def finishes(site):
    """Let the body end, and check that it was the only run of it."""
    assert not site.held.done()
    assert site.busy.popen.poll() is None
    site.marks_of_call.release()
    assert site.held.result(60) == site.body
    assert site.busy.wait() == 0, site.busy.text()
    assert site.marks_of_call.pids("starts") == [site.body]
    assert site.names("running") == site.names("workers") == site.files("pending") == []
    wait_until(lambda: not site.busy.group(), lambda: f"processes end: {site.busy.group()}")


@EACH
@TARGET
def test_the_running_body_finishes(busy, number, target):
    send(busy.busy, number, target)
    busy.busy.wait_for_log(f"stopping on {number.name};")

    finishes(busy)


@EACH
@TARGET
def test_an_idle_worker_leaves(site, kind, number, target):
    worker = site.worker(kind, 1).wait_for_start()

    send(worker, number, target)

    assert worker.wait() == 0, worker.text()
    assert f"stopping on {number.name};" in worker.text()
    assert site.names("running") == site.names("workers") == []


@TARGET
def test_warnings_during_a_drain_do_not_hurry_it(busy, target):
    busy.busy.signal(signal.SIGTERM)
    busy.busy.wait_for_log("stopping on SIGTERM;")
    for number in WARNINGS * 2:
        send(busy.busy, number, target)
        busy.busy.wait_for_log(f"{number.name}: this worker is stopping already")

    finishes(busy)


def test_a_sigterm_after_a_warning_is_the_first_one(busy):
    busy.busy.signal(signal.SIGUSR1)
    busy.busy.wait_for_log("stopping on SIGUSR1;")
    busy.busy.signal(signal.SIGTERM)
    busy.busy.wait_for_log("stopping on SIGTERM;")

    finishes(busy)


def test_after_a_warning_what_outlasts_the_grace_is_given_back(site, kind):
    marks = site.folder("marks")
    worker = site.worker(kind, 1, FSQUEUE__STOP_GRACE="0.3").wait_for_start()
    site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)
    (name,) = site.files("running")

    worker.signal(signal.SIGUSR1)

    assert worker.wait() == 0, worker.text()
    assert site.files("pending") == [name], "it is pending again, as the same attempt"


@TARGET
@pytest.mark.parametrize("draining", [False, True], ids=["working", "draining"])
def test_sigquit_returns_everything_at_once(busy, target, draining):
    (name,) = busy.files("running")
    if draining:
        busy.busy.signal(signal.SIGTERM)
        busy.busy.wait_for_log("stopping on SIGTERM;")

    send(busy.busy, signal.SIGQUIT, target)

    assert busy.busy.wait() == 128 + signal.SIGQUIT, busy.busy.text()
    assert "SIGQUIT: giving the running calls back at once" in busy.busy.text()
    assert busy.files("pending") == [name], "it is pending again, as the same attempt"
    assert not alive(busy.body)


def test_a_hang_up_is_ignored_under_nohup(site, kind):
    site.marks_of_call = site.folder("marks")
    site.busy = site.worker(kind, 1, before=("nohup",)).wait_for_start()
    site.held = site.call(site.tasks.hold, site.marks_of_call.folder)
    (site.body,) = site.marks_of_call.wait_for_starts(1)

    site.busy.signal_group(signal.SIGHUP)
    site.busy.signal(signal.SIGUSR1)
    site.busy.wait_for_log("stopping on SIGUSR1;")

    assert "SIGHUP" not in site.busy.text()
    finishes(site)


@TARGET
@pytest.mark.parametrize("number", [*WARNINGS, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_before_the_worker_has_begun(site, kind, number, target):
    command = (sys.executable, "-m", "fsqueue", "worker", "slow_import:app", "--runner", kind)
    worker = site.start(*command)
    importing = site.project / "importing"
    wait_until(importing.exists, lambda: f"the import begins:\n{worker.text()}")

    send(worker, number, target)

    assert worker.wait() == (128 + number if number == signal.SIGQUIT else 0), worker.text()
    assert f"{number.name}: the process ends; its worker had not begun" in worker.text()


def test_a_script_keeps_its_own_handlers(site, kind):
    site.marks_of_call = site.folder("marks")
    site.busy = site.start(sys.executable, "own_handlers.py", kind)
    site.held = site.call(site.tasks.hold, site.marks_of_call.folder)
    (site.body,) = site.marks_of_call.wait_for_starts(1)

    site.busy.signal(signal.SIGUSR2)
    site.busy.wait_for_log("most recent call first")
    site.busy.signal_group(signal.SIGUSR1)
    site.busy.signal(signal.SIGHUP)
    site.busy.signal(signal.SIGTERM)
    finishes(site)

    said = site.busy.output().splitlines()
    assert said[-2:] == ["restored True", "own SIGHUP"]
    assert sorted(said[:-2]) == ["own SIGHUP", "own SIGUSR1"]
