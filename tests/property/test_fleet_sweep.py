"""A fleet's steps, with death, faults and another autoscaler at every filesystem call of each.

Afterwards there are never more than `max` jobs, none that the fleet does not know, and all slots
become free again.
"""

from __future__ import annotations

import errno
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from slim import in_slim_process
from sweep import NO_LINKS, InterruptibleFilesystem, deaths, in_child, walk

from fsqueue.errors import FSQueueError
from fsqueue.spool.store.opening import open_store
from fsqueue.spool.worker.expiry import expire
from fsqueue.testing import CRASH_STATUS, Fault, FaultyFilesystem

sys.path.insert(0, str(Path(__file__).parents[1] / "launch"))
from fleet_harness import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.launch.autoscale import Autoscaler

MOST = 3
_MONTH = 31 * 86_400.0


@dataclass(frozen=True)
class Step:
    name: str
    prepare: Callable[[World], object]
    run: Callable[[World, Autoscaler], object]

    def __str__(self) -> str:
        return self.name


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


STEPS = (
    Step("submit", with_demand, tick),
    Step("submit-more", with_running_job, tick),
    Step("free", with_ended_job, tick),
    Step("adopt", with_orphan, tick),
    Step("learn-ids", with_lost_reply, tick),
    Step("cancel", with_idle_waiting_job, tick),
    Step("stop", with_running_job, stop),
)


def calls_of(root: str, step: Step) -> int:
    world = World(root, "slurm", most=MOST, in_process=True)
    step.prepare(world)
    fs = FaultyFilesystem()
    scaler = world.autoscaler(fs)
    fs.inject()
    step.run(world, scaler)
    return fs.count()


def check(world: World) -> None:
    """Others go on, and find nothing to do; and in the end all that is left expires."""
    assert len(world.cluster.live()) <= MOST
    scaler = world.autoscaler()
    scaler.tick()
    world.check()
    world.fleet().resume()
    world.drain(scaler)
    fs = FaultyFilesystem()
    store = open_store(world.root, fs)
    store.files.sync_clock()
    fs.clock_offset += _MONTH
    expire(store, result_ttl=1.0, journal_ttl=1.0)
    left = [name for name in walk(f"{world.root}/fleet")[0] if "/trail/" not in name]
    assert set(left) <= {"cpu/fleet.json", "cpu/resumed", "cpu/unneeded"}
    assert [name for name in walk(f"{world.root}/fleet/cpu/slots")[1] if "." in name] == []


@pytest.mark.parametrize("step", STEPS, ids=str)
@in_slim_process
def test_the_process_dies_at_every_call(folder, step):
    for number, death in enumerate(deaths(calls_of(f"{folder}/dry", step))):
        world = World(f"{folder}/{number}", "slurm", most=MOST, in_process=True)
        step.prepare(world)

        def die(world: World = world, death: Fault = death) -> None:
            fs = FaultyFilesystem()
            scaler = world.autoscaler(fs)
            fs.inject(death)
            step.run(world, scaler)

        assert in_child(die) in {CRASH_STATUS, 0}
        check(world)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.lost_reply,
        lambda at: Fault.fail(errno.EIO, at=at),
        lambda at: Fault.lost_reply(at=at, code=errno.EIO),
    ],
    ids=["lost-reply", "error", "done-and-error"],
)
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_fault_at_every_call(folder, step, fault):
    for number in range(1, calls_of(f"{folder}/dry", step) + 1):
        world = World(f"{folder}/{number}", "slurm", most=MOST, in_process=True)
        step.prepare(world)
        fs = FaultyFilesystem()
        scaler = world.autoscaler(fs)
        fs.inject(fault(at=number))
        try:
            step.run(world, scaler)
        except (OSError, FSQueueError):
            fs.inject()
            step.run(world, scaler)  # as the autoscaler does: its next tick
        check(world)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_another_autoscaler_does_the_same_in_the_middle(folder, step):
    for number in itertools.count(1):
        world = World(f"{folder}/{number}", "slurm", most=MOST, in_process=True)
        step.prepare(world)
        fs = InterruptibleFilesystem()
        scaler, other = world.autoscaler(fs), world.autoscaler()
        fs.inject()
        fs.interrupt(number, lambda world=world, other=other: step.run(world, other))
        step.run(world, scaler)
        check(world)
        if fs._action is not None:
            break


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_without_hard_links(folder, step):
    world = World(folder, "slurm", most=MOST, in_process=True)
    step.prepare(world)
    step.run(world, world.autoscaler(FaultyFilesystem(NO_LINKS.habits)))
    check(world)


def test_damaged_files_of_a_fleet_are_not_believed(folder):
    world = World(folder, "slurm")
    with_ended_job(world)
    world.autoscaler().tick()
    sealed = ("fleet.json", "/submissions/", "/jobs/", "/ends/", "/past/")
    files = [name for name in walk(f"{world.root}/fleet")[0] if any(s in name for s in sealed)]
    assert len(files) == len(sealed)
    for name in files:
        path = f"{world.root}/fleet/{name}"
        Path(path).write_bytes(Path(path).read_bytes().replace(b"1", b"2", 1))
    assert world.files.record() is None
    assert world.files.past() == []
