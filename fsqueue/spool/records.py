"""What stands in the JSON headers and records of the spool.

Unknown keys are a newer writer's and are passed over. Times are seconds since the epoch by the
file server's clock.
"""

from __future__ import annotations

import msgspec

from fsqueue.spool.states import State

FORMAT = 1


class SpoolInfo(msgspec.Struct, frozen=True):
    """``spool.json``."""

    format: int
    id: str
    key: str = ""
    """Tells which key signs the files of this spool, and nothing about it; empty: none does."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Header of an invocation's file; its payload is `segments` one after another.

    The last segment holds the pickled ``(args, kwargs)``; one before it, if any, the keyword
    arguments that the call shares with the others of its group.
    """

    id: str
    spool: str
    task: str
    queue: str
    slot: str
    created: float
    python: str
    codec: str
    max_attempts: int
    keep: bool
    """The outcome stays readable for everybody until it expires."""
    segments: tuple[int, ...]


class Failure(msgspec.Struct, frozen=True):
    """What went wrong, readable without unpickling anything."""

    type: str
    message: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Header of a result's file; its payload is the pickled value or exception.

    A failure without payload is the queue's own: `failure.type` names a class of
    `fsqueue.errors`.
    """

    id: str
    spool: str
    attempt: int
    state: State
    worker: str
    started: float
    ended: float
    codec: str
    failure: Failure | None = None


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``workers/<worker>.json``."""

    name: str
    host: str
    boot: str
    """Names one boot of one machine and one PID namespace: where `pid` means something."""
    pid: int
    start: str
    """When the process started, as its system tells it: tells a reused pid apart."""
    queues: tuple[str, ...]
    runner: str
    concurrency: int
    started: float
