"""dask.distributed: a scheduler in the caller's process and two worker processes, over TCP."""

import contextlib

import bodies
import dask
from distributed import Client, LocalCluster
from protocol import FOLDER, WORKERS, Calls


class Cluster(Calls):
    """Calls through the scheduler."""

    def __init__(self, client):
        self._client = client

    def submit(self, name, value):
        return self._client.submit(getattr(bodies, name), value, pure=False)

    def result(self, handle):
        return handle.result()

    def fan_out(self, values):
        return self.gather(self._client.map(bodies.echo, values, pure=False))

    def gather(self, handles):
        return self._client.gather(handles)


@contextlib.contextmanager
def connect():
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"})
    with (
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
            local_directory=str(FOLDER),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield Cluster(client)
