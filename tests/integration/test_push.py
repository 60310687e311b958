"""Idle workers and waiting callers that sleep until they are rung, on local files.

These stand for an NFSv4 mount: leases work on both.
"""

from __future__ import annotations

import asyncio
import errno
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from pushing import Mounted
from support import PATIENCE, open_store, wait_until

from fsqueue.spool.caller.wait import Wait
from fsqueue.testing import Fault
from integration import sample_tasks as sample
from integration.conftest import working

pytestmark = [
    pytest.mark.concurrent,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases"),
]
POLL = 0.02


@pytest.fixture
def mounted(make_app):
    """Makes an app on a mount of its own, as on a host of its own."""

    def make(*faults):
        app = make_app(watch="push", poll_interval=POLL, heartbeat=0.5, lease=60.0)
        fs = Mounted(*faults)
        app._session._store = store = open_store(app.store.layout.root, fs)
        store.push()
        return app, fs

    return make


def no_leases():
    """For the side whose lease is of no interest: the thread that takes leases serves both sides.

    Whatever wakes that thread makes it look at all leases, also at one whose signal is swallowed.
    """
    return Fault.fail(errno.EINVAL, verb="lease", at=None)


def client_of(app):
    """The client of an app, once it waits for something."""
    wait_until(lambda: app._session._client and app._session._client.waiter._waiting)
    return app._session.client


def lull(app, fs) -> None:
    """Wait until the worker of an app polls no more, and stop its clock: no poll is due again."""
    folder = app.store.layout.tokens("t.default")
    wait_until(lambda: fs.names(folder), what="a token")
    fs.clock_offset += 2.0  # for which a publisher need not look again

    def rests():
        fs.inject()
        wait_until(lambda: sum(op.path.endswith(".beat") for op in fs.trace) >= 2)
        return not fs.listings(app.store.layout.queue("t.default"))

    wait_until(rests, what="it polls no more")
    fs.stop_clock()


def lull_caller(app, fs) -> None:
    """The same for a caller."""
    waiter = client_of(app).waiter
    wait_until(lambda: waiter._token.path, what="a token")
    fs.clock_offset += 2.0
    wait_until(lambda: waiter._token.settled)
    fs.stop_clock()
    wait_until(lambda: waiter.until_poll > 0, what="the last poll")


def test_an_idle_worker_asks_nothing_and_is_woken_by_a_call(mounted):
    (served, fs), (caller, callers_fs) = mounted(), mounted()
    tokens = served.store.layout.tokens("t.default")
    served.direct_task(sample.add)
    callers_fs.inject()
    with working(served):
        lull(served, fs)
        before = fs.names(tokens)
        assert caller.direct_task(sample.add)(1) == 2
        assert fs.count("ring") <= callers_fs.count("lease"), "it rings a caller that is awake"
        # Until it rests again, with a token of another name.
        wait_until(lambda: not {*before} & {*fs.names(tokens)}, "a worker that works has no token")
        fs.go_on()
        lull(served, fs)
        fs.go_on()
    assert fs.names(tokens) == []


def test_a_waiting_caller_asks_nothing_and_is_woken_by_its_result(mounted, gate):
    (served, _), (caller, fs) = mounted(), mounted()
    served.direct_task(sample.behind_gate)
    opened, name = gate()
    with working(served), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(caller.direct_task(sample.behind_gate), name)
        lull_caller(caller, fs)
        fs.inject()
        opened.set()
        answer.result(PATIENCE)
        assert fs.listings(caller.store.layout.mailbox(caller._session.client.name)) == 1
        fs.go_on()


def test_an_event_loop_and_all_its_tasks_are_woken(mounted, gate):
    (served, _), (caller, fs) = mounted(), mounted()
    task = served.task(sample.behind_gate)
    opened, name = gate()
    calls = [caller.task(sample.behind_gate)(name) for _ in range(3)]

    async def gather():
        return await asyncio.gather(*(call.async_result() for call in calls))

    with working(served), ThreadPoolExecutor(1) as pool:
        answers = pool.submit(asyncio.run, gather())
        lull_caller(caller, fs)
        opened.set()
        wait_until(lambda: fs.listings(caller.store.layout.mailbox(calls[0].id.partition("-")[0])))
        fs.go_on()
        assert len(answers.result(PATIENCE)) == 3
    assert task


def test_a_process_that_waits_for_calls_of_others_goes_on_polling(mounted, gate):
    (served, _), (caller, _), (other, fs) = mounted(), mounted(), mounted()
    served.task(sample.behind_gate)
    opened, name = gate()
    call = caller.task(sample.behind_gate)(name)
    with working(served), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(other.invocation(call.id).get, PATIENCE)
        mailbox = other.store.layout.mailbox(call.id.partition("-")[0])
        wait_until(lambda: fs.listings(mailbox) >= 50)
        assert client_of(other).waiter._token.path == ""
        opened.set()
        answer.result(PATIENCE)


def test_a_call_that_is_given_up_is_waited_for_without_polls(mounted):
    caller, fs = mounted()
    client = caller._session.client
    client.ticket(5)  # it appears
    waiter, wait = client.waiter, Wait(f"{client.name}-99", int)
    waiter.begin(wait)
    waiter.end(wait)
    waiter.abandon(wait.invocation_id)
    wait_until(lambda: waiter._token.path, what="a token")
    fs.clock_offset += 5.0
    wait_until(lambda: waiter._next_poll > fs.monotonic() + 5.0, what="only the slow poll is due")


def test_a_lost_ring_costs_a_caller_one_slow_poll(mounted, gate):
    (served, theirs), (caller, fs) = mounted(no_leases()), mounted()
    fs.deaf = True
    served.direct_task(sample.behind_gate)
    direct = caller.direct_task(sample.behind_gate)
    with working(served), ThreadPoolExecutor(1) as pool:
        for lost in (1, 2):
            opened, name = gate()
            answer = pool.submit(direct, name)
            lull_caller(caller, fs)
            theirs.clock_offset += 3.0
            opened.set()
            wait_until(lambda lost=lost: theirs.count("ring") == lost)
            assert not answer.done()
            fs.go_on()
            fs.clock_offset += 31.0
            answer.result(PATIENCE)
        opened, name = gate()
        answer = pool.submit(direct, name)
        mailbox = caller.store.layout.mailbox(client_of(caller).name)
        fs.inject()
        wait_until(lambda: not client_of(caller).waiter._token.path, what="it is distrusted")
        wait_until(lambda: fs.listings(mailbox) >= 50, what="it polls as without tokens")
        opened.set()
        answer.result(PATIENCE)


def test_a_lost_ring_costs_a_worker_one_slow_poll(mounted):
    (served, fs), (caller, theirs) = mounted(), mounted(no_leases())
    fs.deaf = True
    served.direct_task(sample.add)
    direct = caller.direct_task(sample.add)
    with working(served), ThreadPoolExecutor(1) as pool:
        lull(served, fs)
        answer = pool.submit(direct, 1)
        wait_until(lambda: theirs.count("ring") == 1)
        assert not answer.done()
        fs.go_on()
        fs.clock_offset += 31.0
        assert answer.result(PATIENCE) == 2
