"""An application whose bodies wait for calls of lanes that they are in themselves."""

from __future__ import annotations

import asyncio

from support import wait_until

from fsqueue import FSQueue, State, current_invocation
from fsqueue.runner.attempt.context import current
from integration.sample_tasks import crowds, enter, gates

app = FSQueue("turns", concurrency=1, poll_interval=0.1)


@app.task(running_concurrency="task")
def countdown(n):
    return 0 if n == 0 else 1 + countdown(n - 1).result


@app.task(running_concurrency="task")
async def async_countdown(n):
    return 0 if n == 0 else 1 + await async_countdown(n - 1).async_result()


@app.task(running_concurrency="task")
def inner(crowd):
    return enter(crowd)


@app.task
def between(n):
    return countdown(n).result


@app.task(running_concurrency="keys", key_arguments="key")
def keyed(key, depth):
    """Waits for a call without a lane, whose body waits for one of this lane."""
    return depth if depth == 0 else through(key, depth - 1).result + 1


@app.task(queue="other")
def through(key, depth):
    return keyed(key, depth).result


@app.task(running_concurrency="task", registration_concurrency="arguments")
def shared(name, gate=""):
    """Waits for a call that another worker runs, whose body waits for one of somebody else."""
    if name == "leaf":
        return current_invocation().id
    current_invocation().progress(0, 1)  # it has its place
    gates[gate].wait(60)
    between = shares("leaf")
    wait_until(lambda: between.status is State.RUNNING)
    return between.result


@app.task(queue="other")
def shares(name):
    return shared(name).result


@app.task(running_concurrency="task")
async def gathers(crowd):
    if crowd != "leaf":
        parts = [gathers("leaf").async_result() for _ in range(4)]
        return sum(await asyncio.gather(*parts))
    with crowds["gathered"].inside():
        await asyncio.sleep(0.002)
    return 1


@app.task(running_concurrency="arguments")
def chain(left):
    """Makes the next one and does not wait for it; tells in whose places it may run."""
    return chain(left - 1).id if left else None, current.get().call.within
