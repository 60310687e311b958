"""The processes of the state machine: each has a filesystem, a clock and a handle of its own."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from dying import InterruptibleFilesystem
from support import open_store
from sweep import QUEUE

from fsqueue.spool.caller.client import Client
from fsqueue.spool.format.records import WorkerRecord
from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.spool.worker.liveness import Observer
from fsqueue.spool.worker.registration import Worker

if TYPE_CHECKING:
    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.store.store import Store

HEARTBEAT, LEASE = 5.0, 30.0


class Interruption(NamedTuple):
    """Somebody else does something whole in the middle of an operation."""

    at: int
    """Before the call of this number, from 1."""
    action: str
    who: int
    which: int


class Death(NamedTuple):
    """The process is gone in the middle of an operation."""

    at: int
    """At the call of this number, from 1."""
    after: bool
    """As soon as that call has been made, and not before."""


class Gone(BaseException):
    """Nothing of the process runs any more: nothing may catch this and then call the disk."""


class ServerTime:
    """The file server's clock, which goes on when the test says so.

    With real clocks no run is like the one before, and hypothesis cannot find what made one fail.
    """

    def __init__(self) -> None:
        self.now = float(int(time.time()))


class SharedFilesystem(InterruptibleFilesystem):
    """A filesystem whose times are those of a server that the test moves on."""

    def __init__(self, time: ServerTime) -> None:
        super().__init__()
        self._time = time
        self._death: Death | None = None

    def monotonic(self) -> float:
        return self._time.now + self.clock_offset

    def die(self, death: Death) -> None:
        self._death = death

    def heal(self) -> None:
        super().heal()
        self._death = None

    def _call(self, verb, function, /, *args, **kwargs):
        death = self._death
        if death is not None:
            self._death = death = death._replace(at=death.at - 1)
            if death.at < 0 or (death.at == 0 and not death.after):
                raise Gone
        result = super()._call(verb, function, *args, **kwargs)
        if verb in {"utime", "create", "write", "symlink"}:
            file = args[0][0] if verb == "write" else args[0]  # a `Handle`, or a path
            times = (self._time.now, self._time.now)
            os.utime(file, times, **({} if verb == "write" else {"follow_symlinks": False}))
        return result


class Host:
    """One process."""

    def __init__(self, root: str, time: ServerTime) -> None:
        self.fs = SharedFilesystem(time)
        self.store: Store = open_store(root, self.fs)
        self.store.files.sync_clock()


class WorkerHost(Host):
    """A worker, which may be dead, or think that it lives."""

    def __init__(self, root: str, time: ServerTime) -> None:
        super().__init__(root, time)
        self.worker: Worker | None = None
        self.backlog = FolderBacklog(self.store, QUEUE)
        self.claims: list[Claim] = []

    def start(self) -> None:
        self.worker = Worker(self.store, queues=(QUEUE,), runner="thread", concurrency=9)
        self.worker.register()
        self.move_away()

    def move_away(self) -> None:
        """Let the others take this worker for one of another machine."""
        path = self.store.layout.worker_record(self.worker.name)
        if os.path.lexists(path):
            with open(path, "rb") as file:
                record = msgspec.json.decode(file.read(), type=WorkerRecord)
            with open(path, "wb") as file:
                file.write(msgspec.json.encode(msgspec.structs.replace(record, boot="elsewhere")))

    def die(self) -> None:
        if self.worker is not None and self.worker._lock is not None:
            self.worker._lock.release()
        self.worker, self.claims = None, []


class ClientHost(Host):
    """A process that makes calls; when it has left, another one takes its place."""

    def __init__(self, root: str, time: ServerTime, name: str) -> None:
        super().__init__(root, time)
        self.client = self.connect(name)

    def connect(self, name: str) -> Client:
        self.client = Client(self.store, events=False, poll_interval=0.1, on_silence=lambda: True)
        self.client.name = name
        return self.client

    def die(self) -> None:
        if self.client._lock is not None:
            self.client._lock.release()
            self.client._lock = None


class ReaperHost(Host):
    """A process that looks after the others."""

    def __init__(self, root: str, time: ServerTime) -> None:
        super().__init__(root, time)
        self.observer = Observer(self.store, heartbeat=HEARTBEAT, lease=LEASE)
        self.beats_seen: dict[str, float] = {}
