"""Prints how long a no-op round trip takes compared with ProcessPoolExecutor(1), in one run.

The calls of both are made in turn, so that what else the machine does slows down both. Only the
ratio means anything on a busy machine.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import machine
from workers import workers

HERE = Path(__file__).parent
WARM_UP = 100


def lap(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def compare(call, pooled, rounds, in_a_row):
    """Medians of both, from runs of calls that alternate."""
    ours, theirs = [], []
    for _ in range(rounds // in_a_row):
        ours += [lap(call) for _ in range(in_a_row)]
        theirs += [lap(pooled) for _ in range(in_a_row)]
    return statistics.median(ours), statistics.median(theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    parser.add_argument("--runner", choices=["thread", "process"], default="thread")
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--in-a-row", type=int, default=20, help="calls before the other's turn")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory(dir=options.root) as folder:
        root = os.environ["FSQUEUE__ROOT"] = f"{folder}/spool"
        import bench_tasks

        slots = ("--runner", options.runner, "--concurrency", "1")
        with workers(1, Path(root), *slots), ProcessPoolExecutor(1) as pool:

            def call():
                bench_tasks.echo(None)

            def pooled():
                pool.submit(abs, 1).result()

            compare(call, pooled, WARM_UP, options.in_a_row)
            ours, theirs = compare(call, pooled, options.calls, options.in_a_row)
        bench_tasks.app.close()
    print(f"round trip, {options.runner} slot: {ours * 1e3:.3f} ms", end=", ")
    print(f"ProcessPoolExecutor(1): {theirs * 1e3:.3f} ms, ratio {ours / theirs:.2f}")
    if options.json:
        figures = {"fsqueue": ours, "pool": theirs, "ratio": ours / theirs}
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
