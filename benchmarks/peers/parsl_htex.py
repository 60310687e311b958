"""parsl's HighThroughputExecutor: an interchange and a block of two workers, over TCP."""

import contextlib

import bodies
import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider
from protocol import FOLDER, WORKERS, Calls


class Apps(Calls):
    """Calls through parsl's apps."""

    def __init__(self):
        self._apps = {
            name: parsl.python_app(getattr(bodies, name)) for name in ("echo", "length", "nap")
        }

    def submit(self, name, value):
        return self._apps[name](value)

    def result(self, handle):
        return handle.result()


@contextlib.contextmanager
def connect():
    executor = HighThroughputExecutor(
        label="bench",
        address="127.0.0.1",
        loopback_address="127.0.0.1",
        max_workers_per_node=WORKERS,
        cores_per_worker=0.1,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
        encrypted=False,
    )
    config = Config(
        executors=[executor],
        run_dir=str(FOLDER / "runinfo"),
        initialize_logging=False,
        strategy="none",
    )
    with parsl.load(config):
        yield Apps()
