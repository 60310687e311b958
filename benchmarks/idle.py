"""Measures a worker's start, its cost without work, and how fast it wakes up then.

With ``--crowd 1 10 100`` it measures so many idle workers on one spool: their processor time, as
the kernel counts it, and what one call after another costs beside them. ``--trace`` counts system
calls of one of them, with strace.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
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
CALLS = 200
# Until all workers know each other and have backed off.
SETTLE = 10.0
PAUSE = 0.02
_LOST = re.compile(r"lost to others: (\d+)")


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


def threads_of(processes):
    return [thread for each in processes for thread in Path(f"/proc/{each.pid}/task").iterdir()]


def seconds_run(processes):
    """Seconds of processor time of some processes."""
    return (
        sum(int((each / "schedstat").read_text().split()[0]) for each in threads_of(processes))
        / 1e9
    )


def wake_ups(processes):
    """How often threads of some processes have gone to sleep, and so were woken."""
    found = (
        re.search(r"\nvolun.*\t(\d+)", (each / "status").read_text())
        for each in threads_of(processes)
    )
    return sum(int(each[1]) for each in found)


def system_calls(process, seconds):
    """The system calls of a process and its threads in so many seconds, as text of strace."""
    command = ["timeout", "-s", "INT", str(seconds), "strace", "-c", "-f", "-p", str(process.pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def crowd(root, count, seconds, options, *, trace):
    """What idle workers cost, and a call beside them."""
    os.environ["FSQUEUE__ROOT"] = str(root)
    sys.path.insert(0, str(HERE))
    sys.modules.pop("bench_tasks", None)
    import bench_tasks

    with workers(count, root, *options) as found:
        bench_tasks.echo(0)
        time.sleep(SETTLE)
        before = seconds_run(found)
        time.sleep(seconds)
        used = seconds_run(found) - before
        calls = system_calls(found[-1], seconds) if trace else ""
        trips, before, woken = [], seconds_run(found), wake_ups(found)
        for _ in range(CALLS):
            time.sleep(PAUSE)
            began = time.perf_counter()
            bench_tasks.echo(0)
            trips.append(time.perf_counter() - began)
        woken = wake_ups(found) - woken
        busy = seconds_run(found) - before - used / seconds * (CALLS * PAUSE + sum(trips))
    bench_tasks.app.close()
    lost = sum(int(_LOST.search(each.log)[1]) for each in found)
    row = {
        "workers": f"{count}",
        "idle, of a core": f"{100 * used / seconds:.2f} %",
        f"round trip, median of {CALLS}": f"{1e3 * statistics.median(trips):.2f} ms",
        "CPU a call": f"{1e3 * busy / CALLS:.2f} ms",
        "threads woken a call": f"{woken / CALLS:.1f}",
        "claims lost a call": f"{lost / CALLS:.2f}",
    }
    return row, calls


def show_crowds(options, console):
    table, calls = None, []
    for count in options.crowd:
        with machine.fresh_folder(options.root) as folder:
            row, traced = crowd(
                folder / "spool",
                count,
                options.seconds,
                ["--concurrency", str(options.concurrency)],
                trace=options.trace and bool(shutil.which("strace")),
            )
        table = table or Table(*row)
        table.add_row(*row.values())
        calls.append(traced)
    console.print(table)
    console.print(*filter(None, calls))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    parser.add_argument("--seconds", type=float, default=60, help="seconds without a call")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--crowd", type=int, nargs="+", help="measure so many idle workers at once")
    parser.add_argument("--concurrency", type=int, default=1, help="slots of each in the crowd")
    parser.add_argument(
        "--trace", action="store_true", help="count system calls of the crowd's last"
    )
    options = parser.parse_args()
    about = machine.describe()
    if options.crowd:
        console = Console(width=120)
        show_crowds(options, console)
        console.print(machine.sentence(about))
        return
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
