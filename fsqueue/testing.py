"""A filesystem that fails on purpose, to test how a spool reacts.

A store on it behaves like any other until a fault occurs::

    from fsqueue.spool.store.open_spool import open_store
    from fsqueue.testing import Fault, FaultyFilesystem

    fs = FaultyFilesystem()
    store = open_store(root, fs)
    fs.inject(Fault.lost_reply(verb="rename"))  # the next rename happens and reports ENOENT

The verbs are those that `fsqueue.spool.disk.filesystem.Filesystem` passes to its `_call`: create,
append, open, write, fsync, close, read, rename, link, symlink, unlink, mkdir, rmdir, listdir, stat,
fstat, utime, chmod, statvfs, lock, lease, ring.
"""

from __future__ import annotations

import enum
import errno
import os
import threading
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, ParamSpec, TypedDict, TypeVar, Unpack, cast

from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.disk.syscalls import Handle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
R = TypeVar("R")

CRASH_STATUS: Final = 86
"""Exit status of a process that a fault has ended."""

NAME_VERBS: Final = frozenset({"create", "rename", "link", "symlink", "unlink", "mkdir", "rmdir"})
"""Verbs that change names, each a round trip to the file server and a write to its journal."""

# The error that a client of a network filesystem reports when the server carried out the call, its
# reply got lost, and the repeated call found the work done. Other calls can be repeated without
# harm; for these a mount that gives up waiting ("soft") reports EIO.
_REPEATED: Final = MappingProxyType(
    {
        "rename": errno.ENOENT,
        "link": errno.EEXIST,
        "symlink": errno.EEXIST,
        "mkdir": errno.EEXIST,
        "unlink": errno.ENOENT,
        "rmdir": errno.ENOENT,
    }
)


class Effect(enum.Enum):
    """What a fault does to a call."""

    FAIL = enum.auto()
    """The call is not made; an `OSError` is raised."""
    LOSE_REPLY = enum.auto()
    """The call is made. Then the error that a repeated call would report is raised."""
    EXIT_BEFORE = enum.auto()
    """The process ends instead of the call: no `finally`, no `atexit`, as with SIGKILL."""
    EXIT_AFTER = enum.auto()
    """The process ends right after the call."""
    STALE = enum.auto()
    """A listing repeats the previous listing of the same folder."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, and the calls that it affects.

    Args:
        effect: what happens.
        at: number of the affected call among those that match, from 1; None affects all.
        verb: matches calls of this verb; None matches all.
        path: matches calls whose path or target contains this text.
        code: the `errno` of `Effect.FAIL`; for `Effect.LOSE_REPLY`, 0 chooses the verb's usual one.
    """

    effect: Effect
    at: int | None = 1
    verb: str | None = None
    path: str = ""
    code: int = 0

    @classmethod
    def fail(
        cls, code: int = errno.EIO, *, at: int | None = 1, verb: str | None = None, path: str = ""
    ) -> Fault:
        """The call fails with `code` and does nothing."""
        return cls(Effect.FAIL, at, verb, path, code)

    @classmethod
    def lost_reply(
        cls, *, at: int | None = 1, verb: str | None = None, path: str = "", code: int = 0
    ) -> Fault:
        """The call succeeds but reports an error, as when a network filesystem repeats it."""
        return cls(Effect.LOSE_REPLY, at, verb, path, code)

    @classmethod
    def crash(
        cls, *, after: bool, at: int | None = 1, verb: str | None = None, path: str = ""
    ) -> Fault:
        """The process ends right before or right after the call."""
        return cls(Effect.EXIT_AFTER if after else Effect.EXIT_BEFORE, at, verb, path)

    @classmethod
    def stale(cls, *, at: int | None = None, path: str = "") -> Fault:
        """Listings repeat the previous listing of the folder."""
        return cls(Effect.STALE, at, "listdir", path)

    def matches(self, operation: Operation) -> bool:
        """Whether the fault can affect this call."""
        if self.verb not in {None, operation.verb}:
            return False
        return self.path in operation.path or self.path in operation.target


class Operation(NamedTuple):
    """A call, made or replaced by a fault."""

    verb: str
    path: str
    target: str = ""
    """The second path of a rename or link."""


class FilesystemOptions(TypedDict, total=False):
    """Keyword arguments of `Filesystem`."""

    remote: bool
    asks_at_open: bool
    group: int | None
    durable: bool


class FaultyFilesystem(Filesystem):
    """A `Filesystem` that records its calls and injects faults.

    Several threads can use it. Calls are numbered in the order in which they begin.

    Args:
        faults: see `inject`.
        options: those of `Filesystem`.

    Attributes:
        trace: the calls since the last `inject`, in order.
        clock_offset: seconds by which this host's monotonic clock is ahead of the real one.
    """

    def __init__(self, faults: Iterable[Fault] = (), **options: Unpack[FilesystemOptions]) -> None:
        super().__init__(**options)
        self.trace: list[Operation] = []
        self.clock_offset: float = 0.0
        self._mutex = threading.Lock()
        self._pending: list[tuple[Fault, list[Operation]]] = []
        self._listings: dict[str, list[str]] = {}
        self.inject(*faults)

    def inject(self, *faults: Fault) -> None:
        """Start a new trace. These faults replace all earlier ones."""
        with self._mutex:
            self.trace = []
            self._pending = [(fault, []) for fault in faults]

    def count(self, *verbs: str) -> int:
        """The number of calls of these verbs in the trace; without verbs, of all calls."""
        return sum(1 for operation in self.trace if not verbs or operation.verb in verbs)

    def monotonic(self) -> float:
        """Seconds of a monotonic clock that `clock_offset` shifts."""
        return super().monotonic() + self.clock_offset

    def _call(self, verb: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        operation = self._describe(verb, args)
        fault = self._strike(operation)
        effect = fault.effect if fault else None
        if fault and effect is Effect.FAIL:
            raise _error(fault.code, operation)
        if effect is Effect.EXIT_BEFORE:
            self._die()
        if effect is Effect.STALE and operation.path in self._listings:
            return cast("R", list(self._listings[operation.path]))
        try:
            result = function(*args, **kwargs)
        finally:
            if effect is Effect.EXIT_AFTER:
                self._die()
        if fault and effect is Effect.LOSE_REPLY:
            for handle in args:  # the caller never gets the descriptor
                if isinstance(handle, Handle) and verb in {"create", "append"}:
                    os.close(handle.pop())
            raise _error(fault.code or _REPEATED.get(verb, errno.EIO), operation)
        self._remember(operation, result)
        return result

    def _die(self) -> None:
        os._exit(CRASH_STATUS)

    def _describe(self, verb: str, args: tuple[object, ...]) -> Operation:
        if args and isinstance(args[0], Handle):
            return Operation(verb, args[0].path)
        paths = [arg for arg in args[:2] if isinstance(arg, str)]
        return Operation(verb, *paths)

    def _strike(self, operation: Operation) -> Fault | None:
        with self._mutex:
            self.trace.append(operation)
            struck = None
            for fault, seen in self._pending:
                if fault.matches(operation):
                    seen.append(operation)
                    if fault.at is None or fault.at == len(seen):
                        struck = struck or fault
            return struck

    def _remember(self, operation: Operation, result: object) -> None:
        if operation.verb == "listdir":
            self._listings[operation.path] = list(cast("list[str]", result))


def _error(code: int, operation: Operation) -> OSError:
    return OSError(code, os.strerror(code), operation.path, None, operation.target or None)
