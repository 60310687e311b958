"""The output of `fsqueue top` in bytes: the first screen, and each later one of a busy spool.

Compares what it writes with rich.live, which writes the whole screen each time. Bytes are exact,
whatever else the machine does.
"""

import argparse
import io
import json
import random
import statistics
import subprocess
import sys
import time

from msgspec.structs import replace
from rich.console import Console, Group
from rich.live import Live

from fsqueue.cli.overview import top_parts
from fsqueue.cli.screen.cells import Painter
from fsqueue.cli.screen.view import Look, View
from fsqueue.spool.admin.glance import Glance
from fsqueue.spool.admin.snapshot import Counts, QueueInfo, RunningCall, Snapshot, WorkerInfo
from fsqueue.spool.history.statistics import Durations, Stats, TaskStats, WorkerStats

SIZES = ((80, 24), (100, 30), (200, 60))
LOOKS = 20
EVERY = 2.0
TASKS = ("fit", "regrid", "fetch", "merge", "report")


def spool(workers, dice):
    """Looks at a busy spool, every two seconds: calls of 3 s, and of a minute."""
    durations = Durations(0.31, 1.2, 2.3)
    calls = [[100 * each + slot for slot in range(4)] for each in range(workers)]
    began = [[-dice.uniform(0, 3) for _ in range(4)] for _ in range(workers)]
    for look in range(LOOKS + 1):
        now = look * EVERY
        rows = []
        for worker in range(workers):
            for slot in range(4):
                if now - began[worker][slot] > (60 if slot == 0 else 3):
                    calls[worker][slot] += 400
                    began[worker][slot] = now - dice.uniform(0, EVERY)
            running = tuple(
                RunningCall(id=f"jq3v8k2m5c-{call}", attempt=1, seconds=now - start)
                for call, start in sorted(
                    zip(calls[worker], began[worker], strict=True), key=lambda each: each[1]
                )
            )
            rows.append(
                WorkerInfo(
                    name=f"node{worker:03}-{2113 * worker}-abcdef",
                    state="alive",
                    host="node",
                    pid=7,
                    runner="process",
                    queues=("shop.default",),
                    slots=4,
                    age=4000.0 + now,
                    beat=dice.uniform(0, 2),
                    draining=False,
                    running=running,
                    held=4,
                    as_of=now,
                )
            )
        names = ("shop.default", "shop.fast", "shop.night")
        queues = tuple(
            QueueInfo(
                name=name,
                need="",
                due=80_000 // (each + 1) - look * 83,
                delayed=12,
                oldest=1900.0 + now,
                next_due=30.0,
                paused=each == len(names) - 1,
                workers=workers,
            )
            for each, name in enumerate(names)
        )
        counts = Counts(parked=0, waiting=70 + look, kept=0, failed=3, quarantined=0, clients=2)
        tasks = tuple(
            TaskStats(
                task=f"shop.tasks.{name}",
                calls=900 * (each + 1) + look * 17,
                failed=each,
                failure_rate=0.0,
                retried=0,
                lost=0,
                failed_label="",
                wait=durations,
                run=durations,
            )
            for each, name in enumerate(TASKS)
        )
        recent = Stats(
            seconds=300.0 + now % 60,
            calls=sum(task.calls for task in tasks),
            failed=10,
            retried=0,
            lost=0,
            rate=41.0 + look / 10,
            missing=0,
            tasks=tasks,
            workers=tuple(
                WorkerStats(worker=row.name, slots=4, calls=70, failed=0, busy=0.97, alive=True)
                for row in rows
            ),
        )
        snapshot = Snapshot(
            root="/shared/queue",
            spool="",
            time=now,
            queues=queues,
            workers=tuple(rows),
            counts=counts,
        )
        yield Glance(snapshot=snapshot, recent=recent)


def by_differences(looks, width, height):
    """Bytes of each screen of `fsqueue top`, and the seconds of processor time of one."""
    view, painter = View(EVERY), Painter(colour=True)
    began = time.process_time()
    sizes = [
        len(painter.paint(view.lines(Look(each, 0.5), width, height), width, height).encode())
        for each in looks
    ]
    return sizes, (time.process_time() - began) / len(sizes)


def by_rich(looks, width, height):
    """The same for rich.live on the other screen."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, height=height, force_terminal=True, highlight=False, markup=False
    )
    sizes = []
    began = time.process_time()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        for each in looks:
            before = out.tell()
            live.update(Group(*top_parts(each, 0.5)), refresh=True)
            sizes.append(out.tell() - before)
    return sizes, (time.process_time() - began) / len(sizes)


def seconds_of_import(module):
    """Processor time that an import adds, the least of some."""
    code = "import time; a = time.process_time(); import {}; print(time.process_time() - a)"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=False
        )
        for _ in range(5)
    ]
    found = [float(each.stdout) for each in runs if not each.returncode]
    return min(found) if found else None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=41)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    looks = list(spool(chosen.workers, random.Random(1)))
    quiet = [replace(looks[0]) for _ in range(3)]
    rows = []
    for width, height in SIZES:
        for name, how in (("top", by_differences), ("rich.live", by_rich)):
            (first, *later), cpu = how(looks, width, height)
            still = how(quiet, width, height)[0][-1]
            rows.append(
                {
                    "screen": f"{width}x{height}",
                    "by": name,
                    "first": first,
                    "later": round(statistics.median(later)),
                    "nothing changed": still,
                    "cpu ms": round(1000 * cpu, 1),
                }
            )
    modules = ("fsqueue.cli.inspect.top, fsqueue.cli.screen.application", "rich.live, rich.table")
    imports = {module: seconds_of_import(module) for module in (*modules, "textual.app")}
    if chosen.json:
        print(json.dumps({"bytes": rows, "imports": imports}, indent=2))
        return
    print(f"bytes of a screen with {chosen.workers} workers")
    for row in rows:
        print("  ".join(f"{key} {value:<9}" for key, value in row.items()))
    for module, cost in imports.items():
        print(f"import {module}:", "not installed" if cost is None else f"{1000 * cost:.0f} ms")


if __name__ == "__main__":
    main()
