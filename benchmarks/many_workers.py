"""Measures 1 to 64 worker processes on one spool: calls per second, and claims lost to each other.

All calls are published, and all workers started, before the first call can be claimed. The numbers
of claims won and lost come from the workers' logs. With ``--apart`` each worker has its own spool,
which shows what as many processes can do on this machine if they share nothing.
"""

import argparse
import contextlib
import json
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import drafts
import machine
import psutil
from rich.console import Console
from rich.table import Table
from workers import workers

from fsqueue.codec import encode
from fsqueue.spool.caller.client import Client
from fsqueue.spool.format.names import queue_folder
from fsqueue.spool.store.open_spool import open_store

QUEUE = queue_folder("bench", "default")
COUNTS = (1, 2, 8, 64)
PUBLISHERS = 2
PAUSE = 0.02
_TALLY = re.compile(r"calls claimed: (\d+), lost to others: (\d+)")


def publish(root, count):
    """Publish no-op calls, as an application would."""
    store = open_store(root)
    client = Client(store, events=False, poll_interval=1.0, on_silence=lambda: True)
    for number in range(count):
        arguments = encode(((number,), {}), "the arguments")
        client.publish(drafts.draft(client, "bench_tasks.later", QUEUE, arguments))
    client.close()


def drain(base, count, calls, options, spools=1):
    """Measure `count` workers that run `calls` calls, spread over `spools` spools."""
    with machine.fresh_folder(base) as folder:
        roots = [folder / f"spool-{number}" for number in range(spools)]
        share = calls // spools // PUBLISHERS
        expected = share * PUBLISHERS * spools
        with ProcessPoolExecutor(PUBLISHERS, mp_context=get_context("spawn")) as pool:
            names = [str(root) for root in roots for _ in range(PUBLISHERS)]
            list(pool.map(publish, names, [share] * len(names)))
        for root in roots:
            (root / "pending" / QUEUE).rename(root / "parked")
        with contextlib.ExitStack() as stack:
            groups = [workers(count // spools, root, *options) for root in roots]
            started = [worker for group in groups for worker in stack.enter_context(group)]
            watched = [psutil.Process(worker.pid) for worker in started]
            before = cpu(watched)
            began = time.perf_counter()
            for root in roots:
                release(root)
            while not all(map(drained, roots)):
                time.sleep(PAUSE)
            took = time.perf_counter() - began
            used = cpu(watched) - before
        done = sum(len(files) for root in roots for _, _, files in os.walk(root / "done"))
    if done != expected:
        raise SystemExit(f"{done} results instead of {expected}")
    tallies = [_TALLY.search(worker.log) for worker in started]
    claimed, lost = (sum(int(tally[group]) for tally in tallies) for group in (1, 2))
    return {
        "seconds": took,
        "rate": done / took,
        "claimed": claimed,
        "lost": lost,
        "wasted": lost / (claimed + lost),
        "cpu": used / done,
    }


def release(root):
    """Make the calls available to the workers."""
    for slot in sorted((root / "parked").iterdir()):
        slot.rename(root / "pending" / QUEUE / slot.name)
    bell = root / "bell" / QUEUE
    if bell.exists():
        os.utime(bell)


def cpu(processes):
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def drained(root):
    """Whether nothing is pending or running."""
    return not any(
        has_files(folder)
        for top in (root / "pending" / QUEUE, root / "running")
        for folder in top.iterdir()
    )


def has_files(folder):
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except FileNotFoundError:  # an empty slot that was removed in the meantime
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=COUNTS)
    parser.add_argument(
        "--concurrency", type=int, help="slots of each (default: fsqueue's default)"
    )
    parser.add_argument("--apart", action="store_true", help="give each worker its own spool")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    chosen, console = parser.parse_args(), Console()
    options = ["--concurrency", str(chosen.concurrency)] if chosen.concurrency else []
    found = {"machine": machine.describe(), "calls": chosen.calls, "workers": {}}
    table = Table("workers", "calls/s", "claims lost to others", "CPU a call, us")
    for count in chosen.workers:
        row = drain(chosen.root, count, chosen.calls, options, count if chosen.apart else 1)
        found["workers"][count] = row
        wasted = f"{row['lost']:,} ({100 * row['wasted']:.1f} %)"
        table.add_row(str(count), f"{row['rate']:,.0f}", wasted, f"{1e6 * row['cpu']:.0f}")
        console.print(f"{count} workers", style="dim")
    console.print(machine.sentence(found["machine"]))
    console.print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
