"""When an executor wakes idle workers: for each of a few calls, and for many together."""

from __future__ import annotations

import itertools
import sys

import pytest
from support import wait_until

import fsqueue
from fsqueue.executor.dispatcher import _FEW, _TOGETHER
from fsqueue.results.resolver import Resolver
from fsqueue.spool.store.open_spool import open_store
from fsqueue.testing import FaultyFilesystem

MANY = 300


class Calls:
    """Makes calls that no worker runs, and counts how often workers are woken."""

    def __init__(self, executor):
        self._executor, self._disk = executor, FaultyFilesystem()
        app = executor._app
        app._session._store = open_store(app.root, self._disk)

    def make(self, count):
        for number in range(count):
            self._executor.submit(abs, number)

    def _places(self, verb, path):
        trace = list(self._disk.trace)
        return [
            place
            for place, op in enumerate(trace)
            if op.verb == verb and path in op.path + op.target
        ]

    @property
    def rings(self):
        return len(self._places("utime", "/bell/"))

    @property
    def all_announced(self):
        """Whether a bell has rung since the last call was published."""
        rings, published = self._places("utime", "/bell/"), self._places("rename", "/pending/")
        return rings[-1] > published[-1]


@pytest.fixture
def executor(spool):
    executor = fsqueue.Executor(root=spool)
    yield executor
    executor.shutdown(cancel_futures=True)


def test_each_of_a_few_calls_is_announced_at_once(executor):
    calls = Calls(executor)
    for number in range(1, _FEW + 1):
        calls.make(1)
        assert calls.all_announced
        assert calls.rings == number


def test_many_calls_are_announced_together(executor):
    calls, now = Calls(executor), executor._app.store.fs.monotonic
    began = now()
    calls.make(MANY)
    wait_until(lambda: calls.all_announced)  # the last ones, too
    # However slow the machine is: so many of each kind, and the first and the last of the second.
    assert calls.rings <= _FEW + (now() - began) / _TOGETHER + 2


def test_detached_calls_are_announced_before_the_executor_ends(spool):
    with fsqueue.Executor(root=spool, detach=True) as executor:
        calls = Calls(executor)
        calls.make(2 * _FEW)
    assert calls.all_announced
    executor.shutdown(cancel_futures=True)


def during(function, number, step):
    """Call a function, and a step before the instruction of this number; False if it has fewer."""
    left = itertools.count(number, -1)
    reached = []

    def trace(frame, event, _):
        if frame.f_code is function.__code__:
            frame.f_trace_opcodes = True
            if event == "opcode" and next(left) == 0:
                reached.append(step())
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return bool(reached)


@pytest.mark.parametrize("planned", [False, True])
def test_a_bell_is_not_lost_if_it_is_planned_while_another_is_rung(planned):
    """The thread that submits and the resolver's share no lock, and may meet anywhere."""
    for number in itertools.count():
        rung, resolver = [], Resolver()

        def ring(rung=rung):
            rung.append(len(rung))

        def plan(resolver=resolver, ring=ring, rung=rung):
            resolver.call_at(float("inf"), ring)
            return rung.append("planned")

        if planned:
            resolver.call_at(0.0, ring)
        if not during(resolver.hurry, number, plan):
            break
        resolver.hurry()
        assert rung[-1] != "planned", f"lost before instruction {number}"
    assert number > 2
