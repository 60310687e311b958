"""The messages between a slot process and its parent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from fsqueue.runner.attempt.answers import Ending
from fsqueue.spool.history.entries import Entry

if TYPE_CHECKING:
    from fsqueue.errors import FSQueueError
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.names import AttemptName


class Grant(NamedTuple):
    """The permission to go on with calls that the process claims itself."""

    patience: float = 0.0
    """Seconds for which it waits for the next call when there is none."""


class Work(NamedTuple):
    """A claim to execute."""

    claim: Claim
    devices: tuple[str, ...] = ()
    """The GPUs that the call may use, by name."""
    grant: Grant | None = None
    """The permission to continue with calls that it claims itself, if any."""


class Interrupt(NamedTuple):
    """The parent's order to cancel a coroutine."""

    attempt: AttemptName
    ending: Ending


class Return(NamedTuple):
    """The parent's order to claim nothing more."""


@dataclass(frozen=True)
class Ready:
    """Sent once: the application is imported and the spool is open."""


@dataclass(frozen=True)
class Unfit:
    """Sent instead of `Ready`, before the process ends.

    Attributes:
        reason: why no call can run here.
        final: whether the next process would fail in the same way.
    """

    reason: str
    final: bool


@dataclass(frozen=True)
class Limit:
    """The time limit of the current body in seconds; None when the body has ended.

    The parent measures the time: a body may keep the other threads of its process from running,
    and the signals and timers of the process belong to the body.
    """

    seconds: float | None


@dataclass(frozen=True)
class Coroutine:
    """The body of an attempt is a coroutine, which can be interrupted."""

    attempt: str


@dataclass(frozen=True)
class Ended:
    """The end of a claim, with the entries for the journal of the parent's worker.

    After calls that the process has claimed itself, the ending is None if a `Step` has reported it.
    """

    ending: Ending | FSQueueError | None
    entries: list[Entry]


class Step(msgspec.Struct, frozen=True, array_like=True):
    """Recorded by a process before it claims a call itself; the parent reads it later."""

    ending: Ending | None
    """How the previous call ended; None if its claim failed, or its end is already recorded."""
    entries: list[Entry]
    origin: str
    """The path of the pending attempt that it is about to claim; empty while it waits for one."""

    def frame(self) -> bytes:
        """The step in the form in which it is written to a pipe.

        Raises:
            UnicodeEncodeError: the path is not text.
        """
        data = _encode(self)
        return len(data).to_bytes(_PREFIX, "little") + data


_PREFIX = 4
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Step).decode


def take_steps(unread: bytearray) -> list[Step]:
    """Remove the complete steps from bytes that were read from a pipe, and return them."""
    steps, start = [], 0
    while (body := start + _PREFIX) <= len(unread):
        end = body + int.from_bytes(unread[start:body], "little")
        if end > len(unread):
            break
        steps.append(_decode(unread[body:end]))
        start = end
    del unread[:start]
    return steps


Message: TypeAlias = Ready | Unfit | Limit | Coroutine | Ended
"""A message of a slot process to its parent."""
