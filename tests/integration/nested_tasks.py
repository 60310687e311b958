"""An application as users write it: its root comes from the environment at import."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

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
