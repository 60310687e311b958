"""Measures how the memory of a worker grows with its calls, and how long stopping it takes."""

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import machine
import psutil
from rich.console import Console
from rich.table import Table
from workers import workers

HERE = Path(__file__).parent
FIRST = 1_000
MOST_GROWTH, LONGEST_STOP = 1.0, 0.3


def memory(process):
    """Resident MB of the worker's own process."""
    return process.memory_info().rss / (1 << 20)


def measure(root, kind, slots, calls, callers):
    """Memory growth after the first calls in MB, seconds until the worker ended, and its log."""
    os.environ["FSQUEUE__ROOT"] = str(root)
    sys.path.insert(0, str(HERE))
    import bench_tasks

    options = ("--runner", kind, "--concurrency", str(slots))
    with workers(1, root, *options) as (worker,), ThreadPoolExecutor(callers) as pool:
        watched = psutil.Process(worker.pid)
        assert list(pool.map(bench_tasks.echo, range(FIRST))) == list(range(FIRST))
        before = memory(watched)
        assert list(pool.map(bench_tasks.echo, range(calls))) == list(range(calls))
        growth = memory(watched) - before
        began = time.perf_counter()
        worker.terminate()
        worker.wait(60)
        stop = time.perf_counter() - began
    bench_tasks.app.close()
    return growth, stop, worker.log


def verdict(*, met):
    return "[green]yes" if met else "[red]no"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    parser.add_argument("--kind", choices=("process", "thread"), default="process")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument(
        "--calls", type=int, default=10_000, help=f"calls after the first {FIRST:,}"
    )
    parser.add_argument("--callers", type=int, default=4, help="number of calling threads")
    options = parser.parse_args()
    about = machine.describe()
    with tempfile.TemporaryDirectory(dir=options.root) as folder:
        root = Path(folder, "spool")
        growth, stop, log = measure(
            root, options.kind, options.slots, options.calls, options.callers
        )
    lines = log.count("given back")
    table = Table(f"{options.kind} slots, on {machine.kind(options.root)}", "", "target", "met")
    grown = f"memory after {options.calls:,} calls more than {FIRST:,}"
    most, longest = f"+{MOST_GROWTH:g} MB", f"{LONGEST_STOP:g} s"
    table.add_row(grown, f"{growth:+.2f} MB", most, verdict(met=growth <= MOST_GROWTH))
    table.add_row("stop after that", f"{stop:.3f} s", longest, verdict(met=stop < LONGEST_STOP))
    table.add_row("calls that it logs as given back", str(lines), "0", verdict(met=not lines))
    console = Console()
    console.print(table)
    console.print(machine.sentence(about))


if __name__ == "__main__":
    main()
