"""A report over a million lines of the journal: how long it takes, and its memory.

Makes a journal of a day in a folder, as workers would have written it, and runs `fsqueue report` on
that alone.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from machine import describe, fresh_folder, memory_or_disk, sentence

from fsqueue.spool.format.layout import Layout
from fsqueue.spool.history.entries import Entry, Groups, Sums, TaskSums
from fsqueue.spool.history.gauges import Gauge, QueueGauge
from fsqueue.spool.history.journal import hour_of

HOUR, STEP = 3600, 60
TASKS = {"cmip.fit": (3.1, 0.7), "cmip.regrid": (0.42, 0.5), "cmip.fetch": (0.09, 1.2)}
ERRORS = (
    ("ValueError", "loss is nan at step 1183 (seed 91)", "7c1e04d2", "fit.py:88 in step"),
    ("ConnectionError", "host db3 refused", "03d9c6aa", "fetch.py:52 in get"),
    ("FileNotFoundError", "No such file: '/scratch/cmip/shards/17.npz'", "a90be771", "fit.py:31"),
)
RUNS = ("m4k7q2zbwe", "q8t2nn0cvd")


def entry(number, started, dice):
    """An attempt; one in fifty fails, most of them for one reason."""
    task, (median, spread) = dice.choice(list(TASKS.items()))
    failed = dice.random() < 0.02
    kind, message, fp, at = dice.choices(ERRORS, (8, 2, 1))[0]
    fields = (
        {"failure": kind, "message": message, "fp": fp, "at": at, "failed": 1} if failed else {}
    )
    return Entry(
        id=f"{RUNS[number % 3 == 0]}-{number}",
        task=task,
        queue="cmip.default",
        attempt=1,
        state="failed" if failed else "succeeded",
        started=round(started, 3),
        wait=round(dice.expovariate(0.01), 3),
        run=round(median * dice.lognormvariate(0, spread), 4),
        **fields,
    )


def write(root, lines, workers, hours, end, dice):
    """Write the journal of these many hours before `end`."""
    layout = Layout(str(root))
    each = lines // (workers * hours * HOUR // STEP)
    number, serials = 0, [0] * workers
    first = (end // HOUR - hours) * HOUR
    for minute in range(hours * HOUR // STEP):
        until = first + (minute + 1) * STEP - 1
        hour = hour_of(until)
        os.makedirs(layout.journal_hour(hour), exist_ok=True)
        for worker in range(workers):
            name = f"cn{worker:03}-{2113 * worker + 7}-abcdef"
            tasks, groups, busy, data = {}, Groups(), 0.0, []
            for _ in range(each):
                number += 1
                made = entry(number, until - dice.uniform(4, STEP), dice)
                groups.count(made, tasks.setdefault(made.task, TaskSums()).count(made))
                busy += made.run
                data.append(msgspec.json.encode(made))
            serials[worker] += 1
            sums = Sums(
                serial=serials[worker],
                began=first,
                since=until - STEP,
                until=until,
                slots=8,
                busy=min(busy, 8.0 * STEP),
                tasks=tasks,
                queues=groups.queues,
                failures=groups.failures,
                runs=groups.runs,
                left=worker % 7 != 0 and minute == hours * HOUR // STEP - 1,
            )
            with open(layout.journal_lines(hour, name), "ab") as file:
                file.write(b"\n".join(data) + b"\n")
            with open(layout.journal_sums(hour, name), "ab") as file:
                file.write(msgspec.json.encode(sums) + b"\n")
        due = max(0, 86_000 - 70 * minute)
        gauge = Gauge(
            at=until,
            queues={"cmip.default": QueueGauge(due=due, workers=workers)},
            workers=workers,
            slots=8 * workers,
            busy=8 * workers if due else workers,
        )
        with open(layout.journal_gauges(hour, "cn000-7-abcdef"), "ab") as file:
            file.write(msgspec.json.encode(gauge) + b"\n")
    return number


def measure(root, arguments, output):
    """Seconds, processor time, and the most memory in MiB of one command."""
    command = [sys.executable, "-m", "fsqueue", "report", "--root", str(root), *arguments]
    began = time.monotonic()
    process = subprocess.Popen([*command, "-o", str(output)], stdout=subprocess.PIPE, text=True)
    said = process.stdout.read().strip()
    _, status, used = os.wait4(process.pid, 0)
    took = time.monotonic() - began
    assert os.waitstatus_to_exitcode(status) == 0, said
    return {
        "command": " ".join(("fsqueue report", *arguments)),
        "seconds": round(took, 2),
        "cpu": round(used.ru_utime + used.ru_stime, 2),
        "MiB": round(used.ru_maxrss / 1024),
        "kB": output.stat().st_size // 1000,
        "said": said,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--root", type=Path, default=memory_or_disk())
    parser.add_argument("--keep", type=Path, help="leave the journal and the reports here")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    machine = describe()
    with fresh_folder(chosen.root) as fresh:
        folder = chosen.keep or fresh
        dice = random.Random(1)
        lines = write(folder, chosen.lines, chosen.workers, chosen.hours, time.time(), dice)
        rows = [
            measure(folder, ("--since", "30h"), folder / "day.html"),
            measure(folder, ("--run", RUNS[0]), folder / "run.html"),
            measure(folder, ("--since", "30h", "--redact"), folder / "redacted.html"),
        ]
    if chosen.json:
        print(json.dumps({"machine": machine, "lines": lines, "rows": rows}, indent=2))
        return
    print(f"{lines:,} lines of {chosen.workers} workers; {sentence(machine)}")
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
