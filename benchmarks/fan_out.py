"""Prints how fast an unbatched fan-out is compared with ProcessPoolExecutor(2), in one run.

Two ways: one worker with two process slots, and two workers with a thread slot each. Rounds of each
alternate with rounds of the executor, so that what else the machine does slows down both. It also
prints the CPU time of each call, of caller and workers together.
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
import psutil
from workers import workers

HERE = Path(__file__).parent
WAYS = {
    "a worker with 2 process slots": (1, ("--runner", "process", "--concurrency", "2")),
    "2 workers with a thread slot": (2, ("--runner", "thread", "--concurrency", "1")),
}
WARM_UP = 200


def seconds(action):
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def cpu_seconds(found):
    """CPU seconds of this process and of all processes of these workers, which are alive."""
    here = psutil.Process()
    processes = [here]
    for worker in found:
        top = psutil.Process(worker.pid)
        processes += [top, *top.children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def measure(folder, way, calls, rounds):
    """The rates of both, for each round, and the CPU seconds of each of our calls."""
    import bench_tasks

    count, options = WAYS[way]
    ours, theirs, cpu = [], [], []
    with workers(count, Path(folder), *options) as found, ProcessPoolExecutor(2) as pool:

        def fan_out(number):
            group = bench_tasks.later.parallelize([(i,) for i in range(number)])
            assert len(list(group.results)) == number

        def pooled(number):
            for future in [pool.submit(abs, i) for i in range(number)]:
                future.result()

        fan_out(WARM_UP)
        pooled(WARM_UP)
        for _ in range(rounds):
            before = cpu_seconds(found)
            ours.append(calls / seconds(lambda: fan_out(calls)))
            cpu.append((cpu_seconds(found) - before) / calls)
            theirs.append(calls / seconds(lambda: pooled(calls)))
    return ours, theirs, cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    figures = {}
    with tempfile.TemporaryDirectory(dir=options.root) as folder:
        root = os.environ["FSQUEUE__ROOT"] = f"{folder}/spool"
        import bench_tasks

        for way in WAYS:
            ours, theirs, cpu = measure(root, way, options.calls, options.rounds)
            ratios = [mine / pool for mine, pool in zip(ours, theirs, strict=True)]
            figures[way] = {"ratios": ratios, "rate": ours, "pool": theirs, "cpu": cpu}
            print(
                f"{way}: {statistics.median(ours):,.0f} calls/s, ProcessPoolExecutor(2): "
                f"{statistics.median(theirs):,.0f}/s; ratio {statistics.median(ratios):.2f}, worst "
                f"{min(ratios):.2f}; CPU {1e6 * statistics.median(cpu):.0f} us a call"
            )
        bench_tasks.app.close()
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
