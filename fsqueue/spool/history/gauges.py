"""Gauges: regular samples of how full the spool is, for its history over time.

The worker in charge of shared upkeep appends a line about every ten seconds to a file of its own,
since two hosts must never append to one file. Readers merge the files by time.

Dies before the append: that line is missing. Lost reply: the line may be there twice, at one time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.format.records import UNDECODABLE
from fsqueue.spool.history.entries import JOURNAL_FORMAT
from fsqueue.spool.history.journal import hour_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.spool.store.store import Store


class QueueGauge(msgspec.Struct, frozen=True, omit_defaults=True):
    """One queue at one moment."""

    due: int = 0
    delayed: int = 0
    waiting: int = 0
    """Calls that wait for a concurrency limit."""
    oldest: float = 0.0
    """How long the oldest due call has been waiting, in seconds."""
    workers: int = 0
    """Living workers that serve it."""
    paused: bool = False
    estimated: bool = False


class Gauge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The spool at one moment."""

    v: int = JOURNAL_FORMAT
    at: float
    """By the file server's clock."""
    queues: dict[str, QueueGauge] = {}
    workers: int = 0
    """Living workers."""
    slots: int = 0
    busy: int = 0
    parked: int = 0
    """Calls that wait for the results of others."""
    failed: int = 0
    quarantined: int = 0
    done: int = 0
    kept: int = 0
    took: float = 0.0
    """How long counting took, in seconds."""


_SUFFIX = ".gauges"
_PART = 1 << 22
_decoder = msgspec.json.Decoder(Gauge)


def append_gauge(store: Store, worker: str, gauge: Gauge) -> None:
    """Append a line to the worker's gauges."""
    path = store.layout.journal_gauges(hour_of(gauge.at), worker)
    store.files.append(path, msgspec.json.encode(gauge) + b"\n")


def read_gauges(store: Store, hour: str) -> list[Gauge]:
    """The gauges of an hour, by time, without lines that are damaged or from a newer version."""
    folder = store.layout.journal_hour(hour)
    found: dict[float, Gauge] = {}
    for name in sorted(store.files.listed(folder, fresh=True)):
        if name.endswith(_SUFFIX):
            found.update((gauge.at, gauge) for gauge in _lines(store, f"{folder}/{name}"))
    return [found[at] for at in sorted(found)]


def _lines(store: Store, path: str) -> Iterator[Gauge]:
    try:
        data = store.fs.read_part(path, _PART)
    except (OSError, EnvelopeError):
        return
    for line in data.splitlines():
        try:
            gauge = _decoder.decode(line)
        except UNDECODABLE:
            continue
        if gauge.v == JOURNAL_FORMAT:
            yield gauge
