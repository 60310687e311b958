"""Compares fsqueue with its peers: the same no-op work, with two worker processes, in one run.

Each peer runs in a separate virtual environment, made on demand from ``requirements/``. A peer
that cannot be installed, fails or takes too long is reported as such and does not stop the rest.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import environments
import machine
import results
from rich.console import Console

HERE = Path(__file__).parent
DRIVER = HERE / "peers" / "drive.py"
TRIES = 2
QUICK = {
    "round_trips": 100,
    "fan_outs": [500],
    "repeats": 1,
    "batches": ["auto", 100],
    "sizes": [10**3, 10**6],
    "submits": 500,
    "idle": 2.0,
    "patience": 20.0,
}
FULL = {
    "round_trips": 1_000,
    "fan_outs": [2_000, 20_000],
    "repeats": 3,
    "batches": ["auto", 100],
    "sizes": [10**3, 10**6, 10**8],
    "submits": 2_000,
    "idle": 8.0,
    "patience": 60.0,
}


class Peer(NamedTuple):
    """A peer: its name, its module in ``peers/``, and its file in ``requirements/``."""

    name: str
    module: str
    requirements: str | None


PEERS = (
    Peer("ProcessPoolExecutor", "process_pool", None),
    Peer("fsqueue", "fsqueue_files", "fsqueue"),
    Peer("dask.distributed", "dask_processes", "dask"),
    Peer("parsl HTEX", "parsl_htex", "parsl"),
    Peer("huey files", "huey_files", "huey"),
    Peer("celery files", "celery_files", "celery"),
    Peer("pynenc tuned", "pynenc_tuned", "pynenc"),
    Peer("pynenc", "pynenc_sqlite", "pynenc"),
)


def measure(peer, options, specification):
    """Measure a peer. If it breaks, it is tried again, and the try that came furthest counts."""
    tries = []
    for _ in range(TRIES):
        tries.append(measure_once(peer, options, specification))
        if not tries[-1][-1].get("broken"):
            return tries[-1]
    best = max(tries, key=len)
    best[-1]["reason"] += f" (in each of {TRIES} tries)"
    return best


def measure_once(peer, options, specification):
    """Measure a peer once; returns a dict for each workload, and last an error if there was one."""
    try:
        python = environments.interpreter(peer.requirements, options.venvs, options.python)
    except environments.NotInstalledError as error:
        return [{"workload": "error", "reason": f"cannot be installed: {error}"}]
    with machine.fresh_folder(options.root) as folder, tempfile.TemporaryFile("w+") as log:
        environ = {**os.environ, "BENCH_FOLDER": str(folder), "PYTHONWARNINGS": "ignore"}
        command = [python, str(DRIVER), peer.module, json.dumps(specification)]
        process = subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=options.limit)
            broken = process.returncode != 0
            reason = f"ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            broken = False
            reason = f"took longer than {options.limit:g} s, what follows is missing"
            _end(process)
            output, _ = process.communicate()
        figures = [*_parsed(output)]
        if broken:
            log.seek(0)
            last = (log.read().strip().splitlines() or [""])[-1]
            reason = f"{reason}: {last}"[:300]
        if process.returncode:
            figures.append({"workload": "error", "reason": reason, "broken": broken})
        return figures


def _parsed(output):
    for line in output.decode(errors="replace").splitlines():
        if line.startswith('{"workload"'):
            yield json.loads(line)


def _end(process):
    """End a driver and all processes in its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)


def parsed_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    parser.add_argument("--only", nargs="+", choices=[peer.module for peer in PEERS])
    parser.add_argument("--quick", action="store_true", help="small numbers, for a first look")
    parser.add_argument("--round-trips", type=int, help="number of blocking calls")
    parser.add_argument("--patience", type=float, help="leave out fan-outs that take longer (s)")
    parser.add_argument("--limit", type=float, default=600.0, help="longest time for one peer (s)")
    parser.add_argument("--venvs", type=Path, default=HERE / ".venvs")
    parser.add_argument("--python", type=Path, default=environments.newest_python())
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", action="store_true", help="print the table for a document")
    parser.add_argument("--show", type=Path, help="measure nothing; show this file")
    return parser.parse_args()


def measured(options, console):
    specification = {**(QUICK if options.quick else FULL)}
    specification["round_trips"] = options.round_trips or specification["round_trips"]
    specification["patience"] = options.patience or specification["patience"]
    found = {
        "machine": {
            **machine.describe(),
            "python": environments.version(options.python),
            "filesystem": machine.kind(options.root),
        },
        "specification": specification,
        "peers": {},
    }
    for peer in PEERS:
        if options.only is None or peer.module in options.only:
            console.print(f"{peer.name} ...", style="dim")
            found["peers"][peer.name] = measure(peer, options, specification)
            found["machine"]["load after"] = round(os.getloadavg()[0], 2)
            write(options, found)
    return found


def write(options, found):
    """Save all figures so far, so that an interrupted run leaves them too."""
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def main():
    options, console = parsed_options(), Console()
    if options.show:
        found = json.loads(options.show.read_text("utf-8"))
    else:
        found = measured(options, console)
    console.print(machine.sentence(found["machine"]), found["machine"]["filesystem"])
    if options.markdown:
        print(results.markdown(found))
    else:
        console.print(results.table(found))
    console.print(results.targets_table(found))
    for line in results.remarks(found):
        console.print(line, style="yellow")


if __name__ == "__main__":
    sys.exit(main())
