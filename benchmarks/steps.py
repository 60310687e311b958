"""Measures each step of a call by itself, and the share of the filesystem in it.

One process does one step for all calls before the next step, so that nothing overlaps.
"""

import argparse
import tempfile
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import machine
from rich.console import Console
from rich.table import Table

from fsqueue import FSQueue
from fsqueue.spool.disk.filesystem import Filesystem

CALLS = 2_000
REPEATS = 5


class Meter:
    """Measures the time and the number of all filesystem calls, once installed."""

    def __init__(self):
        self.seconds, self.calls = 0.0, Counter()

    def fit(self):
        """Measure all filesystem calls of this process from now on."""
        call = Filesystem._call  # noqa: SLF001

        def measured(fs, verb, function, /, *args, **kwargs):
            if verb == "lock":
                return call(fs, verb, function, *args, **kwargs)
            began = time.perf_counter()
            try:
                return call(fs, verb, function, *args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began
                self.calls[verb] += 1

        Filesystem._call = measured  # noqa: SLF001
        Filesystem._bound = lambda fs, *step: partial(fs._call, *step)  # noqa: SLF001

    def reset(self):
        """Start again from zero."""
        self.seconds, self.calls = 0.0, Counter()


def measure(root, meter):
    """For each step: microseconds per call, those in the filesystem, and filesystem calls."""
    import bench_tasks

    app = FSQueue("steps", root=root, concurrency=1)
    task = app.task(bench_tasks.tick)
    found = {}

    def step(name, action):
        meter.reset()
        began = time.perf_counter()
        answer = action()
        whole = time.perf_counter() - began
        found[name] = (1e6 * whole / CALLS, 1e6 * meter.seconds / CALLS, dict(meter.calls))
        return answer

    task.parallelize([()]).abandon()  # warm-up: some things happen only once
    group = step("publish", lambda: task.parallelize([()] * CALLS))

    def run():
        thread = threading.Thread(target=app.runner.run)
        thread.start()
        for _ in range(CALLS):
            bench_tasks.ticks.acquire()
        app.runner.stop_runner_loop()
        thread.join()

    step("claim, run, complete", run)
    step("collect", lambda: group.results)
    app.close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    root = parser.parse_args().root
    meter, about = Meter(), machine.describe()
    meter.fit()
    rounds = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory(dir=root) as folder:
            rounds.append(measure(Path(folder, "spool"), meter))
    table = Table(f"step, on {machine.kind(root)}", "us a call", "of which filesystem", "its calls")
    for name in rounds[0]:
        whole, filesystem, calls = min(each[name] for each in rounds)
        shown = [f"{n / CALLS:.1f} {verb}" for verb, n in calls.items() if n > CALLS / 10]
        table.add_row(name, f"{whole:.0f}", f"{filesystem:.0f}", ", ".join(shown))
    console = Console()
    console.print(table)
    console.print(machine.sentence(about))


if __name__ == "__main__":
    main()
