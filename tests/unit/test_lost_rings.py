"""Rings that do not come, and polls that are quicker than rings."""

from __future__ import annotations

import errno
import sys

import pytest
from push_side import POLL, assert_none_is_made, sides
from pushing import Mounted
from support import wait_until

from fsqueue.spool.wakeups.rings import VIEW
from fsqueue.testing import Fault

pytestmark = [
    pytest.mark.concurrent,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases"),
]


@pytest.fixture
def side(spool):
    with sides(spool) as make:
        yield make


def lose(sleeper, token):
    """A ring is lost, and the token goes."""
    token.missed()
    wait_until(lambda: not sleeper.listed())


def lose_twice(sleeper, token):
    """Two rings are lost; then there is no token."""
    lose(sleeper, token)
    token.arm()
    wait_until(lambda: token.path)
    lose(sleeper, token)
    assert_none_is_made(token)


def test_two_lost_rings_are_believed_for_ten_minutes_and_then_for_longer(side):
    sleeper = side()
    token = sleeper.armed()
    lose_twice(sleeper, token)
    sleeper.fs.clock_offset += 601.0
    token.arm()
    wait_until(lambda: token.path)
    lose_twice(sleeper, token)
    sleeper.fs.clock_offset += 601.0
    assert_none_is_made(token)
    sleeper.fs.clock_offset += 600.0
    token.arm()
    wait_until(lambda: token.path)


def test_a_token_is_not_expected_while_the_server_is_distrusted_or_has_refused(side):
    sleeper = side()
    token = sleeper.armed()
    assert token.expected
    lose_twice(sleeper, token)
    assert not token.expected
    sleeper.fs.clock_offset += 601.0
    assert token.expected
    refused = side(Mounted(Fault.fail(errno.EAGAIN, verb="lease", at=None))).token()
    wait_until(lambda: refused.refusal)
    wait_until(lambda: not refused.expected)


def settled(side):
    sleeper = side()
    token = sleeper.armed()
    sleeper.fs.clock_offset += 2 * VIEW
    assert token.longer(POLL, sleeper.fs.monotonic()) > POLL
    return sleeper, token


def test_a_poll_that_is_quicker_than_its_ring_is_no_lost_ring(side):
    sleeper, token = settled(side)
    for _ in range(3):
        token.doubt()
        assert not token.settled
        assert token.longer(POLL, sleeper.fs.monotonic()) == POLL
        sleeper.fs.ring_token(token.path)  # here it comes
        wait_until(lambda: not token.path)
        token.arm()
        wait_until(lambda: token.path)
        sleeper.fs.clock_offset += 10.0
        assert token.longer(POLL, sleeper.fs.monotonic()) > POLL


def test_a_ring_that_has_not_come_after_a_second_is_lost(side):
    sleeper, token = settled(side)
    for _ in range(2):
        token.doubt()
        sleeper.fs.clock_offset += 1.1
        assert token.longer(POLL, sleeper.fs.monotonic()) == POLL
        wait_until(lambda: not token.path)
        if token.expected:
            token.arm()
            wait_until(lambda: token.path)
    assert_none_is_made(token)


def test_rings_that_arrive_do_not_make_up_for_those_of_others_that_are_lost(side):
    sleeper, publisher = side(), side()
    token = sleeper.armed()
    lose(sleeper, token)
    token.arm()
    wait_until(lambda: token.path)
    publisher.pending()
    wait_until(lambda: sleeper.woken == ["w"] and not token.path)
    token.arm()
    wait_until(lambda: token.path)
    lose(sleeper, token)
    assert_none_is_made(token)
    sleeper.fs.clock_offset += 601.0
    token.arm()
    wait_until(lambda: token.path)
