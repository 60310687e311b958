"""Exceptions that signal handlers raise in the middle of a call."""

import sys

import pytest
from acceptance_harness import wait_until


def nothing_is_left(site):
    def left():
        return [name for top in ("pending", "running", "done") for name in site.files(top)]

    wait_until(lambda: not left(), left)
    assert site.names("tmp") == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("how", "hits"),
    [
        (("direct", "timer", "3000"), 300),
        (("direct", "line", "1"), 100),
        (("direct", "opcode", "7"), 100),
        (("task", "timer", "1000"), 100),
        (("task", "line", "1"), 100),
    ],
    ids=["at random", "before each line", "before instructions", "tasks", "tasks, lines"],
)
def test_a_signal_handler_that_raises_leaves_no_lock_and_no_call(site, how, hits):
    """Any thread of the caller would stand still at a lock that was left behind."""
    site.worker("thread", 2).wait_for_start()

    caller = site.start(sys.executable, "interrupted.py", *how)

    assert caller.wait(170) == 0, caller.text()
    assert int(caller.output()) >= hits
    if how[0] == "direct":  # the results of tasks are kept
        nothing_is_left(site)
