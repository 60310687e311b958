"""Point 7: bodies run where they are called, and nothing is created."""

from __future__ import annotations

import asyncio
import os
import threading
import traceback

import pytest

from fsqueue import State
from integration import sample_tasks as sample
from integration.conftest import working


@pytest.fixture
def inline(make_app, spool):
    """An app in sync mode; afterwards no file, folder or thread is there."""
    before = set(threading.enumerate())
    app = make_app(dev_mode_force_sync_tasks=True)
    yield app
    assert not os.path.exists(spool)
    assert not set(threading.enumerate()) - before


def test_from_environment(spool, make_app, monkeypatch):
    monkeypatch.setenv("FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS", "True")
    app = make_app()
    assert app.direct_task(sample.add)(1) == 2
    assert not os.path.exists(spool)
    monkeypatch.setenv("FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS", "off")
    assert make_app().conf.dev_mode_force_sync_tasks is False


def test_default_root_is_not_made_either(tmp_path, monkeypatch):
    import tempfile

    from fsqueue import FSQueue

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    app = FSQueue("t", dev_mode_force_sync_tasks=True)
    assert app.direct_task(sample.add)(1) == 2
    assert app.task(sample.add)(1).result == 2
    assert os.listdir(tmp_path) == []


async def test_direct_in_the_calling_thread(inline):
    here = threading.current_thread().name
    assert inline.direct_task(sample.thread_name)() == here
    assert await inline.direct_task(sample.async_thread_name)() == here
    assert inline.direct_task(sample.everything)(1, 2, 3, 4, d=5, f=6) == sample.everything(
        1, 2, 3, 4, d=5, f=6
    )


def test_values_are_not_copied(inline):
    value = [threading.Lock()]
    assert inline.direct_task(sample.echo)(value) is value
    assert inline.task(sample.echo)(value).result is value


def test_traceback_as_in_plain_python(inline):
    with pytest.raises(ZeroDivisionError) as caught:
        inline.direct_task(sample.divide)(1, 0)
    text = "".join(traceback.format_exception(caught.value))
    assert "return a / b  # the body's line" in text


def test_task_is_done_when_called(inline):
    invocation = inline.task(sample.thread_name)()
    assert invocation.done()
    assert invocation.status is State.SUCCEEDED
    assert invocation.id
    assert invocation.result == invocation.get(timeout=0) == threading.current_thread().name
    failed = inline.task(sample.divide)(1, 0)
    assert failed.done()
    assert failed.status is State.FAILED
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failed.get()


def test_wrong_call(inline):
    with pytest.raises(TypeError):
        inline.direct_task(sample.add)(1, 2, 3)
    with pytest.raises(TypeError):
        inline.task(sample.add)(1, 2, 3)


def test_async_task_without_a_loop(inline):
    assert inline.task(sample.async_thread_name)().result == threading.current_thread().name


async def test_async_task_in_a_running_loop(inline):
    invocation = inline.task(sample.async_add)(1)
    assert invocation.done()
    assert await invocation.async_result() == 2
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    with pytest.raises(ZeroDivisionError):
        await inline.task(sample.async_divide)(1, 0).async_result()
    assert asyncio.get_running_loop() is loop
    assert asyncio.current_task() is task
    await asyncio.sleep(0)


async def test_groups(inline):
    items = [(1,), {"x": 2}]
    for function in (sample.scaled, sample.async_scaled):
        group = inline.task(function).parallelize(items, {"factor": 3})
        assert group.results == [3, 6]
        assert [value async for value in group.async_results()] == [3, 6]
    failing = inline.task(sample.odd_fails).parallelize([(0,), (1,)])
    with pytest.raises(ValueError, match="odd") as caught:
        _ = failing.results
    assert any("item 1 " in note for note in caught.value.__notes__)
    with pytest.raises(TypeError, match=r"^item 0: "):
        inline.task(sample.scaled).parallelize([5])


async def test_fan_out(inline):
    options = {"parallel_func": lambda call: ((x,) for x in range(call["x"]))}
    decorate = inline.direct_task(**options, aggregate_func=sum)
    assert decorate(sample.scaled)(4) == 60
    assert await decorate(sample.async_scaled)(4) == 60
    empty = inline.direct_task(parallel_func=lambda _: [], aggregate_func=list)
    assert empty(sample.scaled)(4) == []
    with pytest.raises(ValueError, match="odd") as caught:
        decorate(sample.odd_fails)(4)
    assert any("item 1 " in note for note in caught.value.__notes__)


async def test_toggled_at_any_time(app):
    direct, task = app.direct_task(sample.thread_name), app.task(sample.thread_name)
    async_direct = app.direct_task(sample.async_thread_name)
    here = threading.current_thread().name
    app.conf.dev_mode_force_sync_tasks = True
    assert direct() == task().result == await async_direct() == here
    assert app._session._store is None
    app.conf.dev_mode_force_sync_tasks = False
    with working(app):
        for call in (direct, lambda: task().result):
            assert call().startswith("fsqueue-slot")
        assert (await async_direct()).startswith("fsqueue-loop")
        app.conf.dev_mode_force_sync_tasks = True
        assert direct() == task().result == await async_direct() == here


async def test_async_fan_out_in_the_calling_thread(inline):
    names = inline.direct_task(
        parallel_func=lambda call: [(), ()], aggregate_func=lambda results: results
    )(sample.async_thread_name)
    assert await names() == [threading.current_thread().name] * 2
