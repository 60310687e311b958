"""Random histories of a fleet: two autoscalers, kills at every step, a cluster that misbehaves.

Never are there more than `max` jobs, nor a job that the fleet does not know; and without demand
all jobs and slots are gone in the end.

`FSQUEUE_FLEET_RUNS` sets the number of histories of all tests together (default 100, or 48).
"""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from fleet_harness import World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from property.dying import InterruptibleFilesystem, in_child
from support import WHOLE

from fsqueue.testing import CRASH_STATUS, Fault, FaultyFilesystem

RUNS = int(os.environ.get("FSQUEUE_FLEET_RUNS", "100" if WHOLE else "48"))
SYSTEMS = ("slurm", "pbs", "sge", "lsf", "flux", "oar")
SUBMIT_FAULTS = ("refuse", "no-answer", "lost", "garbage")
LIST_FAULTS = ("fail", "truncate")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class History(RuleBasedStateMachine):
    system = "slurm"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="fsqueue-fleet-", dir=MEMORY)

    @initialize(most=st.integers(1, 4), demand=st.integers(0, 10))
    def begin(self, most: int, demand: int) -> None:
        self.world = World(self.folder, self.system, most=most, in_process=True)
        self.scalers = [self.world.autoscaler(), self.world.autoscaler()]
        self.world.demand(demand)

    # -- the fleet ----------------------------------------------------------------------

    @rule(who=st.integers(0, 1))
    def tick(self, who: int) -> None:
        self.scalers[who].tick()

    @rule(at=st.integers(1, 150), after=st.booleans())
    def die_at_a_call_of_the_filesystem(self, at: int, after: bool) -> None:
        fs = FaultyFilesystem()
        scaler = self.world.autoscaler(fs)

        def tick() -> None:
            fs.inject(Fault.crash(after=after, at=at))
            scaler.tick()

        assert in_child(tick) in {0, CRASH_STATUS}

    @rule(at=st.integers(1, 3), after=st.booleans())
    def die_at_a_command(self, at: int, after: bool) -> None:
        left = [at]

        def run(command):
            left[0] -= 1
            if not left[0] and not after:
                os._exit(CRASH_STATUS)
            reply = self.world.run(command)
            if not left[0]:
                os._exit(CRASH_STATUS)
            return reply

        scaler = self.world.autoscaler(run=run)
        assert in_child(scaler.tick) in {0, CRASH_STATUS}

    @rule(at=st.integers(1, 150))
    def be_interrupted_by_the_other_one(self, at: int) -> None:
        fs = InterruptibleFilesystem()
        scaler = self.world.autoscaler(fs)
        fs.interrupt(at, self.scalers[1].tick)
        scaler.tick()

    @rule()
    def resume(self) -> None:
        self.world.fleet().resume()

    # -- the cluster, and the callers ---------------------------------------------------

    @rule(count=st.integers(0, 10))
    def demand(self, count: int) -> None:
        self.world.demand(count)

    @rule(which=st.integers(0, 9), born=st.booleans())
    def start(self, which: int, born: bool) -> None:
        waiting = self.jobs("waiting")
        if waiting:
            self.world.start(waiting[which % len(waiting)], born=born)

    @rule(which=st.integers(0, 9), reason=st.sampled_from(["idle", "walltime", "signal", None]))
    def end(self, which: int, reason: str | None) -> None:
        running = self.jobs("running")
        if running:
            self.world.end(running[which % len(running)], reason)

    @rule(which=st.integers(0, 9))
    def requeue(self, which: int) -> None:
        running = self.jobs("running")
        if running:
            self.world.cluster.set_state(running[which % len(running)], "waiting")

    @rule(which=st.integers(0, 9))
    def disappear(self, which: int) -> None:
        """Somebody cancels a job that waits, by the batch system's own command."""
        waiting = self.jobs("waiting")
        if waiting:
            self.world.cluster.set_state(waiting[which % len(waiting)], "ended")

    @rule(fault=st.sampled_from(SUBMIT_FAULTS))
    def fail_a_submission(self, fault: str) -> None:
        self.world.cluster.fault("submit", fault)

    @rule(fault=st.sampled_from(LIST_FAULTS))
    def fail_a_listing(self, fault: str) -> None:
        self.world.cluster.fault("list", fault)

    def jobs(self, state: str) -> list[str]:
        live = self.world.cluster.live()
        return sorted(job_id for job_id, job in live.items() if job["state"] == state)

    # -- what holds ---------------------------------------------------------------------

    @invariant()
    def no_job_too_many_and_none_unknown(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.finish()
        finally:
            shutil.rmtree(self.folder)

    def finish(self) -> None:
        world = self.world
        with_faults = world.autoscaler()
        world.drain(with_faults)
        world.fleet().resume()
        world.demand(5)
        for _ in range(20):  # faults that are left, refusals
            with_faults.tick()
            if world.cluster.live():
                break
            world.fleet().resume()
        assert world.cluster.live(), "calls wait, and nothing was submitted"
        world.check()
        world.drain(with_faults)


@pytest.mark.timeout(0 if RUNS > 100 else 300)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_fleet_never_has_too_many_jobs_or_unknown_ones(system):
    machine = type("History", (History,), {"system": system})
    run_machine(
        machine,
        settings=settings(
            max_examples=-(-RUNS // len(SYSTEMS)),
            stateful_step_count=15,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
