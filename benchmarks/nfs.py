"""Measures calls over a real NFS server with two kernel clients, and compares them with a model.

FSQUEUE_NFS_LAB is the folder of nfslab.py, as for ``tests/nfs``. The model is the sum of two
parts: the time of the file server for each step of the protocol, measured separately, and the
time of the same call in the memory of the same client, which is the processor's part.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

import machine
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
CALLS, TRIPS = 400, 30
PATIENCE = 120
# The requests of each step to the file server, one after another; see docs/performance.md.
PUBLISH = ("symlink", "rename")
RUN = ("rename", "readlink", "symlink", "unlink")


def load_lab():
    path = Path(os.environ["FSQUEUE_NFS_LAB"], "nfslab.py")
    spec = importlib.util.spec_from_file_location("nfslab", path)
    nfslab = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nfslab)
    return nfslab


class Guests:
    """Runs commands on the clients of a lab."""

    def __init__(self, lab, root):
        self.lab = lab
        self.env = {"FSQUEUE__ROOT": root, "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, client, *arguments):
        """Start Python on a client."""
        # The lab can only wait for text on standard output, so the worker's log goes there.
        command = ["sh", "-c", 'exec "$@" 2>&1', "sh", sys.executable, *map(str, arguments)]
        return self.lab.popen(client, command, env=self.env, cwd=str(HERE))

    def requests(self):
        """Number of client requests that the server has answered, by its own count."""
        text = self.lab.run("server", ["cat", "/proc/net/rpc/nfsd"], check=True).stdout
        (line,) = (line for line in text.splitlines() if line.startswith("rpc "))
        return int(line.split()[1])

    def answer(self, client, *arguments):
        """Run a step on a client, and return its figures."""
        return finished(self.start(client, "nfs_steps.py", *arguments))


def finished(job):
    if job.wait(PATIENCE):
        raise SystemExit(job.stdout)
    return json.loads(job.stdout.splitlines()[-1])


def worker_on(guests, client):
    job = guests.start(client, "-m", "fsqueue", "worker", "bench_tasks:app", "--concurrency", 1)
    job.wait_for(" serves ", PATIENCE)
    return job


def run_on(guests, workers):
    """Measure calls that are published before the workers start."""
    caller = guests.start("a", "nfs_steps.py", "calls", CALLS)
    caller.wait_for("published", PATIENCE)
    before = guests.requests()
    jobs = [worker_on(guests, client) for client in workers]
    found = finished(caller)
    requests = (guests.requests() - before) / CALLS
    stop(jobs)
    return found | {"requests": requests}


def stop(jobs):
    for job in jobs:
        job.send_signal(15)
    for job in jobs:
        job.wait(PATIENCE)


def measure(nfslab, version):
    seen = [str(HERE), str(HERE.parent / "fsqueue")]
    with nfslab.Lab(opts=f"vers={version}", ro=seen) as lab:
        mount = lab.mountpoint
        guests = Guests(lab, f"{mount}/spool")
        steps = guests.answer("b", "probe", f"{mount}/probe")
        local = run_on(Guests(lab, "/dev/shm/spool"), "a")
        one = run_on(guests, "b")
        two = run_on(guests, "ab")
        jobs = [worker_on(guests, "b")]
        trip = guests.answer("a", "trips", TRIPS)
        stop(jobs)
    runs = {"in memory": local, "one worker": one, "two workers": two}
    return {"steps": steps, **runs, "round trip": trip["p50"]}


def main():
    console, found = Console(), {"machine": machine.describe()}
    nfslab = load_lab()
    for version in ("4.2", "3"):
        row = found[version] = measure(nfslab, version)
        table = Table(f"NFS v{version}", "predicted, ms", "measured, ms")
        for name, steps, part in (
            ("publish one call", PUBLISH, "publish"),
            ("one worker, a call", RUN, "run"),
        ):
            predicted = sum(row["steps"][step] for step in steps) + row["in memory"][part]
            table.add_row(name, f"{predicted:.2f}", f"{row['one worker'][part]:.2f}")
        table.add_row("  of which in memory", "", f"{row['in memory']['run']:.2f}")
        table.add_row("two workers on two clients, a call", "", f"{row['two workers']['run']:.2f}")
        for name in ("one worker", "two workers"):
            table.add_row(
                f"requests to the server, {name}, a call", "", f"{row[name]['requests']:.1f}"
            )
        table.add_row("round trip", "", f"{row['round trip']:.1f}")
        console.print(table)
        console.print(row["steps"])
    console.print(machine.sentence(found["machine"]))


if __name__ == "__main__":
    main()
