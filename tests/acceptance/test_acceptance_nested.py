"""Bodies that wait for other calls, with no more than one slot."""

import asyncio
import signal

import pytest


@pytest.fixture
def one_slot(site, kind):
    site.only = site.worker(kind, 1).wait_for_start()
    return site


def test_a_recursion(one_slot):
    assert one_slot.call(one_slot.tasks.fib, 12).result(60) == 144


def test_a_recursion_of_coroutines(one_slot):
    async def root():
        return await one_slot.tasks.fib_async(6)

    assert one_slot.call(asyncio.run, root()).result(60) == 8


def test_a_coroutine_that_waits_for_blocking_calls_in_threads(one_slot):
    async def root():
        return await one_slot.tasks.sum_of_fibs([4, 5, 6])

    assert one_slot.call(asyncio.run, root()).result(60) == 3 + 5 + 8


def test_a_body_with_a_thread_pool(one_slot):
    assert one_slot.call(one_slot.tasks.fibs_by_threads, [4, 5, 6]).result(60) == [3, 5, 8]


def test_a_recursion_over_two_workers(site, kind):
    for worker in [site.worker(kind, 1), site.worker(kind, 1)]:
        worker.wait_for_start()

    assert site.call(site.tasks.fib, 11).result(60) == 89


def test_a_worker_that_ran_nested_calls_leaves_nothing(one_slot):
    assert one_slot.call(one_slot.tasks.fib, 5).result(60) == 5

    one_slot.only.signal(signal.SIGTERM)

    assert one_slot.only.wait() == 0
    assert one_slot.files("running") == []
    assert one_slot.names("running") == []
    assert one_slot.names("workers") == []
    assert one_slot.files("pending") == []
    assert one_slot.names("tmp") == []


def test_a_nested_call_that_crashes_once(site):
    site.worker("process", 1).wait_for_start()
    marks = site.folder("marks")

    pid = site.call(site.tasks.crash_by_nesting, marks.folder).result(60)

    # Both lived in the process that crashed, so both ran again.
    starts = marks.pids("starts")
    assert len(set(starts)) == 2
    assert starts[-1] == pid
