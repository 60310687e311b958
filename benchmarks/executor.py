"""Rates of `fsqueue.Executor` beside those of the standard pool: ``python benchmarks/executor.py``.

Prints calls a second of `map` and `submit`, and what a closure of 10 MB costs.
"""

from __future__ import annotations

import concurrent.futures as cf
import os
import tempfile
import time

import fsqueue

CALLS, SUBMITS, BIG = 100_000, 2_000, 10_000_000


def seconds(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def gather(executor, function, count):
    for future in [executor.submit(function, n) for n in range(count)]:
        future.result()


def main():
    with cf.ProcessPoolExecutor(2) as pool:
        gather(pool, abs, 10)
        best = min(
            seconds(lambda size=size: list(pool.map(abs, range(CALLS), chunksize=size)))
            for size in (500, 2_000, 10_000)
        )
    print(f"ProcessPoolExecutor.map, best chunksize: {CALLS / best:,.0f}/s")
    root = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    with fsqueue.Executor(root=root, workers=2) as executor:
        gather(executor, abs, 10)
        took = min(seconds(lambda: list(executor.map(abs, range(CALLS)))) for _ in range(3))
        print(f"Executor.map, automatic chunks: {CALLS / took:,.0f}/s")
        took = seconds(lambda: gather(executor, abs, SUBMITS))
        print(f"Executor.submit: {SUBMITS / took:,.0f}/s")
        big = os.urandom(BIG)
        one = seconds(lambda: gather(executor, lambda n: len(big) + n, 1))
        small = seconds(lambda: gather(executor, lambda n: n, 100))
        hundred = seconds(lambda: gather(executor, lambda n: len(big) + n, 100))
        print(f"closure of 10 MB: 1 call {one:.3f} s, 100 small calls {small:.3f} s, 100 calls")
        print(f"  with it {hundred:.3f} s: {hundred / (one + small):.2f} times the sum of both")


if __name__ == "__main__":
    main()
