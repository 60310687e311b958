"""A worker that is suspended for longer than its lease, all workers being on one host."""

import os
import signal

import pytest
from acceptance_harness import alive, wait_until

from fsqueue import TaskTimeoutError

# A worker that goes on must not be silent for so long, however busy the machine is.
ENV = {"FSQUEUE__HEARTBEAT": "0.2", "FSQUEUE__LEASE": "4"}


def test_the_call_of_a_suspended_worker_runs_elsewhere_and_has_one_outcome(site, kind):
    marks = site.folder("held")
    first = site.worker(kind, 1, **ENV).wait_for_start()
    invocation = site.tasks.hold_later(marks.folder)
    marks.wait_for_starts(1)
    second = site.worker(kind, 1, **ENV).wait_for_start()

    first.signal_all(signal.SIGSTOP)
    again = marks.wait_for_starts(2)[1]
    assert again in {second.pid, *second.children()}
    marks.release()
    assert invocation.get(60) == again

    first.signal_all(signal.SIGCONT)
    first.wait_for_log("registered again")
    # The late outcome finds the mailbox empty, as its client has collected; it is never seen.
    wait_until(lambda: invocation.id in site.files("done"), "the late outcome is there")
    assert invocation.get(60) == again
    assert site.tasks.app.invocation(invocation.id).get(60) == again
    second.signal(signal.SIGTERM)
    second.wait()
    assert site.tasks.square(7).get(60)[0] == 49  # by the one that was suspended
    assert "Traceback" not in first.text() + second.text()


def test_the_late_outcome_of_a_direct_call_goes_with_its_caller(site, kind):
    marks = site.folder("held")
    first = site.worker(kind, 1, **ENV).wait_for_start()
    answer = site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)
    site.worker(kind, 1, **ENV).wait_for_start()
    first.signal_all(signal.SIGSTOP)
    again = marks.wait_for_starts(2)[1]
    marks.release()
    assert answer.result(60) == again
    first.signal_all(signal.SIGCONT)
    # The caller has removed the first outcome with its collection.
    wait_until(lambda: site.files("done"), "the late outcome is there")
    site.tasks.app.close()
    assert site.files("done") == []


def test_the_first_outcome_may_be_that_of_a_worker_that_was_suspended(site, kind):
    marks = site.folder("held")
    first = site.worker(kind, 1, **ENV).wait_for_start()
    invocation = site.tasks.hold_later(marks.folder)
    (before,) = marks.wait_for_starts(1)
    second = site.worker(kind, 1, **ENV).wait_for_start()
    first.signal_all(signal.SIGSTOP)
    marks.wait_for_starts(2)
    second.signal_all(signal.SIGSTOP)
    first.signal_all(signal.SIGCONT)
    marks.release()
    assert invocation.get(60) == before
    second.signal_all(signal.SIGCONT)
    wait_until(lambda: len(marks.pids("ends")) == 2, "both bodies end")
    assert site.tasks.app.invocation(invocation.id).get(60) == before


def test_a_suspended_worker_keeps_no_place_in_a_lane(site, kind):
    marks = site.folder("held")
    first = site.worker(kind, 1, **ENV).wait_for_start()
    one, two = (site.tasks.hold_alone(marks.folder) for _ in range(2))
    marks.wait_for_starts(1)
    site.worker(kind, 1, **ENV).wait_for_start()
    first.signal_all(signal.SIGSTOP)
    marks.wait_for_starts(2)
    marks.release()
    assert one.get(60)
    assert two.get(60)
    first.signal_all(signal.SIGCONT)
    first.wait_for_log("registered again")


def test_a_death_is_noticed_while_those_that_watch_all_others_are_suspended(site):
    marks = site.folder("held")
    workers = [
        site.worker("thread", 1, FSQUEUE__HEARTBEAT="0.2").wait_for_start() for _ in range(3)
    ]
    calls = [site.tasks.hold_later(marks.folder) for _ in workers]
    before = marks.wait_for_starts(3)
    idle = site.worker("thread", 1, FSQUEUE__HEARTBEAT="0.2").wait_for_start()
    *elders, last = workers
    for each in elders:
        each.signal(signal.SIGSTOP)
    last.signal(signal.SIGKILL)
    again = marks.wait_for_starts(4)
    assert [pid for pid in again if pid not in before] == [idle.pid]
    for each in elders:
        each.signal(signal.SIGCONT)
    marks.release()
    assert len({call.get(60) for call in calls}) == 3


def test_both_elders_may_die_at_once(site):
    marks = site.folder("held")
    workers = [site.worker("thread", 1).wait_for_start() for _ in range(2)]
    calls = [site.tasks.hold_later(marks.folder) for _ in workers]
    before = marks.wait_for_starts(2)
    others = [site.worker("thread", 1).wait_for_start() for _ in range(3)]
    for each in workers:
        each.signal(signal.SIGKILL)
    again = marks.wait_for_starts(4)
    assert {*again} - {*before} <= {each.pid for each in others}
    marks.release()
    assert all(call.get(60) for call in calls)


# -- only the process of a slot ---------------------------------------------------------------
# Its worker lives, so the lease does not apply: somebody may be debugging the body. All that ends a
# body ends this one too.


@pytest.fixture
def stopped(site):
    """A worker whose only slot is suspended in the middle of a body."""
    site.held = site.folder("held")
    site.first = site.worker("process", 1, FSQUEUE__STOP_GRACE="0.3", **ENV).wait_for_start()

    def call(**options):
        invocation = site.tasks.hold_later.options(**options)(site.held.folder)
        (site.slot,) = site.held.wait_for_starts(1)
        os.kill(site.slot, signal.SIGSTOP)
        return invocation

    site.stop_in_the_middle = call
    return site


def test_the_time_limit_ends_a_suspended_slot(stopped):
    call = stopped.stop_in_the_middle(timeout=3.0)
    with pytest.raises(TaskTimeoutError):
        call.get(60)
    wait_until(lambda: not alive(stopped.slot), "the slot ends")
    assert stopped.tasks.square(7).get(60)[0] == 49


def test_a_suspended_slot_ends_when_its_call_is_cancelled(stopped):
    call = stopped.stop_in_the_middle()
    assert call.cancel()
    wait_until(lambda: not alive(stopped.slot), "the slot ends")
    assert stopped.tasks.square(7).get(60)[0] == 49


def test_the_call_of_a_suspended_slot_is_given_back_when_its_worker_stops(stopped):
    stopped.stop_in_the_middle()
    (name,) = stopped.files("running")
    stopped.first.signal(signal.SIGTERM)
    assert stopped.first.wait() == 0, stopped.first.text()
    assert stopped.files("pending") == [name], "it is pending again, as the same attempt"
    assert not alive(stopped.slot)


def test_the_call_of_a_suspended_slot_can_be_taken_away(stopped):
    call = stopped.stop_in_the_middle()
    second = stopped.worker("thread", 1, **ENV).wait_for_start()
    done = stopped.fsqueue("requeue", call.id, "--yes")
    assert done.returncode == 0, done.stderr
    assert stopped.held.wait_for_starts(2)[1] == second.pid
    stopped.held.release()
    assert call.get(60) == second.pid
    os.kill(stopped.slot, signal.SIGCONT)


def test_a_suspended_slot_goes_on(stopped):
    call = stopped.stop_in_the_middle()
    os.kill(stopped.slot, signal.SIGCONT)
    stopped.held.release()
    assert call.get(60) == stopped.slot
    assert stopped.held.pids("starts") == [stopped.slot]


def test_a_call_that_a_suspended_slot_has_not_begun_is_given_back(stopped):
    before = stopped.tasks.square(1)
    slot = before.get(60)[1]
    # It has its result, but the slot may be about to remove the attempt, and to tell its worker.
    journal = stopped.root / "journal"
    wait_until(
        lambda: any(before.id in each.read_text("utf-8") for each in journal.rglob("*.jsonl")),
        "the slot has told its worker of the end of the call before",
    )
    os.kill(slot, signal.SIGSTOP)
    stopped.tasks.hold_later(stopped.held.folder)
    (name,) = wait_until(lambda: stopped.files("running"), "it is claimed")
    stopped.first.signal(signal.SIGTERM)
    assert stopped.first.wait() == 0, stopped.first.text()
    assert stopped.files("pending") == [name]
    assert stopped.held.pids("starts") == []
    assert not alive(slot)
