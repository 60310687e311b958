"""Runs: a run is one process and all the calls that it has made."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.format.names import is_client_name
from fsqueue.spool.format.records import UNDECODABLE, ClientRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsqueue.spool.admin.glance import Glance
    from fsqueue.spool.history.statistics import Stats
    from fsqueue.spool.store.store import Store

# The most records to read for a list.
_MOST = 1_000
_SUFFIX = ".json"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One process and its calls. Times are by the file server's clock."""

    client: str
    """The client name, with which the ids of its calls begin."""
    record: ClientRecord | None
    """The process's own description; None if unknown."""
    here: bool
    """Whether the process may still make calls: its lock exists."""
    ended: int
    """Its calls that ended in the window."""
    failed: int
    running: int | None = None
    """Its calls that workers have claimed; None if not looked up."""
    waiting: int | None = None
    """Its calls that no worker has claimed; None if unknown."""
    exact: bool = True
    """False if there may be more: there were too many to count."""
    ends: float | None = None
    """Estimated seconds until all have ended, at the rate of the last minutes; None if unknown."""


def runs(store: Store, recent: Stats, since: float, glance: Glance | None = None) -> list[Run]:
    """The runs that started, or had calls that ended, after `since`; the latest first.

    Args:
        recent: statistics of the window.
        since: seconds since the epoch by the file server's clock.
        glance: shows what is running and waiting now; None leaves that out.
    """
    names = set(store.fs.names(store.layout.clients_folder, fresh=True))
    clients = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
    records = {each: read_record(store, each) for each in clients[:_MOST]}
    found = []
    unstarted = {} if glance is None else glance.snapshot.unstarted
    held = Counter[str]() if glance is None else running_of(glance)
    for client in {*records, *recent.runs, *unstarted}:
        record = records.get(client)
        ended, failed = recent.runs.get(client, (0, 0))
        here, begun = f"{client}.lock" in names, record and record.started >= since
        if is_client_name(client) and (ended or here or begun or client in unstarted):
            run = Run(client=client, record=record, here=here, ended=ended, failed=failed)
            found.append(run if glance is None else going_on(run, glance, held))
    return sorted(found, key=lambda run: (-(run.record.started if run.record else 0), run.client))


def running_of(glance: Glance) -> Counter[str]:
    """How many running calls each client has."""
    workers = glance.snapshot.workers
    return Counter(call.id.rpartition("-")[0] for worker in workers for call in worker.running)


def going_on(run: Run, glance: Glance, held: Mapping[str, int]) -> Run:
    """Add to a run how many of its calls are running and waiting, and when they will be done.

    Args:
        run: the run.
        glance: the latest glance.
        held: the result of `running_of` for it.
    """
    snapshot, recent = glance.snapshot, glance.recent
    running, waiting = held.get(run.client, 0), snapshot.unstarted.get(run.client, 0)
    rate = recent.per_second(recent.runs.get(run.client, (0, 0))[0])
    left = running + waiting
    return msgspec.structs.replace(
        run,
        running=running,
        waiting=waiting,
        exact=snapshot.unstarted_exact,
        ends=left / rate if left and rate and snapshot.unstarted_exact else None,
    )


def read_record(store: Store, client: str) -> ClientRecord | None:
    """A client process's own description; None if unknown."""
    try:
        data = store.fs.read(store.layout.client_record(client))
        record = msgspec.json.decode(data, type=ClientRecord)
    except (OSError, EnvelopeError, *UNDECODABLE):
        return None
    return record if record.name == client else None
