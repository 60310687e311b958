"""celery with its filesystem broker, whose pause of a second is left as it is, and file results.

Looked at more often, a message is sooner or later found between its file's creation and its
writing, and the worker that reads it ends.
"""

import contextlib
import os
import sys

import bodies
from celery import Celery
from celery.signals import worker_ready
from protocol import FOLDER, PATIENCE, WORKERS, Calls, poll, worker_processes

os.environ["C_FORCE_ROOT"] = "yes"  # celery refuses pickle to root, whom containers often run as
_messages, _results, _control = (FOLDER / name for name in ("messages", "results", "control"))
for _folder in (_messages, _results, _control):
    _folder.mkdir(parents=True, exist_ok=True)

app = Celery("bench", broker="filesystem://", backend=f"file://{_results}")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(_messages),
        "data_folder_out": str(_messages),
        "control_folder": str(_control),
    },
    broker_connection_retry_on_startup=True,
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle", "json"],
    worker_enable_remote_control=False,
)
tasks = {
    name: app.task(getattr(bodies, name), name=f"bench.{name}")
    for name in ("echo", "length", "nap")
}


@worker_ready.connect
def note_start(**_):
    (FOLDER / "ready").touch()


class Queue(Calls):
    """Calls through celery's files."""

    def submit(self, name, value):
        return tasks[name].delay(value)

    def result(self, handle):
        while True:
            try:
                return handle.get(interval=0.001, timeout=PATIENCE)
            except (ValueError, EOFError):
                # Results are written in place, so half a file can be read: once more.
                continue


@contextlib.contextmanager
def connect():
    command = [sys.executable, "-m", "celery", "-A", "celery_files", "worker"]
    options = ["--concurrency", str(WORKERS), "--pool", "prefork", "--loglevel", "error"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with worker_processes([*command, *options, *quiet]):
        # Its table of queues is written in place too: nobody may publish while a worker starts.
        poll(lambda: (FOLDER / "ready").exists() or None)
        yield Queue()
