"""Tasks whose callers are killed, and what these callers do."""

import asyncio
import os

from tasks import _hold, app, hold, hold_later, note

from fsqueue import args


def _numbered(call):
    """So many calls; of a negative number the number itself, for one that is to be held."""
    count = call["count"]
    return [args(call["folder"], number) for number in (range(count) if count >= 0 else [count])]


@app.direct_task
def touch(folder):
    note(folder, "starts")


@app.direct_task(parallel_func=_numbered, parallel_batch_size=1, aggregate_func=list)
def touch_many(folder, count):
    note(folder, "starts")


@app.direct_task(parallel_func=_numbered, parallel_batch_size=10, aggregate_func=list)
def touch_in_batches(folder, count):
    note(folder, "starts")


@app.direct_task(
    running_concurrency="task",
    running_limit=1,
    parallel_func=_numbered,
    parallel_batch_size=1,
    aggregate_func=list,
)
def take_turns(folder, count):
    if count < 0:
        return _hold(folder)
    note(folder, "turns")
    return None


@app.direct_task
async def touch_async(folder):
    note(folder, "starts")


@app.task
def touch_later(folder):
    note(folder, "starts")
    return "done"


@app.task
def after(value, folder):
    note(folder, "afters")
    return value


@app.direct_task
def touch_when(number, folder):
    note(folder, "afters")
    return number


@app.direct_task
def outer(folder):
    note(folder, "outer")
    return inner(folder, os.getpid())


def _of_this_process(call):
    return [args(call["folder"], call["caller"]) for _ in range(10)]


@app.direct_task(parallel_func=_of_this_process, parallel_batch_size=1, aggregate_func=list)
def inner(folder, caller):
    note(folder, f"inner-of-{caller}")
    _hold(folder)


async def many_at_once(folder, count):
    await asyncio.gather(*(touch_async(folder) for _ in range(count)))


def call(how, folder, count):
    if how == "async":
        asyncio.run(many_at_once(folder, count))
    elif how == "later":
        print(*(touch_later(folder).id for _ in range(count)), flush=True)
    elif how == "held":
        hold(folder)
    elif how == "awaits":
        touch_when(hold_later(folder), folder)
    else:
        {"fan-out": touch_many, "batches": touch_in_batches, "in turn": take_turns}[how](
            folder, count
        )
