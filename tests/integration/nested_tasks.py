"""An application as users write it: its root comes from the environment at import."""

from __future__ import annotations

import os
import signal

from fsqueue import FSQueue
from fsqueue.spool import controls

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


@app.direct_task
def fib_in_a_pause(n):
    controls.pause(app.store, f"{app.app_id}.default")
    return fib(n)


@app.task(max_attempts=1)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
