"""Counts the system calls of one no-op round trip, in the caller and in the worker, by strace.

A call of each kind is counted by its name, whatever thread makes it. *Names a file* are those that
take a path of the spool: they open, rename, link, remove or ask about a file. *Listings* open a
folder of the spool to list it. The times of a traced process mean nothing.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import machine
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
WARM_UP, CALLS = 100, 300
BEGIN, END = "/fsqueue-begins", "/fsqueue-ends"
_LINE = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)")


def call_on(root):
    """The caller's process: warm blocking calls, between two marks in both traces."""
    os.environ["FSQUEUE__ROOT"] = root
    sys.path.insert(0, str(HERE))
    import bench_tasks

    for _ in range(WARM_UP):
        bench_tasks.echo(None)
    bench_tasks.exists(BEGIN)
    os.path.exists(BEGIN)
    for _ in range(CALLS):
        bench_tasks.echo(None)
    os.path.exists(END)
    bench_tasks.exists(END)
    bench_tasks.app.close()


def traced(trace, *command):
    """A command under strace, which writes one line for each system call of all its processes."""
    return [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-s",
        "300",
        "-e",
        "signal=none",
        "-o",
        str(trace),
        *command,
    ]


def count(trace, root):
    """System calls between the marks: by name, those that name a file, and listings."""
    counts, named, listings = Counter(), Counter(), 0
    inside = False
    for line in trace.read_text(errors="replace").splitlines():
        if BEGIN in line or END in line:
            inside = BEGIN in line
        match = _LINE.match(line)
        if not inside or match is None or " resumed>" in line:
            continue
        counts[match[1]] += 1
        if f'"{root}/' in line or f'"{root}"' in line:
            named[match[1]] += 1
            listings += "O_DIRECTORY" in line
    return counts, named, listings


def measure(folder, runner):
    """Both sides' counts of a spool in a folder, for slots of a kind."""
    root, worker_trace, caller_trace = f"{folder}/spool", folder / "worker", folder / "caller"
    settings = {**os.environ, "FSQUEUE__ROOT": root}
    worker = [sys.executable, "-m", "fsqueue", "worker", "bench_tasks:app"]
    worker += ["--concurrency", "1", "--runner", runner]
    process = subprocess.Popen(
        traced(worker_trace, *worker), cwd=HERE, env=settings, stderr=subprocess.PIPE, text=True
    )
    try:
        while "serves" not in (line := process.stderr.readline()):
            if not line:
                raise SystemExit("the worker did not start")
        caller = [sys.executable, str(Path(__file__).resolve()), "--call-on", root]
        subprocess.run(traced(caller_trace, *caller), env=settings, check=True, timeout=300)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    return {"caller": count(caller_trace, root), "worker": count(worker_trace, root)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    parser.add_argument("--call-on", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call_on:
        call_on(options.call_on)
        return
    if shutil.which("strace") is None:
        raise SystemExit("install strace")
    console = Console()
    for runner in ("thread", "process"):
        title = f"system calls per round trip, {runner} slot"
        columns = ("side", "name a file", "listings", "futex", "all", "the most frequent")
        table = Table(*columns, title=title)
        both = 0.0
        with tempfile.TemporaryDirectory(dir=options.root) as folder:
            for side, (counts, named, listings) in measure(Path(folder), runner).items():
                both += named.total() / CALLS
                most = ", ".join(f"{n / CALLS:.1f} {name}" for name, n in counts.most_common(12))
                per = [named.total(), listings, counts["futex"], counts.total()]
                table.add_row(side, *(f"{each / CALLS:.2f}" for each in per), most)
                console.print(side, {name: round(n / CALLS, 2) for name, n in named.items()})
        console.print(table)
        console.print(f"both sides name {both:.1f} files per round trip; the target is 26")


if __name__ == "__main__":
    main()
