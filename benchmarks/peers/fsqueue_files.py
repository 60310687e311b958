"""fsqueue: two worker processes with their default slots."""

import contextlib
import os
import sys

import bodies
from protocol import FOLDER, WORKERS, Calls, worker_processes

from fsqueue import FSQueue

app = FSQueue("bench", root=os.environ.get("FSQUEUE__ROOT") or FOLDER / "spool")


@app.task
def echo(value):
    return bodies.echo(value)


@app.task
def length(value):
    return bodies.length(value)


@app.task
def nap(seconds):
    return bodies.nap(seconds)


@app.direct_task
def direct_echo(value):
    return value


@app.direct_task
def direct_length(value):
    return len(value)


@app.direct_task
def direct_nap(seconds):
    return bodies.nap(seconds)


class Queue(Calls):
    """Calls through the shared directory."""

    _tasks = {"echo": echo, "length": length, "nap": nap}  # noqa: RUF012
    _direct = {"echo": direct_echo, "length": direct_length, "nap": direct_nap}  # noqa: RUF012

    def submit(self, name, value):
        return self._tasks[name](value)

    def result(self, handle):
        return handle.result

    def call(self, name, value):
        return self._direct[name](value)

    def fan_out(self, values):
        return echo.parallelize([(value,) for value in values]).results

    def batched(self, values, size):
        task = echo.options(parallel_batch_size=size)
        return task.parallelize([(value,) for value in values]).results


@contextlib.contextmanager
def connect():
    command = [sys.executable, "-m", "fsqueue", "worker", "fsqueue_files:app"]
    with worker_processes(*[command] * WORKERS):
        yield Queue()
        app.close()
