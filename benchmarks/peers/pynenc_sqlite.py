"""pynenc with its SQLite backend, the only built-in one that several processes can share."""

import contextlib
import os
import sys

import bodies
from protocol import FOLDER, WORKERS, Calls, worker_processes
from pynenc.builder import PynencBuilder

TUNED = "BENCH_TUNED"


def build():
    """The application, with pynenc's defaults or with all pauses set to a millisecond."""
    builder = (
        PynencBuilder()
        .app_id("bench")
        .sqlite(str(FOLDER / "pynenc.db"))
        .persistent_process_runner(WORKERS)
    )
    if os.environ.get(TUNED):
        builder = (
            builder.runner_tuning(0.001, 0.001)
            .serializer_pickle()
            .logging_level("error")
            .hide_arguments()
            .custom_config(cached_status_time=0.001)
        )
    return builder.build()


app = build()


@app.task
def echo(value):
    return bodies.echo(value)


@app.task
def length(value):
    return bodies.length(value)


@app.task
def nap(seconds):
    return bodies.nap(seconds)


class Queue(Calls):
    """Calls through the database."""

    _tasks = {"echo": echo, "length": length, "nap": nap}  # noqa: RUF012

    def submit(self, name, value):
        return self._tasks[name](value)

    def result(self, handle):
        return handle.result

    def fan_out(self, values):
        return sorted(echo.parallelize([(value,) for value in values]).results)


@contextlib.contextmanager
def connect():
    command = [sys.executable, "-m", "pynenc", "--app", "pynenc_sqlite.app", "runner", "start"]
    with worker_processes(command):
        yield Queue()
