"""`fsqueue.Executor` beside the standard pool and a fan-out: ``python benchmarks/executor.py``.

Prints ratios, each of figures that alternate in one run, and what does not depend on the load of
the machine: how many functions of the package a call enters in its caller, in all threads.

The workers are two processes of one local worker; the root is a tmpfs if there is one.
"""

from __future__ import annotations

import argparse
import concurrent.futures as cf
import functools
import os
import statistics
import sys
import tempfile
import time
from collections import Counter

import machine

import fsqueue

PACKAGE = os.path.dirname(fsqueue.__file__) + os.sep
MANY, SUBMITS, BIG_CALLS, BIG = 100_000, 2_000, 100, 10_000_000


def seconds(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def ratio(title, target, ours, theirs, rounds):
    """Print the median ratio of two durations that alternate."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    found = statistics.median(other / own for own, other in pairs)
    print(f"{title}: {found:.2f} (at least {target})")


def gather(executor, function, count):
    for future in [executor.submit(function, n) for n in range(count)]:
        future.result()


def frames(function):
    """How many functions of the package this thread enters meanwhile."""
    counts: Counter[str] = Counter()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            counts[frame.f_code.co_qualname] += 1

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return counts


def closure(big):
    """A function whose closure is large."""
    return lambda n: len(big) + n


def large_closure(executor, rounds):
    """What 100 calls of a closure of 10 MB cost, beside one such call and 100 small ones."""
    found = []
    for _ in range(rounds):
        first, second = closure(os.urandom(BIG)), closure(os.urandom(BIG))
        one = seconds(functools.partial(gather, executor, first, 1))
        small = seconds(lambda: gather(executor, lambda n: n, BIG_CALLS))
        hundred = seconds(functools.partial(gather, executor, second, BIG_CALLS))
        found.append(hundred / (one + small))
    print(
        f"{BIG_CALLS} calls of a closure of 10 MB: {statistics.median(found):.2f} times one such "
        "call and 100 small ones (at most 1.3)"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    root = tempfile.mkdtemp(dir=machine.memory_or_disk())
    os.environ["FSQUEUE__ROOT"] = root
    sys.path.insert(0, os.path.dirname(__file__))
    import bench_tasks

    fan_out = bench_tasks.later
    items = [(n,) for n in range(SUBMITS)]

    def in_parallel():
        return fan_out.parallelize(items).get()

    with cf.ProcessPoolExecutor(2) as pool, fsqueue.Executor(root=root, workers=2) as executor:
        gather(pool, abs, 10)
        gather(executor, abs, 10)

        def pooled(size):
            return list(pool.map(abs, range(MANY), chunksize=size))

        best = min((500, 2_000, 10_000), key=lambda size: seconds(lambda: pooled(size)))
        ratio(
            f"map of {MANY} calls / ProcessPoolExecutor with chunksize {best}",
            0.5,
            lambda: list(executor.map(abs, range(MANY))),
            lambda: pooled(best),
            options.rounds,
        )
        large_closure(executor, options.rounds)
        with bench_tasks.app.workers(1, runner="process", concurrency=2):
            fan_out.parallelize(items[:10]).get()
            ratio(
                f"submit of {SUBMITS} calls / parallelize",
                0.8,
                lambda: gather(executor, abs, SUBMITS),
                in_parallel,
                options.rounds,
            )
            for title, function in {
                "submit": lambda: gather(executor, abs, SUBMITS),
                "parallelize": in_parallel,
            }.items():
                count = frames(function).total() / SUBMITS
                print(f"{title}: {count:.0f} functions of the package a call, in this thread")
    bench_tasks.app.close()


if __name__ == "__main__":
    main()
