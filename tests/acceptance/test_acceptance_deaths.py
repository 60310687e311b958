"""Workers and bodies that die in the middle."""

import os
import signal

import pytest
from acceptance_harness import alive, wait_until, wait_until_idle

from fsqueue import WorkerLostError


@pytest.fixture(autouse=True)
def _long_lease(site):
    """A death is noticed on its host, and by no silence: that would take longer than any test."""
    site.env["FSQUEUE__LEASE"] = "3600"


def killed(worker, marks, number=1):
    """Kill -9 a worker, and wait until the body has started again elsewhere."""
    worker.signal(signal.SIGKILL)
    marks.wait_for_starts(number + 1)


def test_a_killed_workers_call_runs_again_on_another(site, kind):
    marks = site.folder("marks")
    first = site.worker(kind, 1).wait_for_start()
    call = site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)
    second = site.worker(kind, 1).wait_for_start()

    killed(first, marks)
    again = marks.pids("starts")[1]
    assert again in {second.pid, *second.children()}
    marks.release()

    # With processes the first body may still run, and either outcome may be the first one.
    assert call.result(60) in marks.pids("starts")
    assert len(marks.pids("starts")) == 2
    wait_until(lambda: len(site.names("running")) == 1, "the dead worker's folder is gone")


def test_what_a_killed_worker_held_is_free_elsewhere(site, kind):
    marks = site.folder("marks")
    first = site.worker(kind, 4, "--resource", "gpu=1").wait_for_start()
    call = site.call(site.tasks.hold_on_gpu, marks.folder)
    marks.wait_for_starts(1)
    site.worker(kind, 4).wait_for_start()
    third = site.worker(kind, 4, FSQUEUE__WORKER__RESOURCE="gpu=1 mem=1G").wait_for_start()

    killed(first, marks)

    assert marks.pids("starts")[1] in {third.pid, *third.children()}
    marks.release()
    assert call.result(60) in marks.pids("starts")


def test_a_killed_workers_call_waits_for_a_worker_that_comes_later(site, kind):
    marks = site.folder("marks")
    first = site.worker(kind, 1).wait_for_start()
    call = site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)
    first.signal(signal.SIGKILL)
    first.wait()

    second = site.worker(kind, 1)
    marks.wait_for_starts(2)
    assert marks.pids("starts")[1] in {second.pid, *second.children()}
    marks.release()

    assert call.result(60) in marks.pids("starts")


def test_the_slots_of_a_killed_worker_end_too(site):
    marks = site.folder("marks")
    worker = site.worker("process", 2).wait_for_start()
    call = site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)

    worker.signal(signal.SIGKILL)
    worker.wait()
    marks.release()

    wait_until(lambda: not worker.group(), lambda: f"processes end: {worker.group()}")
    # Whether the body has still published its outcome or not: another worker brings it.
    site.worker("thread").wait_for_start()
    assert call.result(60)


def test_three_deaths_are_the_end(site):
    marks = site.folder("marks")
    workers = [site.worker("thread", 1) for _ in range(4)]
    for worker in workers:
        worker.wait_for_start()
    by_pid = {worker.pid: worker for worker in workers}
    call = site.call(site.tasks.hold, marks.folder)

    for number in (1, 2):
        pid = marks.wait_for_starts(number)[-1]
        killed(by_pid.pop(pid), marks, number)
    last = by_pid.pop(marks.wait_for_starts(3)[-1])
    last.signal(signal.SIGKILL)
    with pytest.raises(WorkerLostError, match="lost with its worker 3 times") as caught:
        call.result(60)

    assert str(last.pid) in str(caught.value)
    assert len(marks.pids("starts")) == 3
    (survivor,) = by_pid
    assert site.call(site.tasks.pid).result(60) == survivor
    # An outcome is published before its call leaves the worker's folder.
    wait_until(lambda: not site.files("running"), "the last call has left")
    assert site.files("pending") == []
    assert len(site.names("failed")) == 1, "the call is kept for a look"


def test_many_calls_survive_a_killed_worker(site, kind):
    first, second = site.worker(kind, 2), site.worker(kind, 2)
    first.wait_for_start()
    second.wait_for_start()
    group = site.tasks.square.parallelize([(number,) for number in range(400)])

    wait_until(group[20].done, "some calls have ended")
    first.signal(signal.SIGKILL)

    values = site.call(lambda: group.results).result(60)
    assert [value for value, _ in values] == [number * number for number in range(400)]


# -- a body that takes its process down ------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "exit 0", "exit 0 in C", "segfault", "kill"])
def test_a_crash_costs_the_attempt_only(site, how):
    worker = site.worker("process", 2).wait_for_start()
    marks, other = site.folder("marks"), site.folder("other")
    held = site.call(site.tasks.hold, other.folder)
    other.wait_for_starts(1)

    call = site.call(site.tasks.crash, marks.folder, how)
    with pytest.raises(WorkerLostError, match="3 times"):
        call.result(60)

    assert len(set(marks.pids("starts"))) == 3, "three attempts in processes of their own"
    assert worker.popen.poll() is None
    assert site.call(site.tasks.pid).result(60) != worker.pid
    other.release()
    held.result(60)
    assert len(other.pids("starts")) == 1, "the call beside it was not disturbed"


def test_crashes_among_other_calls(site):
    site.worker("process", 2).wait_for_start()
    crashes = [site.folder(f"crash-{number}") for number in range(3)]

    lost = [site.call(site.tasks.crash, marks.folder, "exit") for marks in crashes]
    good = [site.call(site.tasks.nap, 0.02) for _ in range(20)]

    assert all(call.result(60) for call in good)
    for call, marks in zip(lost, crashes, strict=True):
        with pytest.raises(WorkerLostError):
            call.result(60)
        assert len(marks.pids("starts")) == 3


def test_max_attempts_of_one_task(site):
    site.worker("process", 1).wait_for_start()
    marks = site.folder("marks")

    with pytest.raises(WorkerLostError):
        site.call(site.tasks.crash_for_good, marks.folder, "exit").result(60)

    assert len(marks.pids("starts")) == 1


@pytest.mark.parametrize("how", ["exit", "segfault"])
def test_a_crash_at_the_first_attempt_only(site, how):
    site.worker("process", 1).wait_for_start()
    marks = site.folder("marks")

    pid = site.call(site.tasks.crash_once, marks.folder, how).result(60)

    first, second = marks.pids("starts")
    assert first != second == pid


def test_a_slot_that_dies_idle_is_replaced(site):
    worker = site.worker("process", 1).wait_for_start()
    pid = site.call(site.tasks.pid).result(60)

    wait_until_idle(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), "the slot's process is gone")

    assert site.call(site.tasks.pid).result(60) not in {pid, worker.pid}


def test_a_slot_that_dies_idle_costs_nothing_beside_it(site):
    site.worker("process", 2).wait_for_start()
    marks, other = site.folder("marks"), site.folder("other")
    held = [site.call(site.tasks.hold, each.folder) for each in (marks, other)]
    marks.wait_for_starts(1)
    (idle,) = other.wait_for_starts(1)
    other.release()
    held[1].result(60)

    # It must not still be sending its result: then the kill would cost the call an attempt.
    wait_until_idle(idle)
    os.kill(idle, signal.SIGKILL)
    wait_until(lambda: not alive(idle), "the slot's process is gone")
    calls = [site.call(site.tasks.pid).result(60) for _ in range(3)]

    assert idle not in calls
    marks.release()
    held[0].result(60)
    assert len(marks.pids("starts")) == 1, "the running body was not disturbed"


# -- a worker that was taken for dead ----------------------------------------------------------


def test_a_worker_without_its_folder_registers_afresh(site, kind):
    worker = site.worker(kind, 1, FSQUEUE__HEARTBEAT="0.2").wait_for_start()
    site.call(site.tasks.pid).result(60)
    (name,) = site.names("running")
    wait_until(lambda: not site.files("running"), "the call has left its folder")

    (site.root / "running" / name).rmdir()

    assert site.call(site.tasks.pid).result(60) in {worker.pid, *worker.children()}
    (new,) = wait_until(lambda: site.names("running"), "it has a folder again")
    assert new != name
    worker.wait_for_log("was declared dead")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert site.names("running") == []
    assert site.names("workers") == []
