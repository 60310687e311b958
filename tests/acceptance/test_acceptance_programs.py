"""P13: processes that a body has started end with it, however it ends."""

import contextlib
import os
import signal

import pytest
from acceptance_harness import KINDS, alive, timed_out, wait_until
from support import WHOLE

from fsqueue import CancelledError, WorkerLostError

WAYS = [
    "popen",
    "setsid",
    "deaf",
    "daemon",
    "double fork",
    "fork",
    "pipeline",
    "process fork",
    "process spawn",
    "process forkserver",
    "asyncio",
    "pool",
]
# A thread slot cannot tell whose an orphan is, nor what another thread has forked.
NOT_OF_THREADS = {"daemon", "double fork", "process forkserver"}
OF_EACH = [
    (kind, way) for kind in KINDS for way in WAYS if kind == "process" or way not in NOT_OF_THREADS
]

# A body that takes too long and one that is cancelled are ended in the same way.
TOO_LONG, CANCELLED = (OF_EACH, OF_EACH) if WHOLE else (OF_EACH[::2], OF_EACH[1::2])


def worker_of(site, kind, **env):
    return site.worker(kind, 1, app="programs:app", **env).wait_for_start()


def started(marks):
    return wait_until(lambda: marks.pids("programs"), "the body's programs have started")


def assert_gone(marks):
    pids = started(marks)
    try:
        wait_until(lambda: not any(map(alive, pids)), lambda: f"{pids} end")
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("kind", "way"), OF_EACH)
def test_programs_end_with_a_body_that_returns(site, programs, kind, way):
    worker = worker_of(site, kind)
    marks = site.folder("marks")
    slot = programs.start(way, marks.folder).get(timeout=60)
    left = [pid for pid in started(marks) if alive(pid)]
    assert_gone(marks)
    assert not left, "they were there after the result"
    assert programs.pid().get(timeout=60) == slot, "the slot goes on"
    assert worker.popen.poll() is None


@pytest.mark.parametrize("kind", KINDS)
def test_programs_end_with_a_body_that_fails(site, programs, kind):
    worker_of(site, kind)
    marks = site.folder("marks")
    with pytest.raises(LookupError, match="setsid"):
        programs.start_and_fail("setsid", marks.folder).get(timeout=60)
    assert_gone(marks)


@pytest.mark.parametrize(("kind", "way"), TOO_LONG)
def test_programs_end_with_a_call_that_takes_too_long(site, programs, kind, way):
    # A thread's slot is lost with its body, so there is one for each try.
    site.worker(kind, 3, app="programs:app").wait_for_start()

    def make(seconds, folder):
        return programs.start_and_wait.options(timeout=seconds)(way, folder)

    assert_gone(timed_out(site, make, "programs", shortest=3.0)[1])


@pytest.mark.parametrize(("kind", "way"), CANCELLED)
def test_programs_end_with_a_call_that_is_cancelled(site, programs, kind, way):
    worker_of(site, kind)
    marks = site.folder("marks")
    call = programs.start_and_wait(way, marks.folder)
    wait_until(lambda: marks.pids("waits"), "the body waits")
    assert call.cancel()
    with pytest.raises(CancelledError):
        call.get(timeout=60)
    assert_gone(marks)


@pytest.mark.parametrize("way", WAYS)
def test_programs_end_with_a_slot_that_is_killed(site, programs, way):
    worker_of(site, "process")
    marks = site.folder("marks")
    with pytest.raises(WorkerLostError):
        programs.start_and_crash(way, marks.folder).get(timeout=60)
    assert_gone(marks)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_programs_end_with_a_worker_that_is_killed(site, programs, kind, way):
    worker = worker_of(site, kind)
    marks = site.folder("marks")
    programs.start_and_wait(way, marks.folder)
    started(marks)
    worker.signal(signal.SIGKILL)
    assert_gone(marks)
    wait_until(lambda: not any(map(alive, marks.pids("starts"))), "the slot ends")


@pytest.mark.parametrize("way", ["popen", "daemon", "double fork"])
@pytest.mark.parametrize("kind", KINDS)
def test_programs_end_with_the_group_of_their_worker(site, programs, kind, way):
    """As by `timeout --signal KILL`, or a terminal that goes away."""
    worker = worker_of(site, kind)
    marks = site.folder("marks")
    programs.start_and_wait(way, marks.folder)
    started(marks)
    worker.signal_group(signal.SIGKILL)
    assert_gone(marks)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_programs_end_with_a_worker_that_stops_at_once(site, programs, kind, way):
    worker = worker_of(site, kind, FSQUEUE__STOP_GRACE="0.1")
    marks = site.folder("marks")
    programs.start_and_wait(way, marks.folder)
    started(marks)
    worker.signal(signal.SIGTERM)
    worker.wait()
    assert_gone(marks)


@pytest.mark.parametrize("way", ["popen", "fork", "pipeline"])
def test_programs_of_a_killed_fork_server(site, programs, way):
    """The server dies and the worker lives: what belongs to the slots' sessions is found."""
    import psutil

    worker = worker_of(site, "process")
    marks = site.folder("marks")
    programs.start_and_wait(way, marks.folder)
    started(marks)
    for child in psutil.Process(worker.pid).children():
        if "resource_tracker" not in " ".join(child.cmdline()):
            child.kill()
    assert_gone(marks)


# -- pools that are kept --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["use_executor", "use_pool", "use_joblib"])
def test_a_pool_that_is_kept_serves_the_next_body(site, programs, kind, task):
    worker = worker_of(site, kind)
    slot, first = getattr(programs, task)().get(timeout=60)
    again, second = getattr(programs, task)().get(timeout=60)
    assert again == slot
    assert alive(second)
    if task != "use_joblib":
        assert second == first
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    if kind == "process":
        assert not alive(second), "the worker has not waited for the pool, but ended it"
    wait_until(lambda: not alive(second), "the pool ends with the worker")


# -- forks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "code"), [("return", 0), ("raise", 1), ("exit", 7)])
@pytest.mark.parametrize("task", ["fork_and_go_on", "fork_and_go_on_async"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fork_that_leaves_the_body_is_no_second_worker(site, programs, kind, task, how, code):
    worker = worker_of(site, kind)
    marks = site.folder("marks")
    assert getattr(programs, task)(how, marks.folder).get(timeout=60) == code
    assert len(marks.pids("forks")) == 1
    assert not any(map(alive, marks.pids("forks")))
    assert programs.pid().get(timeout=60)
    assert worker.popen.poll() is None
    assert how != "raise" or "LookupError: raise" in worker.text()


@pytest.mark.parametrize("kind", KINDS)
def test_exit_codes_of_forked_processes(site, programs, kind):
    worker = worker_of(site, kind)
    for _ in range(3):
        assert programs.exit_codes().get(timeout=60) == (0, -signal.SIGTERM, [1, 2])
    assert worker.popen.poll() is None
    assert "stopping" not in worker.text(), "the fork's signal was not the worker's"
