"""Exceptions that signal handlers raise in the middle of a call."""

import os
import re
import sys

import pytest
from acceptance_harness import wait_until

# How many times the interruptions of a usual run are made: 50 for a thorough one.
TIMES = int(os.environ.get("FSQUEUE_TESTS_INTERRUPTIONS", "1"))
WITHOUT_RESULTS = {"direct", "join", "nested"}


def nothing_is_left(site, tops):
    def left():
        names = [f"{top}/{name}" for top in tops for name in site.files(top)]
        # A client's record is part of the history of runs, and expires with it.
        return [name for name in names if not re.fullmatch(r"clients/\w+\.json", name)]

    wait_until(lambda: not left(), left)


def interrupt(site, *how):
    caller = site.start(sys.executable, "interrupted.py", *map(str, how))
    assert caller.wait(150 * TIMES) == 0, caller.text()
    return int(caller.output())


@pytest.mark.timeout(180 * TIMES)
@pytest.mark.parametrize(
    ("entry", "how", "number", "hits"),
    [
        ("direct", "timer", 400 * TIMES, 200),
        ("task", "timer", 200 * TIMES, 100),
        ("look", "timer", 200 * TIMES, 100),
        ("chain", "timer", 200 * TIMES, 100),
        ("awaited", "timer", 300 * TIMES, 150),
        ("abandoned", "timer", 300 * TIMES, 150),
        ("cancel", "timer", 200 * TIMES, 100),
        ("emit", "timer", 200 * TIMES, 100),
        ("join", "timer", 200 * TIMES, 100),
        ("direct", "line", 1, 100),
        ("direct", "opcode", 7, 100),
        ("task", "line", 1, 100),
    ],
)
def test_a_signal_handler_that_raises_leaves_no_lock_and_no_call(site, entry, how, number, hits):
    """Any thread of the caller would stand still at a lock that was left behind."""
    site.worker("thread", 2).wait_for_start()

    assert interrupt(site, entry, how, number) >= hits

    # The results of tasks are kept.
    nothing_is_left(site, ["pending", "running", "clients", "tmp"])
    if entry in WITHOUT_RESULTS:
        nothing_is_left(site, ["done"])


@pytest.mark.timeout(180 * TIMES)
def test_an_interrupted_first_call_leaves_nothing_that_blocks_the_next(site):
    site.worker("thread", 2).wait_for_start()

    assert interrupt(site, "first", 100 * TIMES) >= 20

    nothing_is_left(site, ["pending", "running", "done", "clients", "tmp"])


def test_an_interrupted_exit_ends_and_removes_what_the_process_has_in_the_spool(site):
    site.worker("thread", 2).wait_for_start()

    for _ in range(20 * TIMES):
        caller = site.start(sys.executable, "interrupted.py", "exit")
        assert caller.wait() == 0, caller.text()

    nothing_is_left(site, ["pending", "running", "done", "clients", "tmp"])


@pytest.mark.timeout(180 * TIMES)
def test_interrupted_calls_of_a_body_leave_no_claim_and_no_lock_in_its_slot(site):
    """Bodies run in the main thread of a process slot, and run the calls that they wait for."""
    site.worker("process", 3).wait_for_start()
    echo = site.load("echo")

    hits = site.call(echo.interrupted_here, "nested", 200 * TIMES).result(150 * TIMES)

    assert hits >= 80
    nothing_is_left(site, ["pending", "running", "tmp"])
    assert echo.squares(3) == [0, 1, 4]
