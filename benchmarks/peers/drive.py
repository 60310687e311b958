"""Measures one peer: ``python drive.py MODULE SPECIFICATION`` in the peer's own environment.

The specification is a JSON object, see `Specification`. Prints one line of JSON for each
workload as soon as it is measured, so that a peer that is ended keeps what it has done.
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
    """What to measure.

    Attributes:
        round_trips: number of blocking calls.
        fan_outs: numbers of calls, ascending.
        repeats: how often the first fan-out is run; the median counts.
        batches: calls that share a file, for a peer that has that.
        sizes: bytes of arguments.
        submits: calls that are submitted while no worker runs.
        idle: seconds to look at processes that have nothing to do.
        patience: a fan-out that would take longer, in seconds, is left out.
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
    """Seconds that a call takes, and what it returns."""
    began = time.perf_counter()
    returned = function(*arguments)
    return time.perf_counter() - began, returned


def check(values, expected):
    if list(values) != list(expected):
        raise SystemExit("the results are wrong")


# -- workloads --------------------------------------------------------------------------------


def round_trips(calls, spec):
    """Blocking calls one at a time."""
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
    """Many calls at once, from the first submission to the last result."""
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
    """The same fan-outs with many calls in a file."""
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
    """Submission alone: the workers are stopped meanwhile."""
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
    """A large argument, beside writing and reading the same bytes once in the same folder."""
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
    """CPU of the workers without work, and of a caller that is blocked."""
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
    """Processes that a process has started, and those have, and so on."""
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
    """Those of ``/proc/<pid>/stat`` that follow the command's name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(") ")[2].split()


def cpu_of(pids):
    """Seconds of CPU that processes have used."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, fields(pid)[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main():
    module, text = sys.argv[1:]
    spec = Specification(**json.loads(text))
    # Commands of the environment, as if it was activated.
    os.environ["PATH"] = f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    with importlib.import_module(module).connect() as calls:
        check([calls.call("echo", "ready")], ["ready"])
        for workload in (round_trips, fan_outs, batches, submits, idle, payloads):
            workload(calls, spec)


if __name__ == "__main__":
    main()
