"""What stands in the JSON headers and records of the spool.

Unknown keys are a newer writer's and are passed over. Times are seconds since the epoch by the
file server's clock.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import msgspec

from fsqueue.errors import UnknownInvocationError
from fsqueue.spool.disk.identity import Process, is_gone
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.disk.content import Buffer

FORMAT = 1

# What decoding damaged JSON raises: msgspec does not wrap the second one.
UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Payload(NamedTuple):
    """What a file holds beside its header."""

    data: bytes | memoryview
    buffers: Sequence[Buffer] = ()
    """Large parts of the values in `data`, which are not copied: see `pickle.PickleBuffer`."""

    @property
    def chunks(self) -> list[Buffer]:
        """All that it is made of."""
        return [self.data, *self.buffers]


class SpoolInfo(msgspec.Struct, frozen=True):
    """``spool.json``."""

    format: int
    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9]{1,64}$")]
    key: str = ""
    """Tells which key signs the files of this spool, and nothing about it; empty: none does."""


class RetryPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which failures of a body are followed by another attempt, and when."""

    classes: tuple[str, ...] = ()
    """``module.Class`` of exceptions; those of their subclasses too."""
    times: int = 3
    delay: float = 1.0
    """Seconds before the first retry."""
    factor: float = 2.0
    """Each further delay is so many times the one before."""
    longest: float = 300.0
    """Seconds that no delay exceeds."""
    jitter: float = 0.1
    """A random share of the delay, up to this one, is added."""


DEFAULT_RETRY: Final = RetryPolicy()


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Header of an invocation's file; its payload is `segments` one after another.

    The last segment holds ``(args, kwargs)``, written as `codec` says; in a batch the last
    `members` ones. The one before them, if any, holds the keyword arguments that the calls of the
    group share.
    """

    id: str
    spool: str
    task: str
    queue: str
    slot: str
    created: float
    python: str
    """Of the caller, such as ``3.12``: tells why a pickle cannot be read."""
    codec: str
    """How `segments` and the blob are written, and the outcome is to be; see `fsqueue.codec`."""
    max_attempts: int
    keep: bool
    """The outcome stays readable for everybody until it expires."""
    segments: tuple[int, ...]
    members: int = 0
    """How many calls a batch holds; 0: this is a call and no batch."""
    blob: str = ""
    """Digest of the blob that holds the common arguments, if they are large."""
    timeout: float = 0.0
    """Seconds that one attempt may take; 0: as long as it likes."""
    expires: float = 0.0
    """When it is too late to start; 0: never."""
    retry: RetryPolicy = DEFAULT_RETRY
    capture: bool = False
    """What the body prints and logs is kept."""
    trace: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """The ``traceparent`` that the worker's span follows; empty without OpenTelemetry."""
    after: tuple[str, ...] = ()
    """The invocations whose results are in its arguments."""
    countdown: float = 0.0
    """Seconds between the end of the last of them and the start, at least."""
    retry_of: str = ""
    """The failed invocation that an operator had run again as this one."""
    lanes: tuple[str, ...] = ()
    """It takes a place in each of these before it runs; see `fsqueue.spool.store.limits`."""
    within: dict[str, str] = {}
    """By lane, the invocation that had a place there when its body, or one that it has caused, made
    this call: while that body waits, it may run this one in its place."""
    cache: str = ""
    """Under this key its result is found by others like it; empty: they run themselves."""
    cache_ttl: float = 0.0
    """Seconds for which a result under this key may stand for its own."""
    caller: Process | None = None
    """The only process that can receive the outcome. None: `keep`, or the writer was older."""

    @property
    def abandoned(self) -> bool:
        """Whether the only process that could receive the outcome has ended for certain."""
        return self.caller is not None and not self.keep and is_gone(self.caller)


class Failure(msgspec.Struct, frozen=True):
    """What went wrong, readable without unpickling anything."""

    type: str
    message: str


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one call of a batch ended; `size` bytes of the payload are its own."""

    state: State
    size: int
    failure: Failure | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Header of a result's file; its payload is the value or exception, as `codec` says.

    A failure without payload is the queue's own: `failure.type` names a class of
    `fsqueue.errors`. It is that of all members, if the call was a batch.
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
    members: tuple[Member, ...] = ()
    task: str = ""
    """For whoever looks; empty where the call was not read."""
    queue: str = ""
    created: float = 0.0
    retries: int = 0
    python: str = ""
    """Of the worker."""
    cache: str = ""
    """The key under which it may be found in ``cache/``; no other name there counts."""
    cache_ttl: float = 0.0
    """Seconds for which it stays there."""
    caller: Process | None = None
    """The only process that can receive this. None: others may want it, or nobody knows."""

    def starts(self) -> list[int]:
        """Where the payload of each call of a batch begins."""
        return list(accumulate((member.size for member in self.members), initial=0))

    def part(
        self, payload: Payload, member: int | None, starts: Sequence[int] = ()
    ) -> tuple[State, Failure | None, Payload]:
        """State, failure and payload of one call of a batch, or of the only call.

        Args:
            payload: of the file.
            member: the call's number in its batch; None is the only call.
            starts: what `starts` returned, for whoever asks for many calls of one batch.

        Raises:
            UnknownInvocationError: the batch has no such call.
        """
        if member is None or not self.members:
            return self.state, self.failure, payload
        if member >= len(self.members):
            raise UnknownInvocationError(
                f"{self.id} holds {len(self.members)} calls, counted from 0, and no number {member}"
            )
        mine = self.members[member]
        start = (starts or self.starts())[member]
        return mine.state, mine.failure, Payload(payload.data[start : start + mine.size])


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What triggers get to know of a call that the queue itself has ended."""

    id: str
    task: str
    members: int
    state: State
    failure: Failure


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``workers/<worker>.json``."""

    name: str
    host: str
    boot: str
    """Names one boot of one machine and one PID namespace: where `pid` means something."""
    pid: Annotated[int, msgspec.Meta(gt=0, lt=1 << 31)]
    start: str
    """When the process started, as its system tells it: tells a reused pid apart."""
    queues: tuple[str, ...]
    runner: str
    concurrency: int
    started: float
    resources: str = ""
    """What it has for calls that need some, as a profile."""
