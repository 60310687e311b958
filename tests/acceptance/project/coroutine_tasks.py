"""Coroutine bodies for the acceptance tests, in a module of their own: workers import it late."""

import asyncio
import contextlib
import functools
import os
import sys
import time
from pathlib import Path

from tasks import app, note

from fsqueue import current_invocation

connections = []
lock = asyncio.Lock()


@app.direct_task
async def ask(port, word):
    """Use a connection that the first call has made."""
    async with lock:
        if not connections:
            connections.append(await asyncio.open_connection("127.0.0.1", port))
        reader, writer = connections[0]
        writer.write(f"{word}\n".encode())
        await writer.drain()
        return (await reader.readline()).decode().strip()


@app.direct_task
async def run_alone(seconds):
    """Whether the lock lets nobody else in; it belongs to the loop that all calls share."""
    async with lock:
        run_alone.inside = getattr(run_alone, "inside", 0) + 1
        await asyncio.sleep(seconds)
        alone, run_alone.inside = run_alone.inside == 1, run_alone.inside - 1
    return alone


async def _clean_up_late(folder, name, cleaning):
    """Wait for ever; when cancelled, clean up with awaits."""
    note(folder, "starts")
    try:
        if not (Path(folder) / "release").exists():
            await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(cleaning)
        await asyncio.to_thread(note, folder, name)
    return os.getpid()


@app.task
async def wait_for_cancel(folder, cleaning=0.05):
    return await _clean_up_late(folder, "cleaned", cleaning)


@app.direct_task
async def wait_to_be_dropped(folder, cleaning=0.05):
    return await _clean_up_late(folder, "cleaned", cleaning)


@app.direct_task
async def block(seconds):
    time.sleep(seconds)  # noqa: ASYNC251 - it blocks the loop


@app.direct_task
async def leave_the_loop(how):
    loop = asyncio.get_running_loop()
    if how == "exit":
        sys.exit(3)
    elif how == "stop":
        loop.stop()
        await asyncio.sleep(0.01)
    elif how == "close":
        with contextlib.suppress(RuntimeError):
            loop.close()
    elif how == "exit in a task":
        task = asyncio.create_task(_exit())
        with contextlib.suppress(SystemExit):
            await task
    return how


async def _exit():
    sys.exit(4)


@app.task(capture_output=True)
async def tell(word, count):
    """Print by turns with others, from this task, from one of its own and from a thread."""

    async def child():
        print("child", word)
        await asyncio.to_thread(print, "thread", word)

    for _ in range(count):
        print("body", word)
        await asyncio.sleep(0.001)
        await asyncio.create_task(child())
    here = current_invocation().id
    inner = await asyncio.gather(_own_id(), asyncio.to_thread(lambda: current_invocation().id))
    return {here, *inner} == {current_invocation().id}


async def _own_id():
    return current_invocation().id


@app.direct_task
async def inner(number):
    await asyncio.sleep(0.01)
    return number + 1


@app.task
async def inner_task(number):
    await asyncio.sleep(0.01)
    return number + 1


@app.direct_task
def plain_inner(number):
    return asyncio.run(_plus_one(number))


async def _plus_one(number):
    await asyncio.sleep(0)
    return number + 1


@app.direct_task
async def wait_without_await(depth):
    """Block in the loop's thread, as code does that was written before it was a coroutine."""
    if depth == 0:
        return plain_inner(0)
    return inner_task(deeper(depth - 1)).result


@app.task
async def deeper_task(depth):
    return await inner(deeper(depth))


def deeper(depth):
    return 0 if depth == 0 else deeper_task(depth - 1).result


@app.direct_task
async def wait_both_ways(count):
    """Some calls are awaited while this waits for others without `await`."""
    awaited = [asyncio.create_task(inner(number)) for number in range(count)]
    await asyncio.sleep(0)
    blocked = [inner_task(number).result for number in range(count)]
    return await asyncio.gather(*awaited) == blocked


@app.direct_task
async def spread(count):
    return sum(await asyncio.gather(*(inner(number) for number in range(count))))


def logged(function):
    """A decorator as people write it, that knows nothing of coroutines."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@app.direct_task
@logged
async def decorated(number):
    await asyncio.sleep(0)
    return number + 1


def blocking(function):
    """A decorator that makes a plain function of a coroutine function."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return asyncio.run(function(*args, **kwargs))

    return wrapper


@app.direct_task
@blocking
async def made_plain(number):
    await asyncio.sleep(0)
    return number + 1


@app.direct_task
def secretly_async(path):
    return _touch(path)


async def _touch(path):
    note(path, "ran")
