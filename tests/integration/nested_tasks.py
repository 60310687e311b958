"""An application as users write it: its root comes from the environment at import."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import fsqueue
from fsqueue import FSQueue
from fsqueue.spool.admin import controls

app = FSQueue("nested", concurrency=1)


@app.direct_task
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


@app.direct_task
async def async_fib(n):
    return n if n < 2 else await async_fib(n - 1) + await async_fib(n - 2)


@app.task
def leaf(x):
    return x * x


@app.task
async def async_leaf(x):
    return x * x


@app.task
def tree(count):
    return sum(leaf.parallelize([(x,) for x in range(count)]).results)


@app.direct_task(parallel_func=lambda call: [(x,) for x in range(call["n"])], aggregate_func=sum)
def ladder(n):
    return 1 if n == 0 else 1 + fib(n)


@app.task
def murmur(word):
    print(word)
    return word


@app.task(capture_output=True)
def conversation():
    print("question")
    kept, lost = murmur.options(capture_output=True)("answer"), murmur("aside")
    words = [kept.result, lost.result]
    print("thanks")
    return kept.id, lost.id, words


@app.task
def wait_for(invocation_id):
    return app.invocation(invocation_id).get(60)


@app.direct_task
def fib_in_a_pause(n):
    controls.pause(app.store, f"{app.app_id}.default")
    return fib(n)


@app.direct_task(resources={"gpu": 1})
def on_gpu(depth):
    return 0 if depth == 0 else 1 + on_gpu(depth - 1)


@app.direct_task(
    resources={"gpu": 1},
    parallel_func=lambda call: [(each,) for each in call["depths"]],
    aggregate_func=list,
)
def each_on_gpu(depths):
    return on_gpu(depths)


@app.task
def without_gpu(depths):
    return each_on_gpu(depths)


@app.task
def on_gpu_by_threads(depths):
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(on_gpu, depths))


@app.task(resources={"gpu": 1}, max_attempts=2)
def die_on_gpu():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(max_attempts=1)
def die():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def stop_its_runner():
    app.runner.stop_runner_loop()
    return "stopped"


@app.task
def run_its_runner_again():
    app.runner.stop_runner_loop()
    app.runner.run()


def _awaited_result(future):
    return future.result(60)


def _awaited_exception(future):
    assert future.exception(60) is None
    return future.result()


def _awaited_wait(future):
    fsqueue.wait([future], 60)
    return future.result(0)


def _awaited_as_completed(future):
    return next(fsqueue.as_completed([future], 60)).result(0)


def _awaited_std_wait(future):
    concurrent.futures.wait([future], 60)
    return future.result(0)


def _awaited_callback(future):
    arrived = threading.Event()
    future.add_done_callback(lambda _: arrived.set())
    assert arrived.wait(60)
    return future.result(0)


def _awaited_loop(future):
    async def awaited():
        return await asyncio.wrap_future(future)

    return asyncio.run(awaited())


def _awaited_thread(future):
    with ThreadPoolExecutor(1) as pool:
        context = contextvars.copy_context()
        return pool.submit(context.run, future.result, 60).result()


@app.task
def tree_of_futures(way, depth):
    """A body that waits in one way for two calls that do the same."""
    if depth == 0:
        return 1
    wait = globals()[f"_awaited_{way}"]
    return sum(wait(each) for each in [tree_of_futures(way, depth - 1).future() for _ in range(2)])


@app.task
def forget_a_future():
    leaf.options(countdown=3600)(1).future().add_done_callback(print)
    return "forgotten"
