"""The options of a worker, and the objects that are made from them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.runner.slots.self_claiming import Service
from fsqueue.spool.format.resources import profile_of
from fsqueue.spool.worker.backlog.worker import WorkerBacklog
from fsqueue.spool.worker.registration import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.config import RunnerKind
    from fsqueue.runner.job.lifetime import Terms
    from fsqueue.runner.job.own_job import OwnJob
    from fsqueue.runner.processes.job_resources import Devices
    from fsqueue.spool.format.resources import Amounts
    from fsqueue.spool.store.store import Store


class WorkerOptions(NamedTuple):
    """The queues that a worker serves, and its slots and resources."""

    kind: RunnerKind
    concurrency: int
    queues: Mapping[str, float]
    """Folder names of the queues, each with its weight; see `WorkerBacklog`."""
    weighted: bool
    resources: Amounts
    devices: Devices | None
    """Its GPUs by name; None if they have no names."""
    terms: Terms
    """The conditions under which the worker leaves by itself."""
    executor: bool = False
    """Whether it runs the calls of executors, too."""

    @property
    def gpu_variable(self) -> str:
        """The environment variable that names GPUs to bodies; empty if they have no names."""
        return "" if self.devices is None else self.devices.variable

    @property
    def service(self) -> Service:
        """The queues, for slot processes that claim calls themselves."""
        return Service(dict(self.queues), self.weighted)

    def resource_pool(self, changed: Callable[[], object], job: OwnJob) -> ResourcePool:
        """The resources, all of them free; `changed` is called when some become free."""
        names = () if self.devices is None else self.devices.names
        return ResourcePool(self.resources, changed, job.time_left, names)

    def backlog(self, store: Store, pool: ResourcePool) -> WorkerBacklog:
        """The pending calls of the queues."""
        return WorkerBacklog(store, self.queues, pool, weighted=self.weighted)

    def worker(self, store: Store, job: OwnJob) -> Worker:
        """A worker that is not registered yet."""
        return Worker(
            store,
            queues=tuple(self.queues),
            runner=self.kind,
            concurrency=self.concurrency,
            resources=profile_of(self.resources),
            batch=job.describe,
        )
