"""JSON headers and records in the spool.

Unknown keys come from a newer version and are ignored. Times are seconds since the epoch, by the
file server's clock.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, Protocol

import msgspec

from fsqueue.errors import UnknownInvocationError
from fsqueue.spool.disk.identity import Process
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.disk.content import Buffer

FORMAT: Final = 1
"""The format version of files, and of a spool whose records are all files."""
LINKS_FORMAT: Final = 2
"""The format version of a spool whose small records may be symbolic links. Older versions refuse
it."""

# Errors of decoding damaged JSON: msgspec does not wrap the second one.
UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Payload(NamedTuple):
    """The content of a file without its header."""

    data: bytes | memoryview
    buffers: Sequence[Buffer] = ()
    """Large parts of the values in `data`, kept apart to avoid copies: see
    `pickle.PickleBuffer`."""

    @property
    def chunks(self) -> list[Buffer]:
        """The data and all buffers."""
        return [self.data, *self.buffers]


class SpoolInfo(msgspec.Struct, frozen=True):
    """``spool.json``."""

    format: int
    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9]{1,64}$")]
    key: str = ""
    """Identifies the spool's signing key without revealing it; empty if it has none."""
    longest_link: int = 0
    """The longest text of a symbolic link, in bytes; 0 if all records are files."""


class RetryPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which failures of a task are retried, and when."""

    classes: tuple[str, ...] = ()
    """Exceptions as ``module.Class``, including their subclasses."""
    times: int = 3
    delay: float = 1.0
    """Seconds before the first retry."""
    factor: float = 2.0
    """Each delay is the previous one multiplied by this."""
    longest: float = 300.0
    """The longest delay, in seconds."""
    jitter: float = 0.1
    """A random fraction of the delay, up to this, is added to it."""


LONGEST_LABEL: Final = 80

DEFAULT_RETRY: Final = RetryPolicy()


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Header of a call's file; its payload is the concatenated `segments`.

    The last segment holds ``(args, kwargs)`` in the format `codec`; in a batch, the last `members`
    segments do. The segment before them, if any, holds the keyword arguments that the group's calls
    share.
    """

    id: str
    spool: str
    task: str
    queue: str
    slot: str
    created: float
    python: str
    """The caller's Python version, such as ``3.12``, for messages about unreadable pickles."""
    codec: str
    """The format of `segments` and the blob, and of the outcome; see `fsqueue.codec`."""
    max_attempts: int
    keep: bool
    """Keep the outcome, so that every process can read it until it expires."""
    segments: tuple[int, ...]
    members: int = 0
    """How many calls a batch holds; 0 if this is not a batch."""
    blob: str = ""
    """Digest of the blob with the common arguments, if they are large."""
    timeout: float = 0.0
    """Seconds that one attempt may take; 0 means no limit."""
    max_cuts: int = 3
    """How many times the end of a batch job may interrupt it, after it had nearly all the worker's
    time."""
    expires: float = 0.0
    """The time after which the call must not start; 0 means never."""
    retry: RetryPolicy = DEFAULT_RETRY
    capture: bool = False
    """Whether the task's output and log records are captured."""
    trace: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """The ``traceparent`` of the worker's span; empty without OpenTelemetry."""
    after: tuple[str, ...] = ()
    """The parents: invocations whose results its arguments refer to."""
    countdown: float = 0.0
    """Minimum seconds between the end of the last parent and the start."""
    retry_of: str = ""
    """The failed invocation that an operator retried as this one."""
    lanes: tuple[str, ...] = ()
    """The concurrency limits that apply to it; see `fsqueue.spool.features.limits`."""
    within: dict[str, str] = {}
    """By limit, the invocation on whose behalf this call was made, and which held a permit. While
    that invocation waits, it may run this call under its own permit."""
    cache: str = ""
    """The cache key under which equal calls find its result; empty if results are not cached."""
    cache_ttl: float = 0.0
    """The greatest age of a cached result that it may use instead of running, in seconds."""
    code: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """Digest of the task's module as the caller loaded it; empty if unknown."""
    caller: Process | None = None
    """The only process that can receive the outcome; None with `keep`, or from an older version."""
    label: str = ""
    """Names the call for people; empty without the task option."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A failure, readable without unpickling anything."""

    type: str
    message: str
    fp: str = ""
    """The fingerprint, shared by failures of the same kind; empty from an older version."""
    at: str = ""
    """Where it was raised: file, line and function in the user's code, if known."""


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of one call of a batch; `size` bytes of the payload belong to it."""

    state: State
    size: int
    failure: Failure | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Header of an outcome's file; its payload is the value or exception in the format `codec`.

    A failure without payload comes from the queue itself: `failure.type` names a class of
    `fsqueue.errors`. In a batch, it applies to all members.
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
    """The task's name, for display; empty if the call was not read."""
    queue: str = ""
    created: float = 0.0
    retries: int = 0
    python: str = ""
    """The worker's Python version."""
    cache: str = ""
    """Its name in ``cache/``; it is not valid there under any other name."""
    cache_ttl: float = 0.0
    """How long it stays in ``cache/``, in seconds."""
    caller: Process | None = None
    """The only process that can receive this; None if others may, or if unknown."""
    label: str = ""
    """The call's label, for display."""
    stale: str = ""
    """How the worker's code differs from the caller's; empty if it is the same, or if unknown."""

    def starts(self) -> list[int]:
        """Offsets of the members' payloads, in bytes."""
        return list(accumulate((member.size for member in self.members), initial=0))

    def part(
        self, payload: Payload, member: int | None, starts: Sequence[int] = ()
    ) -> tuple[State, Failure | None, Payload]:
        """State, failure and payload of one call of a batch, or of the only call.

        Args:
            payload: the file's payload.
            member: the call's number in its batch; None is the only call.
            starts: the result of `starts`, to avoid computing it for each call of a batch.

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


class Shown(Protocol):
    """The displayed fields of a call, from its header or its line in the journal, for example."""

    @property
    def task(self) -> str:
        """The task's name."""

    @property
    def queue(self) -> str:
        """The folder name of its queue."""

    @property
    def label(self) -> str:
        """The call's label."""


def shown(header: Shown | None) -> dict[str, Any]:
    """The fields of a header by which people recognize the call. All displays use this function."""
    if header is None:
        return {}
    return {"task": header.task, "queue": header.queue, "label": header.label}


def titled(name: str, call: Shown) -> str:
    """The name of a call or its task, followed by the call's label, if any."""
    return f"{name} ({call.label[:LONGEST_LABEL]})" if call.label else name


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a call, as passed to triggers."""

    id: str
    task: str
    members: int
    state: State
    failure: Failure


class BatchJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The batch job in which a worker runs, or only the end time that the worker was given."""

    system: str = ""
    """slurm, pbs, ...; empty outside of a job."""
    job: str = ""
    """The job's id, as the system's cancel command takes it."""
    array_task: str = ""
    restart: int = 0
    """How many times the job was requeued; it keeps its id."""
    fleet: str = ""
    token: str = ""
    """The submission of the fleet."""
    until: float = 0.0
    """When the worker exits at the latest, by the file server's clock; 0: unknown or never."""


NESTED: Final = "nested"
"""The `runner` of a worker within a slot process, which runs calls that the slot's task waits
for."""


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``workers/<worker>.json``."""

    name: str
    host: str
    boot: str
    """Identifies the machine's boot and the PID namespace in which `pid` is valid."""
    pid: Annotated[int, msgspec.Meta(gt=0, lt=1 << 31)]
    start: str
    """The process's start time, as reported by the system. It detects a reused pid."""
    queues: tuple[str, ...]
    runner: str
    concurrency: int
    started: float
    resources: str = ""
    """The resources that it offers to calls, as a profile."""
    batch: BatchJob | None = None
    """Its batch job; None without one, or from an older version."""


class ClientRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``clients/<client>.json``: a process that makes calls. Its calls are a run."""

    name: str
    host: str
    pid: int
    started: float
    """When it made its first call, by the file server's clock."""
    user: str = ""
    command: str = ""
    """Its command line, shortened; empty if the setting `record_commands` is off."""
    folder: str = ""
    """Its working directory."""
    parent: str = ""
    """The invocation whose body made the first call, if it was one."""
