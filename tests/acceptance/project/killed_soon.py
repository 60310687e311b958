"""A worker that is killed as soon as it has moved one call, or tried to, back to its queue."""

import os
import signal
import sys

from tasks import app

from fsqueue.spool.store.open_spool import open_store
from fsqueue.testing import FaultyFilesystem


class KilledSoon(FaultyFilesystem):
    def rename(self, source, target):
        try:
            return super().rename(source, target)
        finally:
            if "/running/" in source and "/pending/" in target:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    app._session._store = open_store(os.environ["FSQUEUE__ROOT"], KilledSoon())
    app.make_runner(kind=sys.argv[1], concurrency=2).run()
