"""P13: programs of bodies that cannot be ended, and of bodies whose worker stops at once."""

import signal
import sys

import pytest
from acceptance_harness import alive, wait_until
from test_acceptance_programs import WAYS, assert_gone, started, worker_of
from test_acceptance_signals import insist

from fsqueue import CancelledError, TaskTimeoutError


@pytest.mark.parametrize("ended_by", ["timeout", "cancel"])
def test_a_thread_that_waits_for_a_program_goes_on_when_its_call_has_ended(
    site, programs, ended_by
):
    worker_of(site, "thread")
    marks = site.folder("marks")
    call = programs.run_program.options(timeout=5.0 if ended_by == "timeout" else None)(
        marks.folder
    )
    started(marks)
    if ended_by == "cancel":
        assert call.cancel()
    with pytest.raises((TaskTimeoutError, CancelledError)):
        call.get(timeout=60)
    assert_gone(marks)
    wait_until(lambda: marks.pids("ends"), "the body ends")
    assert programs.pid().get(timeout=60) == marks.pids("ends")[0], "its slot is free again"


def test_programs_of_a_call_that_runs_in_the_body_of_one_that_has_ended_go_on(site, programs):
    worker_of(site, "thread")
    outer, inner = site.folder("outer"), site.folder("inner")
    call = programs.start_and_call(outer.folder, inner.folder)
    (program,) = started(inner)
    assert call.cancel()
    assert_gone(outer)
    assert alive(program)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_programs_of_a_body_that_waits_for_one_that_has_ended_go_on(site, programs, kind):
    worker_of(site, kind)
    outer, inner = site.folder("outer"), site.folder("inner")
    call = programs.outlive_another(outer.folder, inner.folder)
    (program,) = started(outer)
    assert_gone(inner)
    wait_until(lambda: outer.pids("waits"), "the outer body goes on")
    assert alive(program)
    outer.release()
    call.get(timeout=60)
    assert_gone(outer)


def test_the_end_of_a_body_leaves_the_pool_of_another_thread_alone(site, programs):
    site.worker("thread", 2, app="programs:app").wait_for_start()
    pool, other = site.folder("pool"), site.folder("other")
    call = programs.use_pool_until(pool.folder)
    (process,) = started(pool)
    programs.start("popen", other.folder).get(timeout=60)
    assert_gone(other)
    assert alive(process)
    pool.release()
    assert call.get(timeout=60) == process


# -- stops at once ----------------------------------------------------------------------------


def stop_at_once(worker, how):
    """A second signal, or SIGQUIT; returns the exit code that it asks for."""
    if how == "SIGQUIT":
        worker.signal(signal.SIGQUIT)
        return 128 + signal.SIGQUIT
    worker.signal(signal.SIGTERM)
    worker.wait_for_log("stopping")
    insist(worker, signal.SIGTERM)
    return 128 + signal.SIGTERM


def check_stop(site, worker, marks, how):
    wait_until(lambda: marks.pids("waits"), "the body waits")
    (name,) = site.files("running")
    assert name.endswith(".1")
    code = stop_at_once(worker, how)
    assert worker.wait() == code, worker.text()
    assert_gone(marks)
    wait_until(lambda: not any(map(alive, marks.pids("starts"))), "the slot ends")
    assert site.files("pending") == [name], "it is pending again, as the same attempt"
    assert site.names("running") == site.names("workers") == []


@pytest.mark.parametrize("how", ["second SIGTERM", "SIGQUIT"])
@pytest.mark.parametrize("way", WAYS)
def test_programs_end_with_a_worker_that_gives_everything_back(site, programs, kind, way, how):
    worker = worker_of(site, kind)
    marks = site.folder("marks")
    programs.start_and_wait(way, marks.folder)
    check_stop(site, worker, marks, how)


@pytest.mark.parametrize("how", ["second SIGTERM", "SIGQUIT"])
@pytest.mark.parametrize("way", ["popen", "deaf", "fork", "pipeline"])
def test_programs_end_with_a_script_that_gives_everything_back(site, programs, kind, way, how):
    """Its thread slots have no guardian that would find the programs afterwards."""
    worker = site.start(sys.executable, "serve_programs.py", kind)
    marks = site.folder("marks")
    programs.start_and_wait(way, marks.folder)
    check_stop(site, worker, marks, how)
