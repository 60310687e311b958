"""Prints how long a no-op round trip takes compared with ProcessPoolExecutor(1), in one run.

With a thread slot and with a process slot, in several rounds. The calls of both are made in turn,
so that what else the machine does slows down both. Only the ratio means anything on a busy machine.
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
RUNNERS = ("thread", "process")


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


def measure(root, runner, rounds, calls, in_a_row):
    """Medians of both, for each round."""
    import bench_tasks

    slots = ("--runner", runner, "--concurrency", "1")
    with workers(1, Path(root), *slots), ProcessPoolExecutor(1) as pool:

        def call():
            bench_tasks.echo(None)

        def pooled():
            pool.submit(abs, 1).result()

        compare(call, pooled, WARM_UP, in_a_row)
        return [compare(call, pooled, calls, in_a_row) for _ in range(rounds)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    parser.add_argument("--runner", choices=RUNNERS, nargs="+", default=RUNNERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=1000, help="of each round")
    parser.add_argument("--in-a-row", type=int, default=20, help="calls before the other's turn")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    figures = {}
    with tempfile.TemporaryDirectory(dir=options.root) as folder:
        root = os.environ["FSQUEUE__ROOT"] = f"{folder}/spool"
        import bench_tasks

        for runner in options.runner:
            found = measure(root, runner, options.rounds, options.calls, options.in_a_row)
            ours, theirs = map(statistics.median, zip(*found, strict=True))
            ratios = [mine / pool for mine, pool in found]
            figures[runner] = {"fsqueue": ours, "pool": theirs, "ratios": ratios}
            print(f"round trip, {runner} slot: {ours * 1e3:.3f} ms", end=", ")
            print(f"ProcessPoolExecutor(1): {theirs * 1e3:.3f} ms", end="; ")
            print(f"ratio {statistics.median(ratios):.2f}, worst {max(ratios):.2f}")
        bench_tasks.app.close()
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
