"""A shared snapshot of the spool, written regularly by the worker in charge of shared upkeep.

Viewers read this one file, so the cost does not depend on what is in the spool. The worker replaces
``journal/latest.json`` every heartbeat on a local disk, and every fifth heartbeat on a network
filesystem. Without workers, no process writes it, and each viewer takes a bounded snapshot itself.

Dies before the rename: the previous file stays, and after `FRESH` seconds no process uses it. Dies
after it, or the reply is lost: the new one is there. If several workers write it, the last one
counts.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.admin.census import ONE_LOOK, Bounds, Census
from fsqueue.spool.admin.snapshot import Snapshot
from fsqueue.spool.format.records import UNDECODABLE
from fsqueue.spool.history.statistics import History, Stats
from fsqueue.spool.worker import space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsqueue.spool.history.entries import TaskSums
    from fsqueue.spool.store.store import Store

RECENT: Final = 300.0
"""The period covered by the statistics, in seconds."""
FRESH: Final = 30.0
"""The greatest age at which the file is used, in seconds."""
_FORMAT = 1
_LONGEST = 32 << 20


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot, with statistics of the last few minutes."""

    v: int = _FORMAT
    snapshot: Snapshot
    recent: Stats
    worker: str = ""
    """The worker that took it; empty if this process did."""
    took: float = 0.0
    """How long it took, in seconds."""
    space: str = ""
    """A warning if results are about to fill the disk."""


_decode = msgspec.json.Decoder(Glance).decode


class Looks:
    """Reads or takes glances, for a process that looks once or repeatedly.

    Args:
        heartbeat: seconds between two beats of a worker.
        result_ttl: how long results are kept, in seconds, for the warning about the disk.
        bounds: limits the cost of a snapshot that this process takes.
    """

    def __init__(
        self, store: Store, *, heartbeat: float, result_ttl: float, bounds: Bounds = ONE_LOOK
    ) -> None:
        self._heartbeat, self._bounds = heartbeat, bounds
        self.store: Store = store
        self._result_ttl = result_ttl
        self._census: Census | None = None
        self._history: History | None = None

    def look(self) -> Glance:
        """The workers' latest glance if it is fresh; otherwise takes one."""
        self.store.files.sync_clock()
        return read_latest(self.store) or self.take()

    def age(self, glance: Glance) -> float:
        """Seconds since a glance was taken."""
        return max(0.0, self.store.clock.now() - glance.snapshot.time)

    @property
    def totals(self) -> Mapping[str, TaskSums]:
        """Totals over all calls that have ended since the first `take`, by task."""
        return {} if self._history is None else self._history.totals

    def take(self, worker: str = "") -> Glance:
        """Take a glance, within the bounds.

        Args:
            worker: the worker that takes it.
        """
        store = self.store
        began = store.fs.monotonic()
        if self._census is None or self._history is None:
            self._census = Census(store, heartbeat=self._heartbeat, bounds=self._bounds)
            self._history = History(store, RECENT, most_files=self._bounds.workers)
        snapshot = self._census.take()
        self._history.update()
        counts = snapshot.counts
        results = counts.waiting + counts.kept + counts.failed
        return Glance(
            snapshot=snapshot,
            recent=self._history.stats({each.name for each in snapshot.workers if each.is_alive}),
            worker=worker,
            took=round(store.fs.monotonic() - began, 4),
            space=space.glance(
                store.fs, store.layout, store.clock.now(), self._result_ttl, results
            ),
        )


def as_document(glance: Glance, age: float) -> dict[str, object]:
    """A glance as the JSON document of `fsqueue status`.

    Args:
        glance: the glance.
        age: seconds since it was taken.
    """
    return {
        **msgspec.structs.asdict(glance.snapshot),
        "recent": glance.recent,
        "counted_by": glance.worker,
        "age": age,
        "space": glance.space,
    }


def read_latest(store: Store) -> Glance | None:
    """The workers' latest glance; None if there is no fresh one. One file operation."""
    try:
        found = _decode(store.fs.read_part(store.layout.latest, _LONGEST))
    except (OSError, EnvelopeError, *UNDECODABLE):
        return None
    snapshot = found.snapshot
    age = store.clock.now() - snapshot.time
    if found.v != _FORMAT or snapshot.spool != store.files.info.id or age > FRESH:
        return None
    return msgspec.structs.replace(
        found, snapshot=msgspec.structs.replace(snapshot, root=store.layout.root)
    )


def write_latest(store: Store, glance: Glance) -> None:
    """Replace the latest glance.

    Its folder must not be a link, which could point outside the spool.

    Raises:
        OSError: it could not be written; the previous one stays.
    """
    folder = store.layout.journal_folder
    if store.fs.is_folder(folder) is False:
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", folder)
    store.files.replace_file(store.layout.latest, [msgspec.json.encode(glance)])
