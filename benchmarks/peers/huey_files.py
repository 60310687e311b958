"""huey with its file storage, which it polls for calls and results every millisecond."""

import contextlib
import sys

import bodies
from huey import FileHuey
from protocol import FOLDER, WORKERS, Calls, poll, worker_processes

huey = FileHuey("bench", path=str(FOLDER / "huey"))
tasks = {name: huey.task()(getattr(bodies, name)) for name in ("echo", "length", "nap")}


class Queue(Calls):
    """Calls through huey's files."""

    def submit(self, name, value):
        return tasks[name](value)

    def result(self, handle):
        return poll(handle.get)


@contextlib.contextmanager
def connect():
    options = ["-w", str(WORKERS), "-k", "process", "-d", "0.001", "-m", "0.001", "-b", "1", "-q"]
    consumer = f"{sys.prefix}/bin/huey_consumer"
    with worker_processes([sys.executable, consumer, "huey_files.huey", *options]):
        yield Queue()
