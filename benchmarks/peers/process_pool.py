"""ProcessPoolExecutor: pipes instead of files, as the upper limit for a queue in Python."""

import contextlib
from concurrent.futures import ProcessPoolExecutor

import bodies
from protocol import WORKERS, Calls


class Pool(Calls):
    """Calls through the pool."""

    def __init__(self, pool):
        self._pool = pool

    def submit(self, name, value):
        return self._pool.submit(getattr(bodies, name), value)

    def result(self, handle):
        return handle.result()


@contextlib.contextmanager
def connect():
    with ProcessPoolExecutor(WORKERS) as pool:
        yield Pool(pool)
