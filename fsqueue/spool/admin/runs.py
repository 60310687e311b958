"""Runs: the calls that one process has made, and the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.format.names import is_client_name
from fsqueue.spool.format.records import UNDECODABLE, ClientRecord

if TYPE_CHECKING:
    from fsqueue.spool.history.statistics import Stats
    from fsqueue.spool.store.store import Store

# The most records that are read for a list.
_MOST = 1_000
_SUFFIX = ".json"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one process. Times are by the file server's clock."""

    client: str
    """The name that the ids of its calls begin with."""
    record: ClientRecord | None
    """What the process says of itself; None if it is not known."""
    here: bool
    """Whether the process may still make calls: its lock is there."""
    ended: int
    """Its calls that have ended in the window."""
    failed: int


def runs(store: Store, recent: Stats, since: float) -> list[Run]:
    """The runs that have begun after a time, or of which calls have ended, the latest first.

    Args:
        recent: statistics of the window.
        since: seconds since the epoch by the file server's clock.
    """
    names = set(store.fs.names(store.layout.clients_folder, fresh=True))
    clients = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
    records = {each: read_record(store, each) for each in clients[:_MOST]}
    found = []
    for client in {*records, *recent.runs}:
        record = records.get(client)
        ended, failed = recent.runs.get(client, (0, 0))
        here = f"{client}.lock" in names
        if is_client_name(client) and (ended or here or (record and record.started >= since)):
            found.append(Run(client=client, record=record, here=here, ended=ended, failed=failed))
    return sorted(found, key=lambda run: (-(run.record.started if run.record else 0), run.client))


def read_record(store: Store, client: str) -> ClientRecord | None:
    """What a client's process says of itself; None if that is not known."""
    try:
        data = store.fs.read(store.layout.client_record(client))
        record = msgspec.json.decode(data, type=ClientRecord)
    except (OSError, EnvelopeError, *UNDECODABLE):
        return None
    return record if record.name == client else None
