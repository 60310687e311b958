"""celery with its filesystem broker and results in files. The broker polls once a second.

If it polled more often, a worker would sooner or later read a message between the creation and the
writing of its file, and end.
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
                # celery writes results in place, so it may read half a file: read it again.
                continue


@contextlib.contextmanager
def connect():
    command = [sys.executable, "-m", "celery", "-A", "celery_files", "worker"]
    options = ["--concurrency", str(WORKERS), "--pool", "prefork", "--loglevel", "error"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with worker_processes([*command, *options, *quiet]):
        # celery writes its table of queues in place too: do not publish while a worker starts.
        poll(lambda: (FOLDER / "ready").exists() or None)
        yield Queue()
