"""celery with its filesystem broker and file results; both are looked at each millisecond."""

import contextlib
import sys

import bodies
from celery import Celery
from protocol import FOLDER, WORKERS, Calls, worker_processes

_messages, _results, _control = (FOLDER / name for name in ("messages", "results", "control"))
for _folder in (_messages, _results, _control):
    _folder.mkdir(parents=True, exist_ok=True)

app = Celery("bench", broker="filesystem://", backend=f"file://{_results}")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(_messages),
        "data_folder_out": str(_messages),
        "control_folder": str(_control),
        "polling_interval": 0.001,
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


class Queue(Calls):
    """Calls through celery's files."""

    def submit(self, name, value):
        return tasks[name].delay(value)

    def result(self, handle):
        return handle.get(interval=0.001)


@contextlib.contextmanager
def connect():
    command = [sys.executable, "-m", "celery", "-A", "celery_files", "worker"]
    options = ["--concurrency", str(WORKERS), "--pool", "prefork", "--loglevel", "error"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with worker_processes([*command, *options, *quiet]):
        yield Queue()
