"""P9: a body that waits for calls of its own executor needs no second slot, however it waits."""

from __future__ import annotations

import concurrent.futures as cf
import threading

import pytest
from support import PATIENCE, wait_until

import fsqueue
from fsqueue.executor.application import ByValue
from integration.conftest import working

pytestmark = pytest.mark.concurrent

SQUARES = 14


def _result(executor, futures):
    return sum(future.result() for future in futures)


def _exception(executor, futures):
    assert [future.exception() for future in futures] == [None] * 3
    return sum(future.result(0) for future in futures)


def _wait(executor, futures):
    done, _ = cf.wait(futures)
    return sum(future.result() for future in done)


def _as_completed(executor, futures):
    return sum(future.result() for future in cf.as_completed(futures))


def _our_wait(executor, futures):
    return sum(future.result() for future in fsqueue.wait(futures).done)


def _our_as_completed(executor, futures):
    return sum(future.result() for future in fsqueue.as_completed(futures))


def _polling(executor, futures):
    wait_until(lambda: all(future.done() for future in futures))
    return sum(future.result() for future in futures)


def _callback(executor, futures):
    found, ended = [], threading.Event()

    def add(future):
        found.append(future.result())
        if len(found) == len(futures):
            ended.set()

    for future in futures:
        future.add_done_callback(add)
    assert ended.wait(PATIENCE)
    return sum(found)


def _asyncio(executor, futures):
    import asyncio

    async def gathered():
        return sum(await asyncio.gather(*map(asyncio.wrap_future, futures)))

    return asyncio.run(gathered())


def _thread(executor, futures):
    """A thread that the body has started, and that does not know its body."""
    found = []
    thread = threading.Thread(target=lambda: found.append(_result(executor, futures)))
    thread.start()
    thread.join(PATIENCE)
    return found[0]


def _last(executor, futures):
    """With `max_workers=1` the last call is published when those before it have ended."""
    last = futures[-1].result()
    return last + sum(future.result() for future in futures[:-1])


def _shutdown(executor, futures):
    executor.shutdown()
    return sum(future.result(0) for future in futures)


def _map(executor, futures):
    return sum(executor.map(pow, [1, 2, 3], [2, 2, 2]))


def _map_one_by_one(executor, futures):
    return sum(executor.map(pow, [1, 2, 3], [2, 2, 2], chunksize=1))


def _map_with_a_buffer(executor, futures):
    return sum(executor.map(pow, [1, 2, 3], [2, 2, 2], buffersize=1))


WAYS = {
    way.__name__[1:]: way
    for way in (
        *(_result, _exception, _wait, _as_completed, _our_wait, _our_as_completed, _polling),
        *(_callback, _asyncio, _thread, _last, _shutdown),
        *(_map, _map_one_by_one, _map_with_a_buffer),
    )
}


def _body(way, root, limit):
    with fsqueue.Executor(limit, root=root) as executor:
        return way(executor, [executor.submit(pow, n, 2) for n in (1, 2, 3)])


# A process ends while a thread that has published the outcome of a nested call, which the body has
# got, is about to remove the temporary file.
@pytest.mark.parametrize(
    "slots", ["thread", pytest.param("process", marks=pytest.mark.leaves_strays)]
)
@pytest.mark.parametrize("limit", [None, 1])
def test_p9_a_body_waits_with_one_slot(spool, monkeypatch, slots, limit):
    monkeypatch.setenv("FSQUEUE__ROOT", spool)
    app = ByValue(spool)
    with (
        working(app, app.make_runner(kind=slots, concurrency=1)),
        fsqueue.Executor(root=spool) as executor,
    ):
        for name, way in WAYS.items():  # starting a worker takes longer than all of them
            found = executor.submit(_body, way, spool, limit).result(PATIENCE)
            assert found == SQUARES, name
    app.close()


def test_p9_bodies_within_bodies(spool):
    def tree(depth):
        if not depth:
            return 1
        with fsqueue.Executor(root=spool) as executor:
            return sum(executor.map(tree, [depth - 1] * 2, chunksize=1))

    app = ByValue(spool)
    with (
        working(app, app.make_runner(kind="thread", concurrency=1)),
        fsqueue.Executor(root=spool) as executor,
    ):
        assert executor.submit(tree, 3).result(PATIENCE) == 8
    app.close()
