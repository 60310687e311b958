"""Calls under a concurrency limit, for the sweep of every call.

Whatever happens, no call is lost or in two places, there are never more places taken than the lane
has, every call runs in the end, and then the lane is gone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from dying import in_child
from every_call import Swept
from msgspec import structs
from support import execute_claim
from sweep import ARGUMENTS, CLIENT, ID, LOCAL, QUEUE, REMOTE, Stage, call_of, worker_of
from sweep_steps import _Impatient

from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.attempt.context import Body, WorkerContext
from fsqueue.spool.format.names import AttemptName, Holder
from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.spool.worker.limit_upkeep import LimitUpkeep, recover_limits
from fsqueue.spool.worker.reaper import reap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sweep import Mount

    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.registration import Worker
    from fsqueue.testing import Fault
    from fsqueue.testing import Operation as Call

LANE = "0123456789abcdef-1"
OTHER = f"{CLIENT}-2"


@dataclass(frozen=True)
class Step(Swept):
    name: str
    prepare: Callable[[Stage], object]
    act: Callable[[Stage], object]
    mounts: tuple[Mount, ...] = (LOCAL, REMOTE)

    def __str__(self) -> str:
        return self.name

    def begin(self, root: str, mount: Mount) -> tuple[Stage, set[str]]:
        """The stage, and the calls of which none may be lost."""
        stage = Stage(root, mount)
        self.prepare(stage)
        return stage, set(places(stage))

    def run(self, state: tuple[Stage, set[str]], *faults: Fault) -> Sequence[Call]:
        stage, expected = state
        stage.inject(*faults)
        self.act(stage)
        trace = list(stage.fs.trace)
        check_at_once(stage, expected)
        return trace

    def survive(self, state: tuple[Stage, set[str]], fault: Fault, step: Call) -> None:
        del step
        try:
            self.run(state, fault)
        except OSError:
            assert self.act in {reap_other, two_rounds, hand_over}, "a worker's step goes on"

    def finish(self, state: tuple[Stage, set[str]], *, dead: bool) -> None:
        stage, expected = state
        stage.inject()
        check_at_once(stage, expected)
        for worker in (*([stage.worker] if dead else []), *stage.others):
            reap(stage.healthy, worker.name, "killed")
        if not dead:
            stage.worker.keep_alive()
        work_on(stage)
        check_in_the_end(stage, expected)
        stage.close()


# -- before ---------------------------------------------------------------------------------


def publish(stage: Stage, invocation_id: str) -> str:
    call = structs.replace(call_of(stage.healthy, invocation_id), lanes=(LANE,))
    return stage.healthy.publish(call, [ARGUMENTS])


def taken(stage: Stage) -> None:
    stage.claim = stage.worker.claim(publish(stage, ID))
    assert stage.claim is not None


def other_runs(stage: Stage) -> None:
    """The other call has the place, in a process that ends before it has run."""

    def take_place() -> None:
        claim = stage.others[-1].claim(publish(stage, OTHER))
        assert claim is not None
        assert stage.healthy.limits.acquire(LANE, claim)

    stage.others.append(worker_of(stage.healthy))
    assert in_child(take_place) == 0


def wait(stage: Stage, invocation_id: str) -> None:
    claim = stage.rescuer.claim(publish(stage, invocation_id))
    assert claim is not None
    call, _ = stage.healthy.calls.read_claimed(claim)
    stage.rescuer.release(claim)
    assert stage.healthy.claims.park(claim, call, LANE)
    stage.rescuer.forget(claim)


def other_waits(stage: Stage) -> None:
    wait(stage, OTHER)


def taken_while_other_waits(stage: Stage) -> None:
    taken(stage)
    other_waits(stage)


def taken_while_other_runs(stage: Stage) -> None:
    other_runs(stage)
    taken(stage)


def dead_holder(stage: Stage) -> None:
    other_runs(stage)
    wait(stage, ID)


def abandoned(stage: Stage) -> None:
    """One that ended before its holder had a number, and one between its outcome and the place."""
    other_waits(stage)
    for number in ("1", ""):
        holder = Holder(ID, stage.worker.name, "1-1", "abcdef")
        os.makedirs(stage.layout.in_lane(LANE, f"{number or holder}/{holder}"))


# -- the steps ------------------------------------------------------------------------------


def context_of(store: Store, worker: Worker) -> WorkerContext:
    context = WorkerContext(
        store=store,
        worker=lambda: worker,
        resolve={"tasks.f": Body(lambda a, b: a + b)}.__getitem__,
        app_id="t",
        exclusive=False,
    )
    context.aborted = _Impatient()
    return context


def run_claim(stage: Stage) -> Ending:
    assert stage.claim is not None
    try:
        return execute_claim(context_of(stage.store, stage.worker), stage.claim, stage.worker)
    finally:
        stage.worker.forget(stage.claim)


def reap_other(stage: Stage) -> None:
    reap(stage.store, stage.others[-1].name, "killed")


def two_rounds(stage: Stage) -> None:
    upkeep = LimitUpkeep(stage.store)
    upkeep.round()
    upkeep.round()


def hand_over(stage: Stage) -> None:
    stage.store.limits.hand_to(LANE, OTHER, ID, None)


STEPS = (
    Step("take-and-leave", taken, run_claim),
    Step("take-and-pass-on", taken_while_other_waits, run_claim),
    Step("wait", taken_while_other_runs, run_claim),
    Step("reap", dead_holder, reap_other),
    Step("admit", other_waits, two_rounds),
    Step("mend", abandoned, two_rounds),
    Step("hand-over", other_waits, hand_over),
)


# -- after ----------------------------------------------------------------------------------


def places(stage: Stage) -> dict[str, list[str]]:
    """Where the files of the calls are."""
    found: dict[str, list[str]] = {}
    for path in stage.files():
        top, _, rest = path.partition("/")
        name = AttemptName.parse(os.path.basename(rest))
        if top in {"pending", "running", "lanes"}:
            assert name is not None, path
            found.setdefault(name.invocation_id, []).append(path)
    return found


def check_at_once(stage: Stage, expected: set[str]) -> None:
    found = places(stage)
    assert all(len(paths) == 1 for paths in found.values()), found
    for invocation_id in expected - set(found):
        assert stage.healthy.outcomes.peek(invocation_id) is not None, f"{invocation_id} is lost"


def work_on(stage: Stage) -> None:
    """What others do, until nothing is left to do."""
    context = context_of(stage.healthy, stage.rescuer)
    for _ in range(10):
        recover_limits(stage.healthy)
        backlog = FolderBacklog(stage.healthy, QUEUE)
        while (origin := backlog.next()) is not None:
            claim = stage.rescuer.claim(origin)
            if claim is not None:
                execute_claim(context, claim, stage.rescuer)
                stage.rescuer.forget(claim)
        if not places(stage):
            return
    pytest.fail(f"calls are left: {places(stage)}")


def check_in_the_end(stage: Stage, expected: set[str]) -> None:
    for invocation_id in expected:
        data = stage.healthy.outcomes.peek(invocation_id)
        assert data is not None, f"{invocation_id} has no outcome"
        stage.healthy.outcomes.read(invocation_id, data)
    recover_limits(stage.healthy)
    assert os.listdir(stage.layout.lanes_folder) == [], "a lane is left"


LIMITS = STEPS
