"""A worker that is suspended for longer than its lease, all workers being on one host."""

import signal

from acceptance_harness import wait_until

ENV = {"FSQUEUE__HEARTBEAT": "0.2", "FSQUEUE__LEASE": "1"}


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
