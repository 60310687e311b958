"""Counts the package's own Python frames that one no-op direct call enters, on both sides.

On the caller's side, it counts warm blocking calls in the calling thread. On the worker's side, it
counts the calls of a backlog in the thread of the only slot, from one claim to the next. Frames in
other threads and other packages do not count.

It also counts what it costs to publish each call of a fan-out, without a label and with one.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import machine
from rich.console import Console
from rich.table import Table
from workers import workers

import fsqueue

PACKAGE = os.path.dirname(fsqueue.__file__) + os.sep
WARM_UP, CALLS = 50, 500
MOST = {"caller": 112, "worker": 122}
HERE = Path(__file__).parent


class FrameCounter:
    """A profile hook that counts the functions of the package that a thread enters.

    Args:
        threads: prefix of the names of the threads to count in.
    """

    def __init__(self, threads):
        self._threads = threads
        self.frames = Counter()

    def __call__(self, frame, event, _):
        """Called by the interpreter."""
        code = frame.f_code
        if (
            event == "call"
            and code.co_filename.startswith(PACKAGE)
            and threading.current_thread().name.startswith(self._threads)
        ):
            self.frames[f"{code.co_filename[len(PACKAGE) :]}:{code.co_qualname}"] += 1


def in_caller(root):
    """Frames of warm blocking calls, while a worker in another process serves them."""
    import bench_tasks

    counter = FrameCounter("caller")

    def call():
        for _ in range(WARM_UP):
            bench_tasks.echo(None)
        sys.setprofile(counter)
        for _ in range(CALLS):
            bench_tasks.echo(None)
        sys.setprofile(None)

    with workers(1, root, "--concurrency", "1"):
        thread = threading.Thread(target=call, name="caller")
        thread.start()
        thread.join()
    bench_tasks.app.close()
    return counter.frames


def in_worker():
    """Frames of a backlog's calls in the thread of a worker's only slot."""
    import bench_tasks

    app, counter = bench_tasks.app, FrameCounter("fsqueue-slot")
    tick = app.task(bench_tasks.tick)
    for _ in range(CALLS):
        tick()
    runner = app.make_runner(kind="thread", concurrency=1)
    threading.setprofile(counter)
    thread = threading.Thread(target=runner.run)
    thread.start()
    for _ in range(CALLS):
        bench_tasks.ticks.acquire()
    runner.stop_runner_loop()
    thread.join()
    threading.setprofile(None)
    app.close()
    return counter.frames


def in_fan_out(label):
    """Frames and microseconds of CPU for the publication of each call of a fan-out.

    Args:
        label: the task's label.
    """
    import bench_tasks

    task = bench_tasks.later.options(label=label)
    items = [(number,) for number in range(CALLS)]
    counter, taken = FrameCounter("fan-out"), []

    def publish():
        task.parallelize(items).cancel()
        began = time.thread_time()
        group = task.parallelize(items)
        taken.append(1e6 * (time.thread_time() - began) / CALLS)
        group.cancel()
        sys.setprofile(counter)
        group = task.parallelize(items)
        sys.setprofile(None)
        group.cancel()

    thread = threading.Thread(target=publish, name="fan-out")  # see `in_caller`
    thread.start()
    thread.join()
    bench_tasks.app.close()
    return counter.frames, taken[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    parser.add_argument("--top", type=int, default=0, help="list this many functions a side")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    console, figures = Console(), {}
    table = Table("frames of the package per call", "functions", "files", "most", title="No-op")
    with tempfile.TemporaryDirectory(dir=options.root) as folder:
        os.environ["FSQUEUE__ROOT"] = f"{folder}/spool"
        counts = {"caller": in_caller(Path(folder, "spool")), "worker": in_worker()}
        fan_outs = {label: in_fan_out(label) for label in ("", "value={value}")}
    for side, frames in counts.items():
        figures[side] = round(frames.total() / CALLS, 1)
        often = {name for name, count in frames.items() if count >= CALLS / 2}
        files = {name.partition(":")[0] for name in often}
        table.add_row(
            f"{side}: {figures[side]:g}", str(len(often)), str(len(files)), str(MOST[side])
        )
        for name, count in frames.most_common(options.top):
            console.print(f"{count / CALLS:8.2f}  {name}")
    console.print(table)
    for label, (frames, microseconds) in fan_outs.items():
        side = "fan-out with a label" if label else "fan-out"
        figures[side] = round(frames.total() / CALLS, 1)
        console.print(f"{side}: {figures[side]:g} frames and {microseconds:.0f} us of CPU a call")
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
