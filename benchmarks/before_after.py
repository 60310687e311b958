"""Compares this checkout with another one, such as an older commit, in interleaved pairs.

    git worktree add /tmp/before COMMIT
    cd /tmp/before && python3 -m venv .venv && .venv/bin/pip install -e . psutil rich
    python benchmarks/before_after.py /tmp/before

Each round measures everything once in both checkouts, each with the interpreter of its own `.venv`
and its own `benchmarks/workers.py`, `bench_tasks.py`, `deaths.py` and `backlog.py`. The one that
begins alternates. What the table shows is the median of the rounds and the median of the ratios.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
TRIPS, FAN_OUT, STEPS, DEATHS = 1000, 2000, 2000, 5
SETTLE, IDLE = 10.0, 60.0
LARGE = 100_000_000
ONE_SLOT = ("--concurrency", "1")
WAYS = {
    "thread": (2, ("--runner", "thread", *ONE_SLOT)),
    "process": (1, ("--runner", "process", "--concurrency", "2")),
}


# -- what one checkout measures, in a process of its own -------------------------------------------


def lap(call, *arguments):
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


def cpu_seconds(processes):
    """CPU seconds of living processes and their descendants."""
    import psutil

    tops = [psutil.Process(each.pid) for each in processes]
    family = [each for top in tops for each in (top, *top.children(recursive=True))]
    return sum(sum(each.cpu_times()[:2]) for each in family)


def nanoseconds_run(process):
    """The CPU time of a process by the scheduler, as the usual ticks are too coarse."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads)


def importing(_):
    command = [sys.executable, "-c", "import fsqueue, os; print(open('/proc/self/statm').read())"]
    took, pages = [], []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        pages.append(int(printed.split()[1]))
    return {
        "import fsqueue, CPU, ms": 1e3 * statistics.median(took),
        "import fsqueue, memory, MB": statistics.median(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6,
    }


def trips(root):
    import bench_tasks
    from workers import workers

    found = {}
    for kind in WAYS:
        with workers(1, root, "--runner", kind, *ONE_SLOT):
            times = [lap(bench_tasks.echo, None) for _ in range(TRIPS)]
        found[f"round trip, {kind} slot, ms"] = 1e3 * statistics.median(times[TRIPS // 10 :])
    bench_tasks.app.close()
    return found


def fan_outs(root):
    import bench_tasks
    from workers import workers

    def fan_out(count):
        assert len(bench_tasks.later.parallelize([(i,) for i in range(count)]).results) == count

    found = {}
    for kind, (count, options) in WAYS.items():
        with workers(count, root, *options) as processes:
            fan_out(FAN_OUT // 10)
            before = cpu_seconds(processes) + time.process_time()
            found[f"fan-out, {kind} slots, us a call"] = 1e6 * lap(fan_out, FAN_OUT) / FAN_OUT
            used = cpu_seconds(processes) + time.process_time() - before
            found[f"fan-out, {kind} slots, CPU, us a call"] = 1e6 * used / FAN_OUT
    bench_tasks.app.close()
    return found


def large_argument(root):
    import bench_tasks
    from workers import workers

    with workers(1, root):
        bench_tasks.echo(b"")
        took = [lap(bench_tasks.echo, bytes(LARGE)) for _ in range(3)]
    bench_tasks.app.close()
    return {"100 MB there and back, s": statistics.median(took)}


def idle_worker(root):
    import bench_tasks
    import psutil
    from workers import workers

    with workers(1, root) as processes:
        bench_tasks.echo(None)
        time.sleep(SETTLE)
        before = nanoseconds_run(processes[0])
        time.sleep(IDLE)
        used = nanoseconds_run(processes[0]) - before
        memory = psutil.Process(processes[0].pid).memory_info().rss
    bench_tasks.app.close()
    return {
        "idle worker, % of a core": 100 * used / 1e9 / IDLE,
        "idle worker, memory, MB": memory / 1e6,
    }


def deaths(root):
    from deaths import seconds_after_a_death

    took = [seconds_after_a_death(Path(f"{root}-{number}")) for number in range(DEATHS)]
    return {"result after its worker was killed, s": statistics.median(took)}


def backlog(root):
    from backlog import measure

    receipts = json.loads(Path(f"{root}-receipts").read_text())
    found = measure(str(root), receipts, STEPS)
    return {f"{step} with a backlog, ms": found[step]["p50"] for step in ("claim", "submit")}


def fill(root, count):
    from backlog import filled

    Path(f"{root}-receipts").write_text(json.dumps(filled(str(root), count)))


PROBES = {
    each.__name__: each
    for each in (importing, trips, fan_outs, large_argument, idle_worker, deaths, backlog)
}


def probe(name, root, folder):
    """Measure one thing with the code of the checkout whose benchmarks are in `folder`."""
    sys.path[0] = folder
    os.environ["FSQUEUE__ROOT"] = root
    found = PROBES[name](Path(root)) if name in PROBES else fill(Path(root), int(name))
    print(json.dumps(found))


# -- both checkouts in turn --------------------------------------------------------------------


def run(checkout, name, root):
    command = [checkout / ".venv/bin/python", __file__, "--probe", name, root]
    command.append(checkout / "benchmarks")
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=checkout / "benchmarks"
    )
    return json.loads(done.stdout.splitlines()[-1])


def pool_trip():
    """Milliseconds of a round trip through a process pool, as a measure of the machine."""
    with ProcessPoolExecutor(1) as pool:
        times = [lap(lambda: pool.submit(abs, 1).result()) for _ in range(TRIPS)]
    return 1e3 * statistics.median(times)


def one_round(checkouts, names, base, full):
    """The figures of each checkout."""
    found = {label: {} for label in checkouts}
    for name in names:
        for label, checkout in checkouts.items():
            with tempfile.TemporaryDirectory(prefix="fsqueue-pair-", dir=base) as folder:
                root = full[label] if name == "backlog" else f"{folder}/spool"
                found[label] |= run(checkout, name, root)
    return found


def show(rounds, out):
    print(f"{'':46}{'before':>10}{'after':>10}{'ratio':>8}   of the rounds")
    for figure in rounds[0]["before"]:
        before, after = ([each[label][figure] for each in rounds] for label in ("before", "after"))
        pairs = zip(before, after, strict=True)
        ratios = [new / old if old else float("nan") for old, new in pairs]
        medians = [statistics.median(each) for each in (before, after, ratios)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{figure:46}{medians[0]:10.3f}{medians[1]:10.3f}{medians[2]:8.2f}   {spread}")
    if out:
        out.write_text(json.dumps(rounds, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--root", type=Path, default=Path("/dev/shm"), help="measure here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backlog", type=int, default=1_000_000, help="calls pending; 0: none")
    parser.add_argument("--only", nargs="+", choices=PROBES, default=list(PROBES))
    parser.add_argument("--json", type=Path, help="write all rounds to this file")
    options = parser.parse_args()
    checkouts = {"before": options.before.resolve(), "after": HERE.parent}
    for checkout in checkouts.values():  # otherwise an import may include compiling
        command = [checkout / ".venv/bin/python", "-m", "compileall", "-q", "fsqueue", "benchmarks"]
        subprocess.run(command, check=True, cwd=checkout)
    names = [name for name in options.only if name != "backlog" or options.backlog]
    rounds = []
    with tempfile.TemporaryDirectory(prefix="fsqueue-pair-", dir=options.root) as folder:
        full = {label: f"{folder}/{label}" for label in checkouts}
        if "backlog" in names:
            for label, checkout in checkouts.items():
                run(checkout, str(options.backlog), full[label])
        for number in range(options.rounds):
            print(f"round {number + 1}: load {os.getloadavg()[0]:.1f}, pool {pool_trip():.3f} ms")
            turn = list(checkouts.items())[:: 1 if number % 2 else -1]
            rounds.append(one_round(dict(turn), names, options.root, full))
    show(rounds, options.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--probe"]:
        probe(*sys.argv[2:])
    else:
        main()
