"""Clients, workers and reapers on one spool, in any order, compared with a model in memory.

Each step is one operation of one process. It meets no trouble, or one fault, or somebody else
does something in the middle of it. More examples: ``--hypothesis-profile=long``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from hosts import ClientHost, Interruption, ReaperHost, WorkerHost
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from model import Entry, Model, Place, look
from sweep import ARGUMENTS, MAX_ATTEMPTS, QUEUE, RESULT_TTL, clean_up, outcome_of

from fsqueue.errors import SpoolError
from fsqueue.spool.expiry import expire
from fsqueue.spool.layout import AttemptName
from fsqueue.spool.reaper import reap
from fsqueue.spool.states import State
from fsqueue.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hosts import Host

OLD = 1.0
CODES = st.sampled_from([errno.EIO, errno.ESTALE, errno.ENOSPC])
AT = st.integers(1, 9)
FAULTS = st.one_of(
    st.builds(lambda at, code: Fault.fail(code, at=at), AT, CODES),
    st.builds(lambda at: Fault.lost_reply(at=at), AT),
    st.builds(
        lambda verb, code: Fault.lost_reply(verb=verb, code=code),
        st.sampled_from(["create", "write", "close", "rename", "link", "unlink", "mkdir"]),
        CODES,
    ),
    st.just(Fault.stale()),
    # An NFS client's cached answer that there is no such outcome.
    st.just(Fault.fail(errno.ENOENT, at=None, verb="stat", path="/done/")),
)
INDEX = st.integers(0, 5)
INTERRUPTIONS = st.builds(
    Interruption,
    at=AT,
    action=st.sampled_from(["claim", "complete", "give_back", "keep_alive", "reap", "collect"]),
    who=INDEX,
    which=INDEX,
)
TROUBLE = st.sampled_from([*[st.none()] * 4, *[FAULTS] * 2, *[INTERRUPTIONS] * 3]).flatmap(
    lambda kind: kind
)
CLOCK_STEPS = st.sampled_from([-7200.0, -60.0, 60.0, 7200.0])


class Spool(RuleBasedStateMachine):
    """Three workers, two clients and two reapers."""

    def __init__(self) -> None:
        super().__init__()
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = tempfile.mkdtemp(prefix="fsqueue-machine-", dir=base)
        self.model = Model()
        self.workers = [WorkerHost(self.root) for _ in range(3)]
        self.clients = [ClientHost(self.root, f"client{number}") for number in range(2)]
        self.reapers = [ReaperHost(self.root) for _ in range(2)]
        self.names: list[str] = []
        self.beats: dict[str, int] = {}
        self.people = len(self.clients)
        self.quiet = True
        self.whole = True
        for host in self.workers:
            self.run_start(host)

    # -- steps -------------------------------------------------------------------------

    @contextlib.contextmanager
    def step(self, host: Host, trouble: Fault | Interruption | None) -> Iterator[None]:
        """One operation of one process, with what becomes of it."""
        self.quiet, self.whole = trouble is None, False
        if isinstance(trouble, Fault):
            host.fs.inject(trouble)
        elif trouble is not None:
            host.fs.interrupt(trouble.at, lambda: self.interlude(host, trouble))
        try:
            yield
        except (OSError, SpoolError):
            if self.quiet:
                raise
        host.fs.heal()
        sight = look(self.reapers[0].store)
        if self.quiet:
            self.model.compare(sight)
        self.model.take_over(sight)
        self.whole = True

    def interlude(self, busy: Host, what: Interruption) -> None:
        hosts = {"collect": self.clients, "reap": self.reapers}.get(what.action, self.workers)
        host = hosts[what.who % len(hosts)]
        if host is not busy:
            getattr(self, f"run_{what.action}")(host, *[what.which][: what.action != "claim"])

    def worker_of(self, index: int) -> WorkerHost:
        return self.workers[index % len(self.workers)]

    @initialize(keeps=st.lists(st.booleans(), min_size=4, max_size=6), claims=st.integers(1, 5))
    def begin(self, keeps, claims):
        """There is work at once, and some of it begun."""
        for number, keep in enumerate(keeps):
            self.publish(number, keep, None)
        for number in range(claims):
            self.claim(number, None)

    # -- clients -----------------------------------------------------------------------

    @rule(who=INDEX, keep=st.booleans(), trouble=TROUBLE)
    def publish(self, who, keep, trouble):
        host = self.clients[who % 2]
        client = host.client
        invocation_id = client.new_id()
        entry = self.model.entries[invocation_id] = Entry(client.name, keep, "")
        with self.step(host, trouble):
            try:
                entry.path = client.publish(
                    invocation_id,
                    "tasks.f",
                    QUEUE,
                    [ARGUMENTS],
                    max_attempts=MAX_ATTEMPTS,
                    keep=keep,
                ).path
                entry.place = Place("", 1)
            except OSError:
                del self.model.entries[invocation_id]  # refused: it must be nowhere
                raise

    def pick(self, host: ClientHost, which: int) -> tuple[str, Entry] | None:
        mine = [
            (invocation_id, entry)
            for invocation_id, entry in self.model.entries.items()
            if entry.client == host.client.name and not entry.settled
        ]
        mine.sort(key=lambda each: each[1].outcome is None)
        return mine[which % len(mine)] if mine else None

    @rule(who=INDEX, which=INDEX, trouble=TROUBLE)
    def collect(self, who, which, trouble):
        host = self.clients[who % 2]
        with self.step(host, trouble):
            self.run_collect(host, which)

    def run_collect(self, host: ClientHost, which: int) -> None:
        picked = self.pick(host, which)
        if picked is None:
            return
        invocation_id, entry = picked
        data = host.store.collect(invocation_id, keep=entry.keep)
        if data is None and entry.keep:
            data = host.store.peek(invocation_id)
        content = None
        if data is not None:
            content = bytes(host.store.read_outcome(invocation_id, data)[1])
            assert entry.outcome in {None, content}, "it was told otherwise before"
            entry.delivered.append(content)
        if self.quiet:
            assert content == entry.outcome
            if not entry.keep:
                entry.outcome = None

    @rule(who=INDEX, which=INDEX, trouble=TROUBLE)
    def withdraw(self, who, which, trouble):
        host = self.clients[who % 2]
        picked = self.pick(host, which)
        if picked is None:
            return
        entry = picked[1]
        with self.step(host, trouble):
            expected = entry.place == Place("", 1)
            # Nobody waits any more, whatever the answer is.
            entry.withdrawn = trouble is not None or expected
            withdrawn = host.store.withdraw(entry.path)
            if self.quiet:
                assert withdrawn == expected
                entry.place = None if withdrawn else entry.place

    @rule(who=INDEX, trouble=TROUBLE)
    def leave(self, who, trouble):
        host = self.clients[who % 2]
        with self.step(host, trouble):
            host.client.close()
        host.die()
        self.people += 1
        host.connect(f"client{self.people}")

    # -- workers -----------------------------------------------------------------------

    @rule(who=INDEX, trouble=TROUBLE)
    def crash(self, who, trouble):
        """A process is gone, and another one starts; a reaper finds what the first one held."""
        host = self.worker_of(who)
        host.die()
        with self.step(host, trouble):
            self.run_start(host)

    def run_start(self, host: WorkerHost) -> None:
        try:
            host.start()
        finally:
            self.note_beat(host)

    def note_beat(self, host: WorkerHost) -> None:
        name = host.worker.name
        if name not in self.names:
            self.names.append(name)
        self.beats[name] = self.beats.get(name, 0) + 1
        host.beat_at(sum(self.beats.values()))

    @rule(who=INDEX, trouble=TROUBLE)
    def claim(self, who, trouble):
        host = self.worker_of(who)
        with self.step(host, trouble):
            self.run_claim(host)

    def run_claim(self, host: WorkerHost) -> None:
        origin = host.backlog.next()
        if origin is None:
            return
        name = AttemptName.parse(os.path.basename(origin))
        assert name is not None
        worker = host.worker.name
        entry = self.model.entries[name.invocation_id]
        there = os.path.exists(origin) and os.path.isdir(host.store.layout.running(worker))
        claim = host.worker.claim(origin)
        if claim is not None:
            host.claims.append(claim)
            entry.starts.append(name.attempt)
        if self.quiet:
            # What the worker has listed a moment ago may be gone: then it gets no claim.
            assert not claim or name.attempt > 1 or entry.outcome is None or entry.settled
            if there:
                self.model.claim(name.invocation_id, worker)
            started = there and entry.place is not None
            assert (claim is not None) == started

    @rule(who=INDEX, which=INDEX, failed=st.booleans(), trouble=TROUBLE)
    def complete(self, who, which, failed, trouble):
        host = self.worker_of(who)
        if host.claims:
            with self.step(host, trouble):
                self.run_complete(host, which, State.FAILED if failed else State.SUCCEEDED)

    def run_complete(self, host: WorkerHost, which: int, state: State = State.SUCCEEDED) -> None:
        """Publish the outcome of a claim; if that fails the worker tries again some day."""
        if not host.claims:
            return
        claim = host.claims[which % len(host.claims)]
        name = claim.name
        host.worker.release(claim)
        content = f"{name} by {claim.worker}".encode()
        published = host.store.complete(claim, outcome_of(host.store, name, state), [content])
        host.worker.forget(name)
        host.claims.remove(claim)
        if self.quiet:
            finished = self.model.finish(name.invocation_id, claim.worker, name.attempt, content)
            assert published == finished

    @rule(who=INDEX, which=INDEX, trouble=TROUBLE)
    def give_back(self, who, which, trouble):
        host = self.worker_of(who)
        if host.claims:
            with self.step(host, trouble):
                self.run_give_back(host, which)

    def run_give_back(self, host: WorkerHost, which: int) -> None:
        if not host.claims:
            return
        claim = host.claims[which % len(host.claims)]
        if not host.worker.release(claim):
            return  # its outcome is on the way
        host.claims.remove(claim)
        try:
            given = host.store.give_back(claim)
        finally:
            host.worker.forget(claim.name)
        if self.quiet:
            name = claim.name
            assert given == self.model.give_back(name.invocation_id, claim.worker, name.attempt)

    @rule(who=INDEX, trouble=TROUBLE)
    def keep_alive(self, who, trouble):
        host = self.worker_of(who)
        with self.step(host, trouble):
            self.run_keep_alive(host)

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

    # -- reapers -----------------------------------------------------------------------

    @rule(who=INDEX, which=INDEX, trouble=TROUBLE)
    def reap(self, who, which, trouble):
        """Somebody takes a worker for dead, rightly or not."""
        host = self.reapers[who % 2]
        with self.step(host, trouble):
            self.run_reap(host, which)

    def run_reap(self, host: ReaperHost, which: int) -> None:
        # The latest ones: those before are most likely gone.
        worker = self.names[-1 - which % len(self.names)]
        reap(host.store, worker, "silent")
        if self.quiet:
            self.model.reap(worker)

    @rule(who=INDEX, seconds=st.sampled_from([1.0, 11.0, 31.0]), trouble=TROUBLE)
    def observe(self, who, seconds, trouble):
        """Time passes; who was silent for too long is reaped."""
        host = self.reapers[who % 2]
        host.fs.clock_offset += seconds
        with self.step(host, trouble):
            host.observer.discover()
            dead = host.observer.dead_elsewhere()
            alive = {n for n, count in self.beats.items() if count != host.beats_seen.get(n)}
            host.beats_seen = dict(self.beats)
            assert not alive & dead.keys(), "taken for dead though it has beaten since"
            for worker in sorted(dead):
                reap(host.store, worker, dead[worker])
                if self.quiet:
                    self.model.reap(worker)

    @rule(who=INDEX, aged=st.booleans(), trouble=TROUBLE)
    def expire(self, who, aged, trouble):
        """Results get old, and somebody cleans up."""
        hosts = (*self.reapers, *self.workers)
        host = hosts[who % len(hosts)]
        with self.step(host, trouble):
            if aged:
                self.age_results()
            host.store.sync_clock()
            expire(host.store, result_ttl=RESULT_TTL)

    def age_results(self) -> None:
        for entry in self.model.entries.values():
            if entry.outcome is not None:
                entry.expired = True
                entry.outcome = None if self.quiet else entry.outcome
        for top in ("done", "kept", "failed"):
            for folder, _, names in os.walk(f"{self.root}/{top}"):
                for name in names:
                    os.utime(f"{folder}/{name}", (OLD, OLD))

    @rule(who=st.integers(0, 6), seconds=CLOCK_STEPS, noticed=st.booleans())
    def step_clock(self, who, seconds, noticed):
        """A host's steady clock is not so steady: it was suspended, or moved to another machine."""
        host = (*self.workers, *self.clients, *self.reapers)[who]
        host.fs.clock_offset += seconds
        if noticed:
            host.store.sync_clock()

    # -- the end -----------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.whole:
                self.come_to_an_end()
        finally:
            for host in (*self.workers, *self.clients):
                host.die()
            shutil.rmtree(self.root)

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
        rescuer = WorkerHost(self.root)
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
            for which in reversed(range(len(self.model.entries))):  # what is collected drops out
                with self.step(host, None):
                    self.run_collect(host, which)
            host.client.close()
            host.die()
        self.workers[-1].die()
        reaper = self.reapers[1]
        reaper.store.sync_clock()
        assert clean_up(reaper.store, reaper.fs) == []


QUICK = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
LONG = "long"

TestSpool = Spool.TestCase
TestSpool.settings = settings() if settings.get_current_profile_name() == LONG else QUICK
