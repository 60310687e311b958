"""Slots that are processes, killed and stopped by others at the worst moments."""

import os
import signal

import psutil
import pytest
from acceptance_harness import alive, wait_until


def slots_of(worker):
    """The fork server and the slots' processes."""
    children = psutil.Process(worker.pid).children()
    (server,) = [each for each in children if "resource_tracker" not in " ".join(each.cmdline())]
    return server, server.children()


def test_a_killed_fork_server_costs_one_attempt_at_most(site):
    worker = site.worker("process", 2).wait_for_start()
    marks = site.folder("marks")
    held = site.call(site.tasks.hold, marks.folder)
    (first,) = marks.wait_for_starts(1)
    server, _ = slots_of(worker)

    server.kill()
    (_, second) = marks.wait_for_starts(2)

    assert second != first
    wait_until(lambda: not alive(first), "the process that nobody watches any more is gone")
    marks.release()
    assert held.result(60) == second
    assert worker.popen.poll() is None
    new, slots = slots_of(worker)
    assert new.pid != server.pid
    assert second in {slot.pid for slot in slots}


def test_a_stopped_slot_holds_up_nobody_else(site):
    site.worker("process", 2).wait_for_start()
    marks = site.folder("marks")
    held = site.call(site.tasks.hold, marks.folder)
    (pid,) = marks.wait_for_starts(1)

    os.kill(pid, signal.SIGSTOP)
    marks.release()
    others = [site.call(site.tasks.pid) for _ in range(20)]

    assert pid not in {other.result(60) for other in others}
    assert not held.done()
    os.kill(pid, signal.SIGCONT)
    assert held.result(60) == pid


def test_a_slot_that_starts_while_the_shared_directory_fails(site):
    """It waits, as a call does; it neither fails the calls that it gets nor gives up."""
    worker = site.worker("process", 1).wait_for_start()
    pid = site.call(site.tasks.pid).result(60)
    marks = site.folder("marks")
    held = site.call(site.tasks.hold, marks.folder)
    assert marks.wait_for_starts(1) == [pid]

    # As on a full disk, no file can be made there. Otherwise the worker would make the folder anew.
    tmp = site.root / "tmp"
    worker.signal_all(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED, "it stands")
    tmp.rename(site.root / "tmp.away")
    tmp.touch()
    worker.signal_all(signal.SIGCONT)
    os.kill(pid, signal.SIGKILL)
    worker.wait_for_log("the shared directory fails")
    tmp.unlink()  # and then the worker does

    second = marks.wait_for_starts(2)[1]
    marks.release()
    assert held.result(60) == second
    assert second != pid
    assert site.call(site.tasks.pid).result(60) == second


@pytest.mark.parametrize("slots", [1, 3])
def test_slots_killed_at_any_moment_cost_nothing_but_attempts(site, slots):
    """A kill hits a slot while it takes a claim, runs it, or says how it ended."""
    worker = site.worker("process", slots).wait_for_start()
    group = site.tasks.square_at_any_cost.parallelize([(number,) for number in range(300)])
    values = site.call(lambda: group.results)

    killed = set()

    def target():
        return values.done() or next((s for s in slots_of(worker)[1] if s.pid not in killed), None)

    for _ in range(15):
        slot = wait_until(target, "there is a slot to kill, or no work left")
        if values.done():
            break
        slot.kill()
        killed.add(slot.pid)

    assert values.result(60) == [number**2 for number in range(300)]
    assert worker.popen.poll() is None


def test_the_harness_sees_slots_and_programs_in_sessions_of_their_own(site, kind):
    """Otherwise a test that all processes end would say nothing."""
    programs = site.load("programs")
    worker = site.worker(kind, 1, app="programs:app").wait_for_start()
    marks = site.folder("marks")
    programs.start_and_wait("setsid", marks.folder)
    wait_until(lambda: marks.pids("waits"), "the body waits")
    assert {*marks.pids("starts"), *marks.pids("programs"), worker.pid} <= {*worker.group()}
    programs.app.close()
