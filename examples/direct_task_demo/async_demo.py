"""Async: a decorated `async def` is awaited as before, and the event loop stays free.

Three hundred awaits are in flight at once on one loop, without a thread for each; a
ticker on the same loop keeps counting. A timeout cancels an await, not the queue.
"""

import asyncio
import threading
import time
from itertools import pairwise

import tasks
from demo_support import report, worker_in_thread

MANY = 300


async def tick(interval: float, ticks: list[float]) -> None:
    while True:
        ticks.append(time.perf_counter())
        await asyncio.sleep(interval)


async def gather_many() -> None:
    ticks: list[float] = []
    ticker = asyncio.create_task(tick(0.01, ticks))
    start = time.perf_counter()
    forecasts = asyncio.gather(*(tasks.forecast(f"station {n}") for n in range(MANY)))
    await asyncio.sleep(0.1)
    threads = threading.active_count()
    texts = await forecasts
    seconds = time.perf_counter() - start
    ticker.cancel()

    report(f"{MANY} awaits of 0.02 s, gathered", seconds)
    longest = max(after - before for before, after in pairwise(ticks))
    print(f"    {threads} threads in this process, the worker's included")
    print(f"    the event loop was never blocked for longer than {longest * 1000:.0f} ms")
    assert texts == [f"station {n}: dry" for n in range(MANY)]
    assert seconds < MANY * 0.02
    assert threads < MANY / 2
    assert longest < 1


async def give_up_early() -> None:
    start = time.perf_counter()
    try:
        async with asyncio.timeout(0.1):
            await tasks.forecast("far away", seconds=0.5)
    except TimeoutError:
        report("an await given up after 0.1 s", time.perf_counter() - start)
    else:
        raise AssertionError("the timeout did not end the await")
    assert await tasks.forecast("Cork") == "Cork: dry"
    print("    and the next call is answered as usual")


async def main() -> None:
    print("async, the worker in a thread:")
    await gather_many()
    await give_up_early()


if __name__ == "__main__":
    with worker_in_thread(tasks.app):
        asyncio.run(main())
