"""Measures a worker's start, its cost without work, and how fast it wakes up then."""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import machine
import psutil
from rich.console import Console
from rich.table import Table
from workers import workers

HERE = Path(__file__).parent


def start_time(root):
    """Seconds from the start of a worker's process until it serves."""
    began = time.perf_counter()
    with workers(1, root):
        return time.perf_counter() - began


def measure(root, seconds, rounds):
    os.environ["FSQUEUE__ROOT"] = str(root)
    sys.path.insert(0, str(HERE))
    import bench_tasks

    starts = [start_time(root) for _ in range(5)]
    naps, used = [], 0.0
    with workers(1, root) as (worker,):
        watched = psutil.Process(worker.pid)
        bench_tasks.echo(0)
        for _ in range(rounds):
            before = sum(watched.cpu_times()[:2])
            time.sleep(seconds)
            used += sum(watched.cpu_times()[:2]) - before
            began = time.perf_counter()
            bench_tasks.echo(0)
            naps.append(time.perf_counter() - began)
        memory = watched.memory_info().rss
    bench_tasks.app.close()
    whole = rounds * seconds
    return {
        "worker ready after, median of 5": f"{1e3 * statistics.median(starts):.0f} ms",
        f"idle worker, {whole:g} s": f"{100 * used / whole:.2f} % of a core",
        "its resident memory": f"{memory / 1e6:.0f} MB",
        f"call after {seconds:g} s without any, worst of {rounds}": f"{1e3 * max(naps):.1f} ms",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    parser.add_argument("--seconds", type=float, default=60, help="seconds without a call")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    about = machine.describe()
    with tempfile.TemporaryDirectory(dir=options.root) as folder:
        found = measure(Path(folder, "spool"), options.seconds, options.rounds)
    table = Table(f"on {machine.kind(options.root)}", "")
    for row in found.items():
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(machine.sentence(about))


if __name__ == "__main__":
    main()
