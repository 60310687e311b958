"""A process that runs no calls and only does a worker's upkeep, until SIGTERM."""

from __future__ import annotations

import logging
import signal
import sys
import threading

from chaos.tasks import app
from fsqueue.runner.loop.upkeep import Callbacks, Upkeep
from fsqueue.spool.worker.registration import Worker


def main() -> None:
    """Send heartbeats, and return the calls of dead workers."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    log = logging.getLogger(__name__)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    worker = Worker(app.store, queues=(), runner="reaper", concurrency=0)
    worker.register()
    upkeep = Upkeep(app.store, worker, app.conf, Callbacks())
    upkeep.start()
    log.info("worker %s serves %s with its upkeep only", worker.name, app.store.layout.root)
    while not stop.wait(0.1):
        pass
    upkeep.stop()
    worker.deregister()


if __name__ == "__main__":
    main()
