"""Measures one peer: ``python drive.py MODULE SPECIFICATION`` in the peer's own environment.

The specification is a JSON object, see `Specification`. It prints one line of
JSON for each workload as soon as that is measured, so that the figures of a peer that is ended are
kept.
"""

import contextlib
import importlib
import json
import os
import signal
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from protocol import FOLDER

PILOT = 50
WARM_UP = 20
SETTLE = 3.0


@dataclass(frozen=True)
class Specification:
    """The numbers and sizes to measure with.

    Attributes:
        round_trips: number of blocking calls.
        fan_outs: numbers of calls, ascending.
        repeats: number of runs of the first fan-out; the median counts.
        batches: numbers of calls that share a file, for peers with batches.
        sizes: bytes of arguments.
        submits: number of calls to submit while no worker runs.
        idle: seconds to watch processes without work.
        patience: fan-outs that would take longer are left out, in seconds.
    """

    round_trips: int
    fan_outs: list[int]
    repeats: int
    batches: list[int | str]
    sizes: list[int]
    submits: int
    idle: float
    patience: float


def report(workload, **figures):
    print(json.dumps({"workload": workload, **figures}), flush=True)


def timed(function, *arguments):
    """The time of a call in seconds, and its value."""
    began = time.perf_counter()
    returned = function(*arguments)
    return time.perf_counter() - began, returned


def check(values, expected):
    if list(values) != list(expected):
        raise SystemExit("the results are wrong")


# -- workloads --------------------------------------------------------------------------------


def round_trips(calls, spec):
    """Measure successive blocking calls."""
    times = []
    began = time.monotonic()
    for number in range(WARM_UP):
        calls.call("echo", number)
        if time.monotonic() - began > spec.patience / 4:
            break
    for number in range(spec.round_trips):
        took, value = timed(calls.call, "echo", number)
        check([value], [number])
        times.append(took)
        if time.monotonic() - began > spec.patience:
            break
    times.sort()
    report(
        "round trip",
        seconds=statistics.median(times),
        p99=times[int(0.99 * len(times))],
        count=len(times),
    )


def fan_outs(calls, spec):
    """Measure fan-outs, from the first submission to the last result."""
    calls.fan_out(range(PILOT))
    took, values = timed(calls.fan_out, range(PILOT))
    check(values, range(PILOT))
    rate = PILOT / took
    for index, count in enumerate(spec.fan_outs):
        if count / rate > spec.patience:
            report(
                "fan-out",
                count=count,
                skipped=f"would take about {count / rate:.0f} s, at {rate:.0f} calls/s",
            )
            continue
        times = []
        for _ in range(spec.repeats if index == 0 else 1):
            took, values = timed(calls.fan_out, range(count))
            check(values, range(count))
            times.append(took)
        rate = count / statistics.median(times)
        report("fan-out", count=count, seconds=statistics.median(times), all=times)


def batches(calls, spec):
    """Measure the same fan-outs with many calls in a file."""
    for size in spec.batches:
        for count in spec.fan_outs:
            times = []
            for _ in range(spec.repeats):
                try:
                    took, values = timed(calls.batched, range(count), size)
                except NotImplementedError:
                    return
                check(values, range(count))
                times.append(took)
            report("batched", size=size, count=count, seconds=statistics.median(times), all=times)


def submits(calls, spec):
    """Measure submission alone, while the workers are stopped."""
    pids = descendants(os.getpid())
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        took, handles = timed(
            lambda: [calls.submit("echo", number) for number in range(spec.submits)]
        )
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    report("submit", count=spec.submits, seconds=took)
    check(calls.gather(handles), range(spec.submits))


def payloads(calls, spec):
    """Measure large arguments, and writing and reading the same bytes once in the same folder."""
    for size in spec.sizes:
        data = os.urandom(size)
        repeats = 3 if size > 10**7 else 15
        ours, bare = [], []
        for _ in range(repeats):
            bare.append(timed(write_and_read, data)[0])
            took, value = timed(calls.call, "length", data)
            check([value], [size])
            ours.append(took)
            if sum(ours) > spec.patience / 2:
                break
        report(
            "payload",
            size=size,
            seconds=statistics.median(ours),
            bare=statistics.median(bare),
            ratio=statistics.median(mine / its for mine, its in zip(ours, bare, strict=True)),
        )


def write_and_read(data):
    path = FOLDER / "bare"
    with path.open("wb", buffering=0) as file:
        file.write(data)
    with path.open("rb", buffering=0) as file:
        file.readall()
    path.unlink()


def idle(calls, spec):
    """Measure the CPU time of idle workers and of a blocked caller."""
    pids = descendants(os.getpid())
    time.sleep(SETTLE)
    before = cpu_of(pids)
    time.sleep(spec.idle)
    report("idle workers", percent=100 * (cpu_of(pids) - before) / spec.idle)

    napper = threading.Thread(target=calls.call, args=("nap", spec.idle + SETTLE + 1))
    try:
        napper.start()
        time.sleep(SETTLE)
        before = time.process_time()
        time.sleep(spec.idle)
        report("blocked caller", percent=100 * (time.process_time() - before) / spec.idle)
    finally:
        napper.join()


# -- processes --------------------------------------------------------------------------------


def descendants(pid):
    """All descendants of a process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int(fields(entry.name)[1])
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found}
        grown = not more <= found
        found |= more
    return found - {pid}


def fields(pid):
    """The fields of ``/proc/<pid>/stat`` after the command's name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(") ")[2].split()


def cpu_of(pids):
    """CPU time that processes have used, in seconds."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, fields(pid)[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main():
    module, text = sys.argv[1:]
    spec = Specification(**json.loads(text))
    # Find the commands of the environment, as if it were activated.
    os.environ["PATH"] = f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    with importlib.import_module(module).connect() as calls:
        check([calls.call("echo", "ready")], ["ready"])
        for workload in (round_trips, fan_outs, batches, submits, idle, payloads):
            workload(calls, spec)


if __name__ == "__main__":
    main()
