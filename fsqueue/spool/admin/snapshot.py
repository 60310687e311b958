"""The content of a snapshot: queues, workers, and the number of files in each place.

`fsqueue.spool.admin.census` takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.features.body_reports import Progress
from fsqueue.spool.fleets.coverage import ClosedFleet
from fsqueue.spool.format.layout import Layout
from fsqueue.spool.format.names import is_queue_name
from fsqueue.spool.format.records import BatchJob

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

Life = Literal["alive", "silent", "dead", "unseen"]


class QueueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One queue. Times are in seconds from now."""

    name: str
    """The name of its folder, which includes the profile of the resources that its calls need."""
    need: str = ""
    """The resources that the calls need."""
    due: int
    """Calls that are due."""
    delayed: int
    """Calls that are due later."""
    exact: bool = True
    """False if there were too many slots to count: `due` and `delayed` are then estimates."""
    oldest: float | None
    """How long the oldest due call has been waiting, accurate to about a second."""
    next_due: float | None
    """When the next delayed call is due."""
    waiting: int = 0
    """Calls that wait for a concurrency limit."""
    paused: bool
    workers: int
    """Living workers that serve it."""
    fleets: tuple[str, ...] = ()
    """If there are none: fleets whose jobs could serve it."""


class RunningCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that a worker has claimed."""

    id: str
    attempt: int
    seconds: float | None
    """Seconds since it was claimed; None if not looked up."""
    progress: Progress | None = None
    """The progress that the task has reported."""


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One worker."""

    name: str
    state: Life
    """Silent: it has missed its last heartbeats. Dead: its process was on this host and is gone.
    Unseen: there are too many workers to check all of them at once."""
    host: str
    pid: int
    runner: str
    queues: tuple[str, ...]
    slots: int
    resources: str = ""
    """The resources that it offers."""
    age: float | None
    """Seconds since it registered; None if its record is missing."""
    beat: float | None
    """Seconds since its last heartbeat."""
    draining: bool
    running: tuple[RunningCall, ...]
    """At most 1,000 calls, oldest claim first."""
    held: int = 0
    """How many calls it holds now."""
    as_of: float = 0.0
    """When this was recorded, by the file server's clock."""
    batch: BatchJob | None = None
    """Its batch job."""
    left: float | None = None
    """Seconds until it exits at the latest; None if unknown or unlimited."""

    @property
    def is_alive(self) -> bool:
        """Whether it has sent a recent heartbeat."""
        return self.state == "alive"


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """The number of files in each place."""

    parked: int
    """Calls in all queues that wait for the results of others."""
    waiting: int
    """Outcomes that their clients have not collected."""
    kept: int
    """Collected outcomes that can still be read."""
    failed: int
    """Failed calls that can be retried."""
    quarantined: int
    clients: int
    """Processes that make calls, counted by their locks."""
    estimated: tuple[str, ...] = ()
    """Names of the counts that are estimates because there were too many folders to list."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a whole spool."""

    root: str
    spool: str
    time: float
    """When it was taken, by the file server's clock."""
    queues: tuple[QueueInfo, ...]
    workers: tuple[WorkerInfo, ...]
    counts: Counts
    closed_fleets: tuple[ClosedFleet, ...] = ()
    """The paused or stopped ones, with the reasons."""
    unstarted: dict[str, int] = {}
    """Unclaimed calls by client, for the clients that have the most."""
    unstarted_exact: bool = True
    """False if some calls were not counted: each client may have more."""


def has_spool(root: str) -> bool:
    """Whether there is a spool at `root`; nothing is created."""
    try:
        return Filesystem().exists(Layout(root).info)
    except NotADirectoryError:
        return False


def queue_names(store: Store) -> list[str]:
    """Sorted folder names of the queues; each profile of a queue has its own folder."""
    names = store.fs.names(store.layout.pending_folder, fresh=True)
    return sorted(name for name in names if is_queue_name(name))


def claimed_for(store: Store, path: str) -> float | None:
    """Seconds since an attempt was claimed; None if it is gone or cannot be read.

    This is the time since its last status change (ctime), which the claim's rename sets.
    """
    try:
        changed = store.fs.status(path, follow=False).st_ctime
    except OSError:
        return None
    return max(0.0, store.clock.now() - changed)
