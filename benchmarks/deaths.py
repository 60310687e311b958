"""Measures how soon a result, and a worker's death, are noticed on a local disk.

    python benchmarks/deaths.py [FOLDER]

It makes the same calls as tests/nfs, which prints the same figures for NFS.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "tests" / "nfs" / "project"
ROUNDS = 20


def start(root, *arguments):
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=os.environ | {"FSQUEUE__ROOT": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def worker(root):
    process = start(root, "-m", "fsqueue", "worker", "nfs_tasks:app")
    process.serving = process.stderr.readline()
    return process


def answer(process):
    printed, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    return json.loads(printed.splitlines()[-1])


def seconds_after_a_death(root):
    marks = root.with_name(f"{root.name}-marks")
    marks.mkdir()
    lost = worker(root)
    caller = start(root, "nfs_calls.py", "held", str(marks))
    while len(list(marks.glob("begun-*"))) < 2:
        time.sleep(0.01)
    other = worker(root)
    killed = time.time()
    lost.kill()
    ended = answer(caller)["ended"]
    lost.communicate()
    other.send_signal(signal.SIGTERM)
    other.communicate()
    return ended - killed


def main(folder):
    with tempfile.TemporaryDirectory(dir=folder) as base:
        root = Path(base, "calls")
        server = worker(root)
        calls = answer(start(root, "nfs_calls.py", "blocking", "100"))
        server.send_signal(signal.SIGTERM)
        server.communicate()
        print(
            f"100 calls: median {1000 * calls['median']:.1f} ms, max {1000 * calls['max']:.1f} ms"
        )
        took = [seconds_after_a_death(Path(base, f"death-{n}")) for n in range(ROUNDS)]
        print(
            f"result after the worker was killed, {ROUNDS} times: "
            f"median {statistics.median(took):.2f} s, max {max(took):.2f} s"
        )


if __name__ == "__main__":
    main(*sys.argv[1:] or [None])
