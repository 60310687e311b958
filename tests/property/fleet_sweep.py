"""A fleet's steps, for the sweep of every call.

Afterwards there are never more than `max` jobs, none that the fleet does not know, and all slots
become free again.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dying import MortalFilesystem
from every_call import Swept
from sweep import LOCAL, NO_LINKS, REMOTE, walk

from fsqueue.errors import FSQueueError
from fsqueue.runner.job.fleet_member import FleetMember
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.worker.expiry import expire
from fsqueue.testing import FaultyFilesystem

sys.path.insert(0, str(Path(__file__).parents[1] / "launch"))
from fleet_harness import FLEET, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sweep import Mount

    from fsqueue.launch.autoscaling.autoscaler import Autoscaler
    from fsqueue.testing import Fault
    from fsqueue.testing import Operation as Step

MOST = 3
_MONTH = 31 * 86_400.0


def tick(_: World, scaler: Autoscaler) -> None:
    scaler.tick()


def with_demand(world: World) -> None:
    world.demand(3)


def with_running_job(world: World) -> None:
    with_demand(world)
    world.autoscaler().tick()
    (job_id,) = world.cluster.live()
    world.start(job_id)


def with_ended_job(world: World) -> None:
    with_running_job(world)
    world.demand(0)
    (job_id,) = world.cluster.live()
    world.end(job_id)
    world.autoscaler().tick()  # one listing has not shown it


def with_orphan(world: World) -> None:
    """A submitter was taken for dead, and has submitted after that."""
    with_demand(world)
    world.autoscaler().tick()
    for member in world.files.slots.taken().values():
        world.files.free(member, None)


def with_lost_reply(world: World) -> None:
    with_demand(world)
    world.cluster.fault("submit", "lost")
    world.autoscaler().tick()


def with_idle_waiting_job(world: World) -> None:
    with_demand(world)
    world.autoscaler().tick()
    world.demand(0)
    world.autoscaler().tick()  # it is not needed, for the first time


def stop(world: World, scaler: Autoscaler) -> None:
    fleet = scaler._fleets[world.files.name]
    fleet.stop(fleet.sightings(), now=True)


def check(world: World) -> None:
    """Others go on, and find nothing to do; and in the end all that is left expires."""
    assert len(world.cluster.live()) <= MOST
    scaler = world.autoscaler()
    scaler.tick()
    world.check()
    world.fleet().resume()
    world.drain(scaler)
    fs = FaultyFilesystem()
    store = world.opened(fs)
    store.files.sync_clock()
    fs.clock_offset += _MONTH
    expire(store, result_ttl=1.0, journal_ttl=1.0)
    left = [name for name in walk(f"{world.root}/fleet")[0] if "/trail/" not in name]
    assert set(left) <= {"cpu/fleet.json", "cpu/resumed", "cpu/unneeded"}
    assert [name for name in walk(f"{world.root}/fleet/cpu/slots")[1] if "." in name] == []


@dataclass(frozen=True, eq=False)
class FleetStep(Swept):
    name: str
    prepare: Callable[[World], object]
    act: Callable[[World, Autoscaler], object]
    mounts: tuple[Mount, ...] = (LOCAL, REMOTE, NO_LINKS)
    dies_here: bool = True
    """Not if its process is known as that of a submission: others wait for its end."""

    def __str__(self) -> str:
        return f"fleet-{self.name}"

    def begin(self, root: str, mount: Mount) -> tuple[World, Mount]:
        world = World(root, "slurm", most=MOST, in_process=True)
        self.prepare(world)
        return world, mount

    def run(self, state: tuple[World, Mount], *faults: Fault) -> Sequence[Step]:
        world, mount = state
        fs = MortalFilesystem(remote=mount.remote)
        scaler = world.autoscaler(fs)
        fs.inject(*faults, *mount.habits)
        self.act(world, scaler)
        return fs.trace

    def survive(self, state: tuple[World, Mount], fault: Fault, step: Step) -> None:
        """As the autoscaler does: its next tick goes on."""
        del step
        try:
            self.run(state, fault)
        except (OSError, FSQueueError):
            self.run(state)

    def finish(self, state: tuple[World, Mount], *, dead: bool) -> None:
        del dead
        check(state[0])


FLEETS = (
    FleetStep("submit", with_demand, tick, dies_here=False),
    FleetStep("submit-more", with_running_job, tick, dies_here=False),
    FleetStep("free", with_ended_job, tick),
    FleetStep("adopt", with_orphan, tick),
    FleetStep("learn-ids", with_lost_reply, tick),
    FleetStep("cancel", with_idle_waiting_job, tick),
    FleetStep("stop", with_running_job, stop),
)


# -- a worker of a job ----------------------------------------------------------------------


def with_unborn_job(world: World) -> None:
    with_demand(world)
    world.autoscaler().tick()
    (job_id,) = world.cluster.live()
    world.start(job_id, born=False)


def with_stopped_fleet(world: World) -> None:
    with_unborn_job(world)
    world.files.mark("stopped", "enough")


def be_born(member: FleetMember) -> None:
    # An error is tried again at the next heartbeat.
    while not member.ask() and not member._born:
        pass


def leave(member: FleetMember) -> None:
    member.note_end("idle", 3, "worker-1-aaaaaa")


@dataclass(frozen=True, eq=False)
class MemberStep(FleetStep):
    """What a worker tells its fleet."""

    act: Callable[[FleetMember], object]  # type: ignore[assignment]

    def run(self, state: tuple[World, Mount], *faults: Fault) -> Sequence[Step]:
        world, mount = state
        fs = MortalFilesystem(remote=mount.remote)
        store = world.opened(fs)
        (job_id,) = world.cluster.live()
        member = FleetMember(FleetFiles(store.files, FLEET), world.member(job_id), 0)
        fs.inject(*faults, *mount.habits)
        self.act(member)
        return fs.trace

    def survive(self, state: tuple[World, Mount], fault: Fault, step: Step) -> None:
        """A worker goes on whatever becomes of its fleet."""
        del step
        self.run(state, fault)

    def finish(self, state: tuple[World, Mount], *, dead: bool) -> None:
        world = state[0]
        (job_id,) = world.cluster.live()
        member = world.member(job_id)
        if self.act is be_born and not dead:
            assert list(world.files.born()) == [member]
        end = world.files.end(member)
        assert end is None or (end.reason, end.calls) == ("idle", 3)
        super().finish(state, dead=dead)


MEMBERS = (
    MemberStep("birth", with_unborn_job, be_born),
    MemberStep("birth-of-a-stopped-one", with_stopped_fleet, be_born),
    MemberStep("last-words", with_running_job, leave),
)
