"""Clients, workers and reapers on one spool, in any order, compared with a model in memory.

Each step is one operation of one process. It meets no trouble, or one fault, or somebody else
does something in the middle of it. More examples: ``--hypothesis-profile=long --timeout=0``.
"""

from __future__ import annotations

import errno

from hosts import Death, Gone, Interruption
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from model import Entry, Place, look
from people import Site
from support import WHOLE, publish_call
from sweep import ARGUMENTS, MAX_ATTEMPTS, QUEUE, RESULT_TTL

from examples import examples
from fsqueue.spool.format.states import State
from fsqueue.spool.worker.expiry import expire
from fsqueue.spool.worker.reaper import reap
from fsqueue.testing import Fault

CODES = st.sampled_from([errno.EIO, errno.ESTALE, errno.ENOSPC])
AT = st.integers(1, 9)
VERBS = st.sampled_from(["create", "write", "close", "rename", "link", "unlink", "mkdir"])
FAULTS = st.one_of(
    st.builds(lambda at, code: Fault.fail(code, at=at), AT, CODES),
    st.builds(lambda at: Fault.lost_reply(at=at), AT),
    st.builds(
        lambda verb, at, code: Fault.fail(code, at=at, verb=verb), VERBS, st.integers(1, 2), CODES
    ),
    st.builds(lambda verb, code: Fault.lost_reply(verb=verb, code=code), VERBS, CODES),
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
DEATHS = st.builds(Death, at=AT, after=st.booleans())
TROUBLE = st.sampled_from(
    [*[st.none()] * 4, *[FAULTS] * 3, *[INTERRUPTIONS] * 3, *[DEATHS] * 2]
).flatmap(lambda kind: kind)
CLOCK_STEPS = st.sampled_from([-7200.0, -60.0, 60.0, 7200.0])


class Spool(Site, RuleBasedStateMachine):
    """The steps, in any order."""

    @initialize(keeps=st.lists(st.booleans(), min_size=4, max_size=6), claims=st.integers(2, 6))
    def begin(self, keeps, claims):
        """There is work at once, and some of it begun."""
        for number, keep in enumerate(keeps):
            self.publish(number, keep, None)
        for number in range(claims):
            self.claim(number, None)

    @rule(who=INDEX, keep=st.booleans(), trouble=TROUBLE)
    def publish(self, who, keep, trouble):
        host = self.clients[who % 2]
        client = host.client
        invocation_id = client.new_id()
        entry = self.model.entries[invocation_id] = Entry(client.name, keep, "")
        with self.step(host, trouble):
            try:
                entry.path = publish_call(
                    client,
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
            except Gone:
                if invocation_id not in look(self.reapers[0].store).places:
                    del self.model.entries[invocation_id]
                raise

    @rule(who=INDEX, which=INDEX, trouble=TROUBLE)
    def collect(self, who, which, trouble):
        host = self.client_of(who)
        with self.step(host, trouble):
            self.run_collect(host, which)

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

    @rule(who=INDEX, trouble=TROUBLE)
    def crash(self, who, trouble):
        """A process is gone, and another one starts; a reaper finds what the first one held."""
        host = self.worker_of(who)
        host.die()
        with self.step(host, trouble):
            self.run_start(host)

    @rule(who=INDEX, trouble=TROUBLE)
    def claim(self, who, trouble):
        host = self.worker_of(who)
        with self.step(host, trouble):
            self.run_claim(host)

    @rule(who=INDEX, which=INDEX, failed=st.booleans(), trouble=TROUBLE)
    def complete(self, who, which, failed, trouble):
        host = self.holder_of(who)
        if host.claims:
            with self.step(host, trouble):
                self.run_complete(host, which, State.FAILED if failed else State.SUCCEEDED)

    @rule(who=INDEX, which=INDEX, trouble=TROUBLE, trouble_of_client=TROUBLE)
    def work(self, who, which, trouble, trouble_of_client):
        """What happens most: a call is run from its claim to its client."""
        self.claim(who, None)
        self.complete(who, which, which % 2 == 0, trouble)
        self.collect(which, which, trouble_of_client)

    @rule(who=INDEX, which=INDEX, trouble=TROUBLE)
    def give_back(self, who, which, trouble):
        host = self.holder_of(who)
        if host.claims:
            with self.step(host, trouble):
                self.run_give_back(host, which)

    @rule(who=INDEX, trouble=TROUBLE)
    def keep_alive(self, who, trouble):
        host = self.worker_of(who)
        with self.step(host, trouble):
            self.run_keep_alive(host)

    @rule(who=INDEX, which=INDEX, trouble=TROUBLE)
    def reap(self, who, which, trouble):
        """Somebody takes a worker for dead, rightly or not."""
        host = self.reapers[who % 2]
        with self.step(host, trouble):
            self.run_reap(host, which)

    @rule(who=INDEX, seconds=st.sampled_from([1.0, 11.0, 31.0]), trouble=TROUBLE)
    def observe(self, who, seconds, trouble):
        """Time passes; who was silent for too long is reaped."""
        host = self.reapers[who % 2]
        host.fs.clock_offset += seconds
        with self.step(host, trouble):
            alive = {n for n, when in self.beats.items() if when != host.beats_seen.get(n)}
            try:
                host.observer.discover()
                dead = host.observer.dead_elsewhere()
            finally:
                host.beats_seen = dict(self.beats)
            assert not alive & dead.keys(), "taken for dead though it has beaten since"
            for worker in sorted(dead, key=self.names.index):
                reap(host.store, worker, dead[worker])
                if self.quiet:
                    self.model.reap(worker)

    @rule(who=INDEX, aged=st.booleans(), trouble=TROUBLE)
    def expire(self, who, aged, trouble):
        """Results get old, and somebody cleans up."""
        hosts = (*self.reapers, *self.workers)
        host = hosts[who % len(hosts)]
        with self.step(host, trouble):
            self.age_results(every=aged)
            host.store.files.sync_clock()
            expire(host.store, result_ttl=RESULT_TTL)

    @rule(who=st.integers(0, 6), seconds=CLOCK_STEPS, noticed=st.booleans())
    def step_clock(self, who, seconds, noticed):
        """A host's steady clock is not so steady: it was suspended, or moved to another machine."""
        host = (*self.workers, *self.clients, *self.reapers)[who]
        host.fs.clock_offset += seconds
        if noticed:
            host.store.files.sync_clock()

    def teardown(self):
        try:
            if self.whole:
                self.come_to_an_end()
        finally:
            self.close()


QUICK = settings(
    max_examples=100 if WHOLE else 50,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# A search for sequences that nobody has tried: in `.ci/run --full`, or by hand with
# `FSQUEUE_TESTS_EXAMPLES=2000 pytest tests/property/test_state_machine.py --timeout=0`.
THOROUGH = settings(
    max_examples=examples(100), stateful_step_count=50, deadline=None, print_blob=True
)

TestSpool = Spool.TestCase
TestSpool.settings = THOROUGH if examples(100) > 100 else QUICK
