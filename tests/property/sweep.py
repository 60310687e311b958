"""A spool with somebody whose filesystem fails on purpose, and others who recover.

A sweep runs one operation once for each filesystem call that it makes, with a fault at that
call, on a spool of its own each time; then it lets others recover and walks the spool.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dying import InterruptibleFilesystem
from support import open_store

from fsqueue.codec import encode
from fsqueue.errors import EnvelopeError
from fsqueue.spool.caller.client import Client
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.files.checks import is_abandoned
from fsqueue.spool.files.files import Files
from fsqueue.spool.format.claim import Claim
from fsqueue.spool.format.names import DEFAULT_PRIORITY, AttemptName, Slot
from fsqueue.spool.format.records import Call, Failure, Outcome
from fsqueue.spool.format.states import State
from fsqueue.spool.store.store import Store
from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.spool.worker.expiry import expire
from fsqueue.spool.worker.reaper import reap
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import Fault, FaultyFilesystem

if TYPE_CHECKING:
    from collections.abc import Iterable


QUEUE = "default"
CLIENT = "client0001"
ID = f"{CLIENT}-1"
PARENTS = ("parent0001-1", "parent0001-2")
MAX_ATTEMPTS = 3
ARGUMENTS = encode(((20,), {"b": 22}), "the arguments")
LATE = b"published by the worker that was taken for dead"
BODY = b"published by a worker of the recovery"
OWN = b"published by the operation itself"
EMPTY = frozenset({b""})
RESULT_TTL = 7 * 86_400.0


def deaths(calls: int) -> list[Fault]:
    """A death at each of so many filesystem calls, before it and after it.

    Between two calls nothing happens to the files, so to die before one is to die after the last.
    """
    return [
        Fault.crash(after=False),
        *(Fault.crash(after=True, at=at) for at in range(1, calls + 1)),
    ]


def opened(root: str, fs: Filesystem) -> Store:
    """Open a spool. One that is there is not made again: that takes most of the time."""
    try:
        with open(f"{root}/spool.json", "rb") as file:
            spool_id = json.load(file)["id"]
    except FileNotFoundError:
        spool_id = ""
    return open_store(root, fs, expected=spool_id)


def worker_of(store: Store) -> Worker:
    worker = Worker(store, queues=(QUEUE,), runner="thread", concurrency=1)
    worker.register()
    return worker


def client_of(store: Store, name: str = CLIENT) -> Client:
    client = Client(store, events=False, poll_interval=0.1, on_silence=lambda: True)
    client.name = name
    return client


def call_of(store: Store, invocation_id: str = ID, *, age: float = 1.0, keep: bool = True) -> Call:
    now = store.clock.now()
    return Call(
        id=invocation_id,
        spool=store.files.info.id,
        task="tasks.f",
        queue=QUEUE,
        slot=str(Slot(DEFAULT_PRIORITY, now - age)),
        created=now,
        python="3",
        codec="cloudpickle",
        max_attempts=MAX_ATTEMPTS,
        keep=keep,
        segments=(len(ARGUMENTS),),
    )


def outcome_of(store: Store, name: AttemptName, state: State = State.SUCCEEDED) -> Outcome:
    return Outcome(
        id=name.invocation_id,
        spool=store.files.info.id,
        attempt=name.attempt,
        state=state,
        worker="w",
        started=0.0,
        ended=0.0,
        codec="cloudpickle",
        failure=Failure("ValueError", "bad") if state is State.FAILED else None,
    )


def work(store: Store, worker: Worker) -> list[int]:
    """Run all that is pending, as a runner does; returns the attempts that ran."""
    if os.listdir(store.layout.after_folder):
        # In the order in which nobody moves it on as a matter of course.
        end_parents(store, PARENTS)
        move_what_is_parked(store)
    ran = []
    backlog = FolderBacklog(store, QUEUE)
    while (origin := backlog.next()) is not None:
        claim = worker.claim(origin)
        if claim is None:
            continue
        try:
            call, _ = store.calls.read_claimed(claim)
        except EnvelopeError as error:
            worker.release(claim)
            store.endings.quarantine(claim.path, claim.name, str(error))
        else:
            worker.release(claim)
            if is_abandoned(call):
                store.withdraw(claim.path)
            else:
                store.endings.complete(claim, outcome_of(store, claim.name), [BODY])
        worker.forget(claim)
        ran.append(claim.name.attempt)
    return ran


def end_parents(store: Store, parents: Iterable[str]) -> None:
    """What the call waits for ends."""
    for parent in parents:
        name = AttemptName(parent, 1)
        store.outcomes.publish(outcome_of(store, name), [BODY])


def move_what_is_parked(store: Store) -> None:
    """As the worker in charge does each heartbeat."""
    store.dependencies.recover(store.dependencies.refresh())


def walk(root: str) -> tuple[list[str], list[str]]:
    """Relative paths of the files and of the folders in a folder, at any depth."""
    files: list[str] = []
    folders: list[str] = []
    to_do = [""]
    while to_do:
        prefix = to_do.pop()
        with os.scandir(f"{root}/{prefix}") as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(prefix + entry.name)
                    to_do.append(f"{prefix}{entry.name}/")
                else:
                    files.append(prefix + entry.name)
    return sorted(files), folders


class Mount(NamedTuple):
    """The kind of filesystem that the spool lies on."""

    name: str
    remote: bool = False
    habits: tuple[Fault, ...] = ()
    """What it always does, to everybody."""

    def __str__(self) -> str:
        return self.name


LOCAL = Mount("local")
REMOTE = Mount("remote", remote=True)
NO_LINKS = Mount("no-links", habits=(Fault.fail(errno.EPERM, at=None, verb="link"),))


def clean_up(store: Store, fs: FaultyFilesystem | HealthyFilesystem) -> list[str]:
    """Remove what the dead have left once all times to live are over; returns what is left."""
    layout = store.layout
    names = {name.rpartition(".")[0] for name in fs.names(layout.workers_folder)}
    for worker in names | set(fs.names(layout.running_folder)):
        reap(store, worker, "killed")
    fs.clock_offset += RESULT_TTL + 86_400.0
    expire(store, result_ttl=RESULT_TTL)
    FolderBacklog(store, QUEUE).next()
    files, folders = walk(layout.root)
    stay = {*map(os.path.basename, layout.folders), f"pending/{QUEUE}", "spool.json"}
    return [name for name in (*files, *folders) if name not in stay]


class HealthyFilesystem(Filesystem):
    """Does what it should, with a clock that the test moves; most calls of a sweep are its own."""

    clock_offset = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.clock_offset


@dataclass
class Stage:
    """One spool, one worker and one client over a faulty filesystem, others over a healthy one."""

    root: str
    mount: Mount = LOCAL
    fs: InterruptibleFilesystem = field(init=False)

    def __post_init__(self) -> None:
        self.fs = InterruptibleFilesystem(self.mount.habits, remote=self.mount.remote)
        self.healthy_fs = (
            FaultyFilesystem(self.mount.habits, remote=self.mount.remote)
            if self.mount.habits
            else HealthyFilesystem(remote=self.mount.remote)
        )
        self.store = opened(self.root, self.fs)
        self.healthy = Store(Files(self.healthy_fs, self.store.layout, self.store.files.info))
        self.healthy.files.sync_clock()
        self.worker = worker_of(self.store)
        self.others: list[Worker] = []
        self._rescuer: Worker | None = None
        self.client = client_of(self.store)
        self.layout = self.store.layout
        self.call = call_of(self.store)
        self.claim: Claim | None = None
        self.origin = ""
        self.returned: object = None
        self.seen: bytes | None = None
        self.forsaken = False

    @property
    def rescuer(self) -> Worker:
        """A worker that comes when it is needed."""
        if self._rescuer is None:
            self._rescuer = worker_of(self.healthy)
        return self._rescuer

    def workers(self) -> list[Worker]:
        """All that have come."""
        rescuer = [] if self._rescuer is None else [self._rescuer]
        return [self.worker, *rescuer, *self.others]

    def inject(self, *faults: Fault) -> None:
        self.fs.inject(*faults, *self.mount.habits)

    def publish(self, *, attempt: int = 1, age: float = 1.0) -> None:
        self.call = call_of(self.store, age=age)
        path = self.healthy.publish(self.call, [ARGUMENTS])
        self.origin = path.removesuffix(".1") + f".{attempt}"
        os.rename(path, self.origin)

    def take(self, *, attempt: int = 1) -> None:
        self.publish(attempt=attempt)
        self.claim = self.worker.claim(self.origin)

    def publish_outcome(self, attempt: int, content: bytes) -> None:
        """As a worker does that has lost its claim meanwhile."""
        name = AttemptName(ID, attempt)
        path = f"{self.layout.running('gone')}/{name}"
        lost = Claim(name, path, "", "gone", str(name))
        self.healthy.endings.complete(lost, outcome_of(self.healthy, name), [content])

    def close(self) -> None:
        for holder in (self.client, *self.workers()):
            if holder._lock is not None:
                holder._lock.release()
                holder._lock = None

    # -- walking -----------------------------------------------------------------------

    def files(self) -> list[str]:
        """Relative paths of all files, but the outcomes of the call's parents."""
        return [path for path in walk(self.root)[0] if os.path.basename(path) not in PARENTS]

    def places(self) -> list[str]:
        """Where the call's file is, unless it is finished."""
        return [
            f"{top}/{path}"
            for top in ("pending", "after", "running")
            if os.path.isdir(f"{self.root}/{top}")
            for path in walk(f"{self.root}/{top}")[0]
        ]

    def content(self) -> bytes | None:
        """What the outcome says to whoever looks."""
        data = self.healthy.outcomes.peek(ID)
        return None if data is None else bytes(self.healthy.outcomes.read(ID, data)[1].data)

    # -- the end -----------------------------------------------------------------------

    def forsake(self) -> list[str]:
        """Everybody dies; returns what the next clean-up after all times to live has left."""
        self.close()
        left = clean_up(self.healthy, self.healthy_fs)
        self.forsaken = left == []
        return left

    def is_as_new(self) -> bool:
        """Whether another stage finds what it would in a new spool: all is gone after the end."""
        if not self.forsaken:
            return False
        self.healthy_fs.rmdir(self.layout.queue(QUEUE))
        files, folders = walk(self.root)
        return files == ["spool.json"] and len(folders) == len(self.layout.folders)
