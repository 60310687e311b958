"""Measures the cost of a step with 100 to 1,000,000 pending calls, and with many results.

The calls are real. Two processes publish them with `Client.publish`, as an application does, but
without pickling arguments. Each size is measured in a separate process.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
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

from fsqueue.spool.caller.client import Client
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.format.names import queue_folder
from fsqueue.spool.format.states import State
from fsqueue.spool.store.lookup import state_of
from fsqueue.spool.store.open_spool import open_store
from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.spool.worker.registration import Worker

HERE = Path(__file__).parent
QUEUE = queue_folder("bench", "default")
SIZES = (10**2, 10**3, 10**4, 10**5, 10**6)
RESULTS = (10**4, 10**5)
PUBLISHERS = 2
STEPS = 2_000
LOOKS = 50


class ListingFilesystem(Filesystem):
    """A filesystem that records its longest listing."""

    def __init__(self):
        super().__init__()
        self.longest = 0

    def _call(self, verb, function, /, *args, **kwargs):
        found = super()._call(verb, function, *args, **kwargs)
        if verb == "listdir":
            self.longest = max(self.longest, len(found))
        return found


def client_of(store):
    return Client(store, events=False, poll_interval=1.0, on_silence=lambda: True)


def publish(client):
    return client.publish(drafts.draft(client, "bench_tasks.later", QUEUE, b"arguments"))


def fill(root, count):
    """Publish calls; returns the ids and paths of some."""
    client = client_of(open_store(root))
    wanted = set(random.sample(range(count), min(count, LOOKS)))
    some = []
    for number in range(count):
        receipt = publish(client)
        if number in wanted:
            some.append((receipt.invocation_id, receipt.path))
    client.close()
    return some


def timed(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def percentiles(times):
    """Milliseconds: median, mean, and the slowest of a hundred."""
    ordered = sorted(times)
    return {
        "p50": 1e3 * statistics.median(ordered),
        "mean": 1e3 * statistics.fmean(ordered),
        "p99": 1e3 * ordered[int(0.99 * len(ordered))],
    }


def measure(root, receipts, steps):
    """Measure one size; leaves the backlog as it was."""
    fs = ListingFilesystem()
    store = open_store(root, fs)
    worker = Worker(store, queues=(QUEUE,), runner="thread", concurrency=1)
    worker.register()
    backlog = FolderBacklog(store, QUEUE)
    found = {"claim": percentiles(claims(store, worker, backlog, steps))}
    found["longest listing"] = fs.longest
    worker.deregister()
    client = client_of(store)
    publish(client)
    found["submit"] = percentiles([timed(publish, client) for _ in range(steps)])
    client.close()
    for name, hinted in (("status", True), ("status by id alone", False)):
        found[name] = percentiles([timed(ask, store, *one, hinted) for one in receipts])
    found["memory"] = psutil.Process().memory_info().rss / 1e6
    return found


def claims(store, worker, backlog, steps):
    """Seconds of single claims; the claimed calls are given back."""
    times, held = [], []
    for _ in range(steps):
        began = time.perf_counter()
        claim = worker.claim(backlog.next())
        times.append(time.perf_counter() - began)
        held.append(claim)
    for claim in held:
        worker.release(claim)
        store.claims.give_back(claim)
        worker.forget(claim)
    return times


def ask(store, invocation_id, path, hinted):
    state = state_of(store, invocation_id, hint=path if hinted else None)
    if state is not State.PENDING:
        raise SystemExit(f"{invocation_id} is {state}, not pending")


def collect(root, count):
    """Seconds to collect results that are all there already, and the collector's memory in MB."""
    os.environ["FSQUEUE__ROOT"] = root
    sys.path.insert(0, str(HERE))
    import bench_tasks

    with workers(2, root):
        group = bench_tasks.later.parallelize([(number,) for number in range(count)])
        mailbox = Path(root, "done", group[0].id.partition("-")[0])
        while len(os.listdir(mailbox)) < count:
            time.sleep(0.2)
    began = time.perf_counter()
    results = group.results
    took = time.perf_counter() - began
    if results != list(range(count)):
        raise SystemExit("the results are wrong")
    bench_tasks.app.close()
    return took, psutil.Process().memory_info().rss / 1e6


def apart(function, *arguments):
    """Call a function in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure_base(base, largest, seconds, console):
    """Measure all sizes on one filesystem, except those that would take too long to fill."""
    found, pending, rate = {"filesystem": machine.kind(base), "sizes": {}, "collect": {}}, 0, 0.0
    with machine.fresh_folder(base) as folder:
        root = str(folder / "spool")
        for size in (size for size in SIZES if size <= largest):
            if rate and (size - pending) / rate > seconds:
                console.print(f"{base}: {size:,} left out, at {rate:,.0f} calls/s to fill")
                break
            began = time.monotonic()
            receipts = filled(root, size - pending)
            rate = (size - pending) / (time.monotonic() - began)
            figures = apart(measure, root, receipts, min(STEPS, size))
            pending = size
            found["sizes"][size] = figures
            console.print(f"{base}: {size:,} pending", style="dim")
    for count in (count for count in RESULTS if count <= largest):
        with machine.fresh_folder(base) as folder:
            took, memory = apart(collect, str(folder / "spool"), count)
            found["collect"][count] = {"seconds": took, "memory": memory}
            console.print(f"{base}: {count:,} results collected", style="dim")
    return found


def filled(root, count):
    share = count // PUBLISHERS
    with ProcessPoolExecutor(PUBLISHERS, mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(fill, root, share) for _ in range(PUBLISHERS)]
        receipts = [receipt for part in parts for receipt in part.result()]
    return random.sample(receipts, min(LOOKS, len(receipts)))


# -- what is shown ----------------------------------------------------------------------------

STEP_NAMES = ("claim", "submit", "status", "status by id alone")


def tables(found):
    for base, figures in found["bases"].items():
        title = f"{base} ({figures['filesystem']})"
        headings = [f"{name} p50 (mean, p99), ms" for name in STEP_NAMES]
        table = Table("pending", *headings, "longest listing", "memory, MB", title=title)
        for size, row in figures["sizes"].items():
            cells = [
                f"{row[name]['p50']:.3f} ({row[name]['mean']:.3f}, {row[name]['p99']:.3f})"
                for name in STEP_NAMES
            ]
            listing, memory = f"{row['longest listing']:,}", f"{row['memory']:.0f}"
            table.add_row(f"{int(size):,}", *cells, listing, memory)
        yield table
        table = Table("waiting results", "seconds to collect", "us each", "memory, MB", title=title)
        for count, row in figures["collect"].items():
            each = f"{1e6 * row['seconds'] / int(count):.0f}"
            table.add_row(f"{int(count):,}", f"{row['seconds']:.2f}", each, f"{row['memory']:.0f}")
        yield table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, nargs="+", help="measure on these directories")
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--seconds", type=float, default=240, help="longest time to fill one size")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options, console = parser.parse_args(), Console()
    bases = options.root or [machine.MEMORY, Path(tempfile.gettempdir())]
    found = {"machine": machine.describe(), "bases": {}}
    for base in bases:
        figures = measure_base(base, options.largest, options.seconds, console)
        found["bases"][str(base)] = figures
    console.print(machine.sentence(found["machine"]))
    for table in tables(found):
        console.print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
