"""A stand-in for an NFSv4 mount: leases on local files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from fsqueue.testing import FaultyFilesystem

ENV = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
"""The environment of a child process that imports this module."""

_F_SETOWN_EX, _F_OWNER_TID = 15, 0


def break_locally(path: str) -> None:
    """Break a lease on a local file. It takes an attempt to write, and not only new times."""
    with contextlib.suppress(BlockingIOError):  # the answer while there is one
        os.close(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK))


class Mounted(FaultyFilesystem):
    """Passes for an NFSv4 mount of a host of its own, with a clock that can be stopped.

    Attributes:
        stopped_at: the time at which its clock stands still; None: it goes on.
        deaf: the kernel tells no thread of a recalled lease.
    """

    def __init__(self, *faults) -> None:
        self.stopped_at: float | None = None
        self.deaf = False
        super().__init__(faults, remote=True)

    def monotonic(self) -> float:
        return super().monotonic() if self.stopped_at is None else self.stopped_at

    def stop_clock(self) -> None:
        self.stopped_at = super().monotonic()

    def go_on(self) -> None:
        self.stopped_at = None

    def lease(self, path, told):
        handle = super().lease(path, told)
        if self.deaf:
            fcntl.fcntl(handle[0], _F_SETOWN_EX, struct.pack("ii", _F_OWNER_TID, 0))
        return handle

    def ring_token(self, path) -> None:
        super().ring_token(path)
        break_locally(path)

    def listings(self, folder: str) -> int:
        return sum(op.verb == "listdir" and op.path == folder for op in self.trace)
