"""Measures round trip, fan-out, start and idle cost, on a disk and on tmpfs, in one run.

The caller is this process; the workers are separate processes.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from workers import workers

HERE = Path(__file__).parent
ROUND_TRIPS = 500
FAN_OUT = 2_000
CREATIONS = 8_000
REPEATS = 5
SETTLE_SECONDS, IDLE_SECONDS = 5, 10


def round_trips(call):
    """Times of successive calls in milliseconds, sorted."""
    times = []
    for number in range(ROUND_TRIPS + 20):
        start = time.perf_counter()
        call(number)
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times[20:])


def fan_out(task):
    """Calls per second of one unbatched fan-out, from submission to the last result."""
    start = time.perf_counter()
    results = task.parallelize([(n,) for n in range(FAN_OUT)]).results
    took = time.perf_counter() - start
    if results != list(range(FAN_OUT)):
        raise SystemExit("the results are wrong")
    return FAN_OUT / took


def idle(process):
    """CPU use in percent of a core, and resident memory in MB, of a worker without work."""
    watched = psutil.Process(process.pid)
    time.sleep(SETTLE_SECONDS)
    before = sum(watched.cpu_times()[:2])
    time.sleep(IDLE_SECONDS)
    used = sum(watched.cpu_times()[:2]) - before
    return 100 * used / IDLE_SECONDS, watched.memory_info().rss / 1e6


def import_time():
    """Milliseconds to start Python, with and without `import fsqueue`; the best of 5 each."""

    def best(code):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE)
            times.append((time.perf_counter() - start) * 1e3)
        return min(times)

    return best("import fsqueue"), best("pass")


def echo(value):
    """The function that the pool without a queue runs."""
    return value


def creation(folder):
    """Microseconds to create an empty file without fsqueue, after as many files were removed.

    ext4 without a journal scans past the inodes that were freed in the last minutes.
    """
    names = [os.path.join(folder, f"bare-{number}") for number in range(CREATIONS)]
    for _ in range(2):
        start = time.perf_counter()
        for name in names:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
        took = time.perf_counter() - start
        for name in names:
            os.unlink(name)
    return took / CREATIONS * 1e6


def measure(folder):
    """Measure one filesystem; applications of this process use it from then on."""
    os.environ["FSQUEUE__ROOT"] = str(folder)
    sys.path.insert(0, str(HERE))
    import bench_tasks

    with workers(1, folder) as (worker,):
        times = round_trips(bench_tasks.echo)
        cpu, memory = idle(worker)
    with workers(2, folder):
        rates = sorted(fan_out(bench_tasks.later) for _ in range(REPEATS))
    bench_tasks.app.close()
    return times, rates, cpu, memory, creation(folder)


def measure_apart(folder):
    """Measure one filesystem in a new process, because an application keeps its directory."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(measure, folder).result()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="measure only on this directory")
    chosen = parser.parse_args().root
    bases = [chosen] if chosen else [Path(tempfile.gettempdir()), Path("/dev/shm")]

    with ProcessPoolExecutor(1) as pool:
        bare = statistics.median(round_trips(lambda n: pool.submit(echo, n).result()))
    with_import, without = import_time()

    from fsqueue.spool.disk.mounts import filesystem_type

    table = Table(
        "", *(f"{base} ({filesystem_type(str(base))})" for base in bases if base.is_dir())
    )
    columns = []
    for base in bases:
        if base.is_dir():
            with tempfile.TemporaryDirectory(dir=base, prefix="fsqueue-bench-") as folder:
                columns.append(measure_apart(Path(folder) / "spool"))
    rows = {
        "round trip p50": lambda c: f"{statistics.median(c[0]):.2f} ms",
        "round trip p99": lambda c: f"{c[0][int(len(c[0]) * 0.99)]:.2f} ms",
        "p50 / ProcessPoolExecutor's": lambda c: f"{statistics.median(c[0]) / bare:.1f}",
        f"fan-out of {FAN_OUT}, 2 workers: median": lambda c: f"{c[1][REPEATS // 2]:,.0f} calls/s",
        f"fan-out of {FAN_OUT}, 2 workers: best": lambda c: f"{c[1][-1]:,.0f} calls/s",
        "idle worker": lambda c: f"{c[2]:.2f} % of a core",
        "idle worker's memory": lambda c: f"{c[3]:.0f} MB",
        "creating a file, without fsqueue": lambda c: f"{c[4]:.0f} us",
    }
    for name, cell in rows.items():
        table.add_row(name, *(cell(column) for column in columns))
    console = Console()
    console.print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.platform()}"
    )
    console.print(table)
    console.print(
        f"ProcessPoolExecutor round trip p50: {bare:.2f} ms. `import fsqueue`: "
        f"{with_import - without:.0f} ms (interpreter with it {with_import:.0f} ms)"
    )


if __name__ == "__main__":
    main()
