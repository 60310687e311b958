"""Worker processes of `bench_tasks.py`."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


@contextlib.contextmanager
def workers(count, root, *options, **environ):
    """Start worker processes on `root` and yield them once they serve it.

    When they have left, each has its last messages as `log`.
    """
    settings = {**os.environ, "FSQUEUE__ROOT": str(root), **environ}
    command = [sys.executable, "-m", "fsqueue", "worker", "bench_tasks:app", *options]
    found = []
    try:
        while len(found) < count:
            worker = subprocess.Popen(
                command, cwd=HERE, env=settings, stderr=subprocess.PIPE, text=True
            )
            found.append(worker)
        for worker in found:
            while "serves" not in (line := worker.stderr.readline()):
                if not line:
                    raise SystemExit("a worker did not start")
        yield found
    finally:
        for worker in found:
            worker.send_signal(signal.SIGTERM)
        for worker in found:
            _, worker.log = worker.communicate(timeout=60)
