"""P5: a worker that stops gives back what it runs, and nothing that it has run before."""

import signal
import sys

from acceptance_harness import wait_until

MANY = 200


def test_a_stop_gives_back_the_running_call_only(site, kind):
    worker = site.worker(kind, 2, FSQUEUE__STOP_GRACE="0.2").wait_for_start()
    for number in range(MANY):
        assert site.tasks.describe(number)[0] == number
    marks = site.folder("marks")
    site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)
    # The call before may have its result, and still be there.
    wait_until(lambda: len(site.files("running")) == 1, "one call is running")
    (held,) = site.files("running")

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0, worker.text()
    said = [line for line in worker.text().splitlines() if "given back" in line]
    assert len(said) == 1
    assert held in said[0]
    assert site.files("pending") == [held]


def test_a_kill_right_after_the_stop_costs_the_running_call_no_attempt(site, kind):
    """A batch system sends SIGKILL some time after SIGTERM, and the file server may be slow."""
    worker = site.start(sys.executable, "killed_soon.py", kind, FSQUEUE__STOP_GRACE="0.2")
    for number in range(MANY):
        assert site.tasks.describe(number)[0] == number
    marks = site.folder("marks")
    site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)
    # The call before may have its result, and still be there.
    wait_until(lambda: len(site.files("running")) == 1, "one call is running")
    (held,) = site.files("running")

    worker.signal(signal.SIGTERM)

    assert worker.wait() == -signal.SIGKILL, worker.text()
    assert site.files("pending") == [held], "it is pending again, as the same attempt"
