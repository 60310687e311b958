"""A caller and a worker that reach limits of their process; started with the spool as argument."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
import threading
import time

import psutil

from fsqueue import FSQueue
from fsqueue.errors import FSQueueError

app = FSQueue("limits", root=sys.argv[1])
PATIENCE = 90.0


@app.direct_task
def double(number: int) -> int:
    return 2 * number


@app.direct_task
async def double_async(number: int) -> int:
    return 2 * number


@app.task(timeout=20)
def double_in_time(number: int) -> int:
    return 2 * number


def wait_until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)


@contextlib.contextmanager
def limited(kind: int, most: int):
    """Within the block, this process has no more of something."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def no_threads():
    return limited(resource.RLIMIT_NPROC, 1)


def pending() -> list[str]:
    folder = app.store.layout.pending_folder
    return [name for _, _, names in os.walk(folder) for name in names]


@contextlib.contextmanager
def worker(runner):
    thread = threading.Thread(target=runner.run)
    thread.start()
    # Its last thread, but for those of its slots.
    wait_until(lambda: any(each.name == "fsqueue-upkeep" for each in threading.enumerate()))
    yield
    runner.stop_runner_loop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def work(kind: str = "thread") -> None:
    app.make_runner(kind=kind, concurrency=1).run()


def call() -> None:
    assert double(21) == 42
    assert double(1) == 2
    assert asyncio.run(double_async(3)) == 6


def call_without_threads() -> None:
    with no_threads():
        assert double(21) == 42
        assert double(1) == 2
    assert double(2) == 4


def await_without_threads() -> None:
    async def all_of_them() -> list[int]:
        with no_threads():
            return await asyncio.gather(*map(double_async, range(5)))

    assert asyncio.run(all_of_them()) == [0, 2, 4, 6, 8]
    assert pending() == []


def await_without_another_thread() -> None:
    """The event loop has one thread in its pool."""

    async def all_of_them() -> list[int]:
        await asyncio.to_thread(bool)
        with no_threads():
            return await asyncio.gather(*map(double_async, range(5)))

    assert asyncio.run(all_of_them()) == [0, 2, 4, 6, 8]


def run_without_another_thread() -> None:
    """Of a worker's four slots, none has its thread yet."""
    runner = app.make_runner(kind="thread", concurrency=4)
    with worker(runner):
        with no_threads():
            calls = [double_in_time(number) for number in range(8)]
            wait_until(lambda: not pending() or len(pending()) <= 4)
        assert [each.get(PATIENCE) for each in calls] == [2 * number for number in range(8)]


def run_without_upkeep(kind: str) -> None:
    try:
        app.make_runner(kind=kind, concurrency=1).run()
    except FSQueueError as error:
        print(error, flush=True)
    assert processes() == []
    assert os.listdir(app.store.layout.running_folder) == []
    assert os.listdir(app.store.layout.workers_folder) == []


def processes() -> list[str]:
    """Those of slots and their servers; the resource tracker ends with this process."""
    below = [" ".join(each.cmdline()) for each in psutil.Process().children(recursive=True)]
    return [command for command in below if "resource_tracker" not in command]


def run_in_main_thread_without_another(kind: str) -> None:
    with no_threads():
        run_without_upkeep(kind)


def run_in_thread_without_another(kind: str) -> None:
    """Signals are not this worker's, so it first misses the threads of its upkeep."""
    begin = threading.Event()

    def run() -> None:
        begin.wait()
        run_without_upkeep(kind)

    thread = threading.Thread(target=run)
    thread.start()
    with no_threads():
        begin.set()
        thread.join()


def run_in_thread_without_upkeep(kind: str) -> None:
    """There are threads for the slots, but none for upkeep, which comes next."""
    app.store.files.sync_clock()
    start = threading.Thread.start

    def limit(thread: threading.Thread) -> None:
        if thread.name == "fsqueue-beat":
            stack.enter_context(no_threads())
        start(thread)

    threading.Thread.start = limit  # type: ignore[method-assign]
    with contextlib.ExitStack() as stack:
        thread = threading.Thread(target=run_without_upkeep, args=(kind,))
        start(thread)
        thread.join()


def call_without_descriptors() -> None:
    """There are some, but not the two that listening to events takes."""
    app.store.files.sync_clock()
    with contextlib.ExitStack() as stack:
        first = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, first)
        # The lock of the client, a file that is written or read, and a folder that is listed.
        stack.enter_context(limited(resource.RLIMIT_NOFILE, first + 4))
        assert double(21) == 42
        assert double(1) == 2
