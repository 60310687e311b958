"""The interface of a peer, and the folder that it works in.

A peer is a module in this folder with a function ``connect()``: a context manager that starts
`WORKERS` worker processes and yields a `Calls`. Its environment contains only the peer and the
standard library, so no module here imports anything else.
"""

import contextlib
import os
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

WORKERS = 2
FOLDER = Path(os.environ.get("BENCH_FOLDER", "."))
"""A new folder on the filesystem that is measured."""
PATIENCE = 60


class Calls(ABC):
    """Calls of the functions in ``bodies.py``, by name."""

    @abstractmethod
    def submit(self, name, value):
        """Start a call; returns a handle."""

    @abstractmethod
    def result(self, handle):
        """Wait for the value of a call."""

    def call(self, name, value):
        """Make a blocking call."""
        return self.result(self.submit(name, value))

    def fan_out(self, values):
        """Echo all values in the way that is best for the peer; returns them in order."""
        return self.gather([self.submit("echo", value) for value in values])

    def gather(self, handles):
        """Wait for many values."""
        return [self.result(handle) for handle in handles]

    def batched(self, values, size):
        """Make a fan-out with `size` calls in each file."""
        raise NotImplementedError


@contextlib.contextmanager
def worker_processes(*commands):
    """Run worker commands in this folder, with their output in `FOLDER`, until the block ends."""
    started = []
    try:
        for number, command in enumerate(commands):
            log = FOLDER / f"worker-{number}.log"
            with log.open("wb") as output:
                started.append(
                    subprocess.Popen(
                        command, cwd=Path(__file__).parent, stdout=output, stderr=output
                    )
                )
        yield started
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def poll(ready, pause=0.001):
    """Poll until the answer is not None; for peers whose own waiting is slower."""
    deadline = time.monotonic() + PATIENCE
    while (answer := ready()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError("no result")
        time.sleep(pause)
    return answer
