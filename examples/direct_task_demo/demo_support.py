"""What the demo scripts share: a worker in a thread, and a stopwatch."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from fsqueue import FSQueue

T = TypeVar("T")


@contextmanager
def worker_in_thread(app: FSQueue) -> Iterator[None]:
    """Run a worker in a thread of this process until the block ends."""
    thread = threading.Thread(target=app.runner.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        app.runner.stop_runner_loop()
        thread.join(timeout=10)
    assert not thread.is_alive(), "the worker did not stop"


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Call `work`; return its result and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def report(what: str, seconds: float) -> None:
    """Print one line with a time."""
    print(f"  {what:<58} {seconds:6.2f} s")
