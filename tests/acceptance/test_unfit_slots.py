"""Processes of slots that cannot run calls, and bodies that use the process's alarm."""

import pytest
from acceptance_harness import alive, timed_out, wait_until

from fsqueue import WorkerLostError

APP = "programs:app"


@pytest.mark.parametrize("how", ["OSError", "ImportError", "MemoryError", "exit"])
def test_a_slot_that_cannot_be_set_up_costs_no_call_an_attempt(site, programs, how):
    """As on a full disk, or when a network home is away."""
    worker = site.worker("process", 1, app=APP).wait_for_start()
    slot = programs.pid().get(timeout=60)
    (site.project / "broken").write_text(how)
    marks = site.folder("marks")
    lost = programs.start_and_crash("popen", marks.folder)
    with pytest.raises(WorkerLostError):
        lost.get(timeout=60)
    worker.wait_for_log("a slot cannot run calls")

    call = programs.attempt()
    worker.wait_for_log("next try in 0.4 s")
    assert site.files("running") == [], "nothing is claimed for it"
    (site.project / "broken").unlink()

    pid, attempt = call.get(timeout=60)
    assert attempt == 1
    assert pid != slot
    assert worker.popen.poll() is None


def test_a_worker_whose_slots_can_never_be_set_up_says_so(site, programs):
    """So that callers, and whoever starts it, get to know."""
    call = programs.attempt()
    (site.project / "broken").write_text("other spool")
    worker = site.worker("process", 1, app=APP)
    assert worker.wait() == 2
    assert "the processes of the slots cannot run calls" in worker.text()
    assert "uses the spool" in worker.text()
    (site.project / "broken").unlink()
    site.worker("process", 1, app=APP)
    assert call.get(timeout=60)[1] == 1


def test_too_few_file_descriptors_for_the_slots(site, programs):
    limit = 40
    few = ("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh")
    worker = site.worker("process", 20, app=APP, before=few)
    worker.wait_for_log("Too many files are open")
    assert f"the limit is {limit}" in worker.text()
    assert "ulimit -n" in worker.text()
    assert "temporary folder" not in worker.text()


def test_a_body_that_dies_of_its_own_alarm_is_no_timeout(site, programs):
    site.worker("process", 1, app=APP)
    with pytest.raises(WorkerLostError, match="1 times"):
        programs.die_of_an_alarm().get(timeout=60)


def test_a_body_without_alarms_is_still_ended(site, programs):
    site.worker("process", 1, app=APP)
    _, marks = timed_out(
        site,
        lambda seconds, folder: programs.switch_alarms_off.options(timeout=seconds)(folder),
    )
    (body,) = marks.pids("starts")
    wait_until(lambda: not alive(body), "the body's process ends")


def test_a_body_may_use_the_alarm(site, programs):
    site.worker("process", 1, app=APP)
    assert programs.use_an_alarm().get(timeout=60)
