"""Exceptions that signal handlers raise in the middle of a call."""

import os
import re
import sys

import pytest
from acceptance_harness import wait_until
from support import WHOLE

# How many times the interruptions of a usual run are made; `.ci/run --full` sets it.
TIMES = int(os.environ.get("FSQUEUE_TESTS_INTERRUPTIONS", "2" if WHOLE else "1"))
# A quick run interrupts one line of five, and one instruction of 35: other ones each time.
LINES = 1 if WHOLE or TIMES > 1 else 5
OPCODES = 7 if WHOLE or TIMES > 1 else 35
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
        ("direct", "timer", 200 * TIMES, 100),
        ("task", "timer", 100 * TIMES, 50),
        ("look", "timer", 100 * TIMES, 50),
        ("chain", "timer", 100 * TIMES, 50),
        ("awaited", "timer", 150 * TIMES, 75),
        ("abandoned", "timer", 150 * TIMES, 75),
        ("cancel", "timer", 100 * TIMES, 50),
        ("emit", "timer", 100 * TIMES, 50),
        ("join", "timer", 100 * TIMES, 50),
        ("direct", "line", LINES, 100 // LINES),
        ("direct", "opcode", OPCODES, 700 // OPCODES),
        ("task", "line", LINES, 100 // LINES),
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

    for _ in range(10 * TIMES):
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
