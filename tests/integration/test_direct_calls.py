"""Points 4, 5 and 11: functions that keep their call site."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import async_wait_until, files_under, wait_until

from fsqueue import args
from integration import sample_tasks as sample
from integration.conftest import working


def pending(spool):
    return [name for name in files_under(spool) if name.startswith("pending/")]


def outcomes(spool):
    return [name for name in files_under(spool) if name.startswith(("done/", "kept/"))]


def test_signature_and_metadata_stay(app):
    for function in (sample.add, sample.async_add):
        direct = app.direct_task(function)
        assert inspect.signature(direct) == inspect.signature(function)
        assert direct.__wrapped__ is function
        assert direct.__name__ == function.__name__
        assert direct.__doc__ == function.__doc__
        assert direct.__module__ == function.__module__
        assert inspect.iscoroutinefunction(direct) == inspect.iscoroutinefunction(function)


def test_values_and_exceptions(worked, spool):
    assert worked.direct_task(sample.add)(1, b=2) == 3
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        worked.direct_task(sample.divide)(1, 0)
    with pytest.raises(TypeError, match=r"^add\(\): "):
        worked.direct_task(sample.add)(1, 2, 3)
    assert outcomes(spool) == []  # nobody else can ask for them


def test_threads(app, gate):
    direct = app.direct_task(sample.behind_gate)
    event, name = gate()
    with (
        working(app, app.make_runner(concurrency=8)),
        ThreadPoolExecutor(8) as pool,
    ):
        futures = [pool.submit(direct, name, number) for number in range(8)]
        wait_until(lambda: sum(len(names) for _, _, names in os.walk(running(app))) == 8)
        event.set()
        assert [future.result(60) for future in futures] == list(range(8))


def running(app):
    return app.store.layout.running_folder


def test_many_calls_of_many_threads(worked):
    direct = worked.direct_task(sample.add)
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(direct, range(100))) == [number + 1 for number in range(100)]


async def test_many_awaits_without_a_thread_each(app, spool):
    direct = app.direct_task(sample.async_add)
    count = 100
    before = threading.active_count()
    awaits = [asyncio.ensure_future(direct(number)) for number in range(count)]
    await async_wait_until(lambda: len(pending(spool)) == count)
    assert threading.active_count() - before < 40  # at most asyncio's own pool
    with working(app):
        assert await asyncio.gather(*awaits) == [number + 1 for number in range(count)]
    assert outcomes(spool) == []


async def test_the_loop_goes_on_while_an_await_is_pending(worked, gate):
    event, name = gate()
    waiting = asyncio.ensure_future(worked.task(sample.behind_gate)(name, 1).async_result())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    event.set()
    assert await waiting == 1


@pytest.mark.parametrize("moment", ["at once", "pending", "running"])
async def test_cancelled_await(app, spool, gate, moment):
    """The call is cancelled, its outcome is removed, and later calls are as before."""
    event, name = gate()
    direct = app.direct_task(sample.async_behind_gate)
    waiting = asyncio.ensure_future(direct(name))
    with contextlib.ExitStack() as stack:
        if moment == "running":
            stack.enter_context(working(app))
            await async_wait_until(lambda: list(files_under(f"{spool}/running")))
        elif moment == "pending":
            await async_wait_until(lambda: pending(spool))
        else:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if moment != "running":
            stack.enter_context(working(app))
        event.set()
        assert await direct(name, "later") == "later"
        await async_wait_until(lambda: not pending(spool))
        await async_wait_until(lambda: not list(files_under(f"{spool}/running")))
        await async_wait_until(lambda: not outcomes(spool))
    assert not list(files_under(f"{spool}/failed"))


async def test_timeout_around_an_await(app, spool):
    direct = app.direct_task(sample.async_add)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await direct(1)
    with working(app):
        assert await direct(2) == 3
        await async_wait_until(lambda: not pending(spool) and not outcomes(spool))


# -- point 5: fan-out ---------------------------------------------------------------------

FORMS = {
    "tuples": ([(1,), (2, 3)], [10, 6]),
    "dicts": ([{"x": 1}, {"x": 2, "factor": 3}], [10, 6]),
    "args": ([args(1), args(2, factor=3)], [10, 6]),
    "mixed": ([(1,), {"x": 2}, args(3)], [10, 20, 30]),
    "two tuples": (((1,), (2, 3)), [10, 6]),
    "two dicts": (({"x": 1}, {"x": 2, "factor": 3}), [10, 6]),
    "a dict and a tuple": (({"x": 1}, (2, 3)), [10, 6]),
    "a dict and args": (({"x": 1}, args(2, 3)), [10, 6]),
    "pair": (({"factor": 2}, [{"x": 1}, {"x": 2}]), [2, 4]),
    "pair with a tuple of dicts": (({"factor": 2}, ({"x": 1}, {"x": 2})), [2, 4]),
    "pair, one item": (({"factor": 2}, [{"x": 1}]), [2]),
    "pair, nothing in common": (({}, [{"x": 1}]), [10]),
    "pair, overridden": (({"factor": 2}, [{"x": 1}, {"x": 2, "factor": 9}]), [2, 18]),
    "pair, empty": (({"factor": 2}, []), []),
    "empty": ([], []),
    "empty tuple": ((), []),
}
GENERATORS = {
    "generator": (lambda _: ((x,) for x in range(3)), [0, 10, 20]),
    "pair with generator": (lambda _: ({"factor": 2}, ({"x": x} for x in range(3))), [0, 2, 4]),
    "map": (lambda _: map(args, range(3)), [0, 10, 20]),
}


@pytest.mark.parametrize("form", [*FORMS, *GENERATORS])
async def test_forms_of_fan_out(worked, form):
    makes, expected = GENERATORS.get(form) or (lambda _: FORMS[form][0], FORMS[form][1])
    for function in (sample.scaled, sample.async_scaled):
        direct = worked.direct_task(parallel_func=makes, aggregate_func=list)(function)
        got = await direct(7) if function is sample.async_scaled else direct(7)
        assert got == expected


def test_parallel_func_gets_the_bound_arguments(worked):
    seen = []

    def split(call):
        seen.append(call)
        return [(1,)]

    direct = worked.direct_task(parallel_func=split, aggregate_func=lambda results: results[0])(
        sample.everything_but_strict
    )
    assert direct(1, 2, 3, d=4, z=5) == 1
    assert seen == [{"a": 1, "b": 2, "args": (3,), "d": 4, "e": 5, "kwargs": {"z": 5}}]
    assert type(seen[0]) is dict
    with pytest.raises(TypeError, match="'a'"):
        direct()
    assert len(seen) == 1


@pytest.mark.parametrize("bad", [None, 5, "text", b"bytes", {"x": 1}])
def test_parallel_func_returns_nonsense(worked, bad):
    direct = worked.direct_task(parallel_func=lambda _: bad, aggregate_func=list)(sample.scaled)
    with pytest.raises(TypeError, match="parallel_func must return"):
        direct(1)


async def test_failing_member(worked, spool):
    options = {"parallel_func": lambda _: [(0,), (1,), (3,)], "aggregate_func": list}
    with pytest.raises(ValueError, match="odd") as caught:
        worked.direct_task(**options)(sample.odd_fails)(0)
    assert caught.value.args == ("odd", 1)
    assert any("item 1 " in note for note in caught.value.__notes__)
    with pytest.raises(ValueError, match="odd") as caught:
        await worked.direct_task(**options)(sample.async_odd_fails)(0)
    assert any("item 1 " in note for note in caught.value.__notes__)
    await async_wait_until(lambda: not pending(spool) and not outcomes(spool))


@pytest.mark.parametrize("watch", ["events", "poll"])
def test_abandoned_outcome_is_removed_when_it_comes(make_app, spool, gate, watch):
    app = make_app(watch=watch, poll_interval=0.1)
    event, name = gate()
    members = [("no such gate",), (name,)]
    direct = app.direct_task(parallel_func=lambda _: members, aggregate_func=list)
    with working(app):
        with pytest.raises(KeyError) as caught:
            direct(sample.behind_gate)(name)
        assert any("item 0 " in note for note in caught.value.__notes__)
        event.set()
        wait_until(lambda: not list(files_under(f"{spool}/running")))
        wait_until(lambda: not outcomes(spool), timeout=60)


def test_abandoned_outcome_is_removed_when_it_came_unseen(app, spool, gate):
    event, name = gate()
    task = app.task(sample.behind_gate)
    with working(app):
        later = task.submit((name,), {}, keep=False)
        assert app.direct_task(sample.add)(1) == 2  # from now on nobody waits, so nobody looks
        event.set()
        wait_until(later.done)
        wait_until(lambda: not list(files_under(f"{spool}/running")))
        later.abandon()
        wait_until(lambda: not outcomes(spool), timeout=60)


async def test_errors_of_the_users_own_functions(worked):
    direct = worked.direct_task(parallel_func=lambda _: 1 / 0, aggregate_func=list)
    with pytest.raises(ZeroDivisionError):
        direct(sample.scaled)(1)
    with pytest.raises(ZeroDivisionError):
        await direct(sample.async_scaled)(1)
    direct = worked.direct_task(parallel_func=lambda _: [], aggregate_func=lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        direct(sample.scaled)(1)


def test_bad_item_makes_no_call(app, spool):
    direct = app.direct_task(parallel_func=lambda _: [(1,), 5], aggregate_func=list)(sample.scaled)
    with pytest.raises(TypeError, match=r"^item 1: "):
        direct(1)
    assert not os.path.exists(spool)


# -- point 11: nested calls -----------------------------------------------------------------


def test_nested_calls_with_one_slot(nested):
    with working(nested.app):
        assert nested.fib(10) == 55
        assert nested.tree(5).get(timeout=60) == 30
        assert nested.ladder(4) == 1 + 2 + 2 + 3


async def test_nested_async_calls_with_one_slot(nested):
    with working(nested.app):
        assert await nested.async_fib(5) == 5
