"""What the processes of the state machine do, and what becomes of it in the spool and the model."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
from hosts import ClientHost, Death, Gone, Interruption, ReaperHost, ServerTime, WorkerHost
from model import Entry, Model, look
from sweep import clean_up, outcome_of

from fsqueue.errors import SpoolError
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.format.states import State
from fsqueue.spool.worker.reaper import reap
from fsqueue.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hosts import Host

OLD = 1.0
TICK = 0.05
"""Seconds that a step takes by the file server's clock."""


class Site:
    """Three workers, two clients and two reapers on one spool."""

    def __init__(self) -> None:
        super().__init__()
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = tempfile.mkdtemp(prefix="fsqueue-machine-", dir=base)
        self.model = Model()
        self.time = ServerTime()
        # Names that are the same whenever an example is repeated: hypothesis seeds this source.
        self.naming = pytest.MonkeyPatch()
        self.naming.setattr(secrets, "choice", random.choice)
        self.workers = [WorkerHost(self.root, self.time) for _ in range(3)]
        self.clients = [ClientHost(self.root, self.time, f"client{number}") for number in range(2)]
        self.reapers = [ReaperHost(self.root, self.time) for _ in range(2)]
        self.names: list[str] = []
        self.beats: dict[str, float] = {}
        """When each worker has beaten last."""
        self.people = len(self.clients)
        self.trouble: Fault | Interruption | Death | None = None
        self.quiet = True
        """Nothing fails in this step, and nobody interferes."""
        self.whole = True
        """No step has failed the test."""
        for host in self.workers:
            self.run_start(host)

    def close(self) -> None:
        for host in (*self.workers, *self.clients):
            host.die()
        self.naming.undo()
        shutil.rmtree(self.root)

    @contextlib.contextmanager
    def step(self, host: Host, trouble: Fault | Interruption | Death | None) -> Iterator[None]:
        """One operation of one process, with what becomes of it."""
        self.trouble, self.quiet, self.whole = trouble, trouble is None, False
        self.time.now += TICK
        if isinstance(trouble, Fault):
            host.fs.inject(trouble)
        elif isinstance(trouble, Death):
            host.fs.die(trouble)
        elif trouble is not None:
            host.fs.interrupt(trouble.at, lambda: self.interlude(host, trouble))
        try:
            yield
        except (OSError, SpoolError):
            if self.quiet:
                raise
        except Gone:
            host.fs.heal()
            self.replace(host)
        host.fs.heal()
        sight = look(self.reapers[0].store)
        if self.quiet:
            self.model.compare(sight)
        self.model.take_over(sight)
        self.whole = True

    def replace(self, host: Host) -> None:
        """A process has died, and another one starts in its place."""
        if isinstance(host, WorkerHost):
            host.die()
            self.run_start(host)
        elif isinstance(host, ClientHost):
            host.die()
            self.people += 1
            host.connect(f"client{self.people}")

    def interlude(self, busy: Host, what: Interruption) -> None:
        host = {
            "collect": self.client_of,
            "reap": lambda who: self.reapers[who % 2],
            "complete": self.holder_of,
            "give_back": self.holder_of,
        }.get(what.action, self.worker_of)(what.who)
        if host is not busy:
            getattr(self, f"run_{what.action}")(host, *[what.which][: what.action != "claim"])

    def worker_of(self, index: int) -> WorkerHost:
        return self.workers[index % len(self.workers)]

    def holder_of(self, index: int) -> WorkerHost:
        """A worker with claims, if there is one."""
        holders = [host for host in self.workers if host.claims] or self.workers
        return holders[index % len(holders)]

    def client_of(self, index: int) -> ClientHost:
        """A client that has something to collect, if there is one."""
        ready = {each.client for each in self.model.entries.values() if each.outcome is not None}
        hosts = [host for host in self.clients if host.client.name in ready] or self.clients
        return hosts[index % len(hosts)]

    def pick(self, host: ClientHost, which: int) -> tuple[str, Entry] | None:
        mine = [
            (invocation_id, entry)
            for invocation_id, entry in self.model.entries.items()
            if entry.client == host.client.name and not entry.settled
        ]
        mine = [each for each in mine if each[1].outcome is not None] or mine
        return mine[which % len(mine)] if mine else None

    def run_collect(self, host: ClientHost, which: int) -> None:
        picked = self.pick(host, which)
        if picked is None:
            return
        invocation_id, entry = picked
        # Who dies with it in hand has it, or not.
        entry.withdrawn = isinstance(self.trouble, Death) and not entry.keep
        data = host.store.outcomes.collect(invocation_id, keep=entry.keep)
        if data is None and entry.keep:
            data = host.store.outcomes.peek(invocation_id)
        content = None
        if data is not None:
            content = bytes(host.store.outcomes.read(invocation_id, data)[1].data)
            assert entry.outcome in {None, content}, "it was told otherwise before"
            entry.delivered.append(content)
        if self.quiet:
            assert content == entry.outcome
            if not entry.keep:
                entry.outcome = None

    def run_start(self, host: WorkerHost) -> None:
        try:
            host.start()
        finally:
            self.note_beat(host)

    def note_beat(self, host: WorkerHost) -> None:
        name = host.worker.name
        if name not in self.names:
            self.names.append(name)
        with contextlib.suppress(FileNotFoundError):
            self.beats[name] = os.stat(host.store.layout.worker_beat(name)).st_mtime

    def run_claim(self, host: WorkerHost) -> None:
        origin = host.backlog.next()
        if origin is None:
            return
        name = AttemptName.parse(os.path.basename(origin))
        assert name is not None
        worker = host.worker.name
        entry = self.model.entries[name.invocation_id]
        folder = host.store.layout.running(worker)
        # By an earlier claim whose reply was lost. A listing from before it still has the name.
        stray = str(name) not in host.worker._taken and os.path.lexists(f"{folder}/{name}")
        there = (os.path.lexists(origin) and os.path.isdir(folder)) or stray
        try:
            claim = host.worker.claim(origin)
        except OSError:
            if os.path.isdir(folder):
                raise
            claim = None  # it was declared dead, and claims nothing until it has registered again
        if claim is not None:
            host.claims.append(claim)
            entry.starts.append(name.attempt)
        if self.quiet:
            if there:
                assert entry.outcome is None or name.attempt > 1 or entry.settled
                self.model.claim(name.invocation_id, worker)
            started = there and entry.place is not None
            assert (claim is not None) == started

    def run_complete(self, host: WorkerHost, which: int, state: State = State.SUCCEEDED) -> None:
        """Publish the outcome of a claim; if that fails the worker tries again some day."""
        if not host.claims:
            return
        claim = host.claims[which % len(host.claims)]
        name = claim.name
        host.worker.release(claim)
        content = f"{name} by {claim.worker}".encode()
        published = host.store.endings.complete(
            claim, outcome_of(host.store, name, state), [content]
        )
        host.worker.forget(claim)
        host.claims.remove(claim)
        if self.quiet:
            entry = self.model.entries[name.invocation_id]
            finished = self.model.finish(name.invocation_id, claim.worker, name.attempt, content)
            # The mailbox is empty again after a collection; what is late there is never seen.
            assert published == finished or (published and entry.keep and entry.delivered)

    def run_give_back(self, host: WorkerHost, which: int) -> None:
        if not host.claims:
            return
        claim = host.claims[which % len(host.claims)]
        if not host.worker.release(claim):
            return  # its outcome is on the way
        host.claims.remove(claim)
        try:
            given = host.store.claims.give_back(claim)
        finally:
            host.worker.forget(claim)
        if self.quiet:
            name = claim.name
            assert given == self.model.give_back(name.invocation_id, claim.worker, name.attempt)

    def run_keep_alive(self, host: WorkerHost, _: int = 0) -> None:
        known = set(host.worker._taken)
        former = host.worker.name
        try:
            host.worker.keep_alive()
        finally:
            if host.worker.name != former:
                host.move_away()
            self.note_beat(host)
        if self.quiet and host.worker.name == former:
            self.model.return_strays(former, known)

    def run_reap(self, host: ReaperHost, which: int) -> None:
        # The latest ones: those before are most likely gone.
        worker = self.names[-1 - which % len(self.names)]
        reap(host.store, worker, "silent")
        if self.quiet:
            self.model.reap(worker)

    def age_results(self, *, every: bool) -> None:
        """Let outcomes be old: all of them, or those that have outlived a failed clean-up."""
        for invocation_id, entry in self.model.entries.items():
            if entry.outcome is None or not (every or entry.expired):
                continue
            entry.expired = True
            entry.outcome = None if self.quiet else entry.outcome
            for top in ("done", "kept"):
                with contextlib.suppress(FileNotFoundError):
                    os.utime(
                        f"{self.root}/{top}/{entry.client}/{invocation_id}",
                        (OLD, OLD),
                        follow_symlinks=False,
                    )

    def come_to_an_end(self) -> None:
        """The silent ones finish late, everybody dies, others recover: all calls are answered."""
        for host in self.workers:
            while host.claims:
                with self.step(host, None):
                    self.run_complete(host, 0)
            host.die()
        for which in range(len(self.names)):
            with self.step(self.reapers[0], None):
                self.run_reap(self.reapers[0], which)
        rescuer = WorkerHost(self.root, self.time)
        self.workers.append(rescuer)
        self.run_start(rescuer)
        while any(entry.place for entry in self.model.entries.values()):
            before = look(rescuer.store)
            with self.step(rescuer, None):
                self.run_claim(rescuer)
            if rescuer.claims:
                with self.step(rescuer, None):
                    self.run_complete(rescuer, 0)
            assert look(rescuer.store) != before, "nobody finds what is pending"
        self.check_the_end()

    def check_the_end(self) -> None:
        for invocation_id, entry in self.model.entries.items():
            assert entry.settled or entry.outcome is not None, f"{invocation_id} has no outcome"
            assert entry.keep or len(entry.delivered) <= 1
        for host in self.clients:
            for which in reversed(range(len(self.model.entries))):  # what is removed drops out
                with self.step(host, None):
                    self.run_collect(host, which)
            host.client.close()
            host.die()
        self.workers[-1].die()
        reaper = self.reapers[1]
        reaper.store.files.sync_clock()
        assert clean_up(reaper.store, reaper.fs) == []
