"""Calls that are made while Python ends."""

import sys

import pytest
from acceptance_harness import wait_until


@pytest.mark.parametrize("how", ["early", "await"])
def test_a_call_after_fsqueue_has_left_is_refused_before_it_is_made(site, how):
    site.worker("thread", 1).wait_for_start()

    caller = site.run(sys.executable, "at_exit.py", how)

    assert caller.returncode == 0, caller.stderr
    assert caller.stdout.startswith("refused"), caller.stdout
    # Since Python 3.12 the end of `asyncio.run` itself says so, as it wants a thread.
    assert "ending" in caller.stdout or "interpreter shutdown" in caller.stdout
    # Who makes a call appears there, and has nobody left to remove it. The record of the first
    # call's client stays, for `fsqueue runs`, until it expires.
    (record,) = site.names("clients")
    assert record.endswith(".json")


def test_a_first_call_at_the_exit_works_or_is_refused(site):
    """Python 3.11 still starts threads then."""
    site.worker("thread", 1).wait_for_start()

    caller = site.run(sys.executable, "at_exit.py", "first")

    assert caller.stdout.startswith(("value 1", "refused the connection to the spool is closed")), (
        caller.stdout
    )
    assert site.files("pending") == []


@pytest.mark.parametrize("how", ["late", "thread"])
def test_a_call_before_fsqueue_leaves_works(site, how):
    site.worker("thread", 1).wait_for_start()

    caller = site.run(sys.executable, "at_exit.py", how)

    assert (caller.returncode, caller.stdout) == (0, "value 1\n"), caller.stderr
    wait_until(lambda: not site.files("done"), "the result was removed")
