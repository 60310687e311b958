"""A worker's view of its fleet: what it costs, and that no failure of it matters."""

from __future__ import annotations

from collections import Counter

import pytest
from fleet_harness import FLEET, World
from support import open_store

from fsqueue.runner.job.fleet_member import FleetMember
from fsqueue.runner.processes.job import Job
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import Member
from fsqueue.testing import Fault, FaultyFilesystem

MEMBER = Member("k7f3q2", 1)


@pytest.fixture
def world(folder):
    return World(folder, "slurm")


def member_on(fs: FaultyFilesystem, world: World) -> FleetMember:
    return FleetMember(FleetFiles(open_store(world.root, fs).files, FLEET), MEMBER, 0)


@pytest.mark.parametrize("remote", [False, True])
def test_a_heartbeat_costs_two_stats(world, remote):
    fs = FaultyFilesystem(remote=remote)
    member = member_on(fs, world)
    assert member.ask() == ""
    fs.inject()
    for _ in range(10):
        assert member.ask() == ""
    verbs = Counter(operation.verb for operation in fs.trace)
    # On a network filesystem, touching the folder makes the answer fresh.
    assert verbs == ({"stat": 20, "utime": 20} if remote else {"stat": 20})


def test_a_fleet_that_cannot_be_read_asks_nobody_to_leave(world):
    world.files.mark("stopped", "enough")
    fs = FaultyFilesystem()
    member = member_on(fs, world)
    fs.inject(Fault.fail())
    assert member.ask() == "", "it is tried again at the next heartbeat"
    assert world.files.born() == {}
    assert "stopped: enough" in member.ask()
    assert list(world.files.born()) == [MEMBER]


@pytest.mark.parametrize(
    "job",
    [
        None,
        Job("slurm", "7"),
        Job("slurm", "7", fleet="cpu"),
        Job("slurm", "7", token="k7f3q2"),
        Job("slurm", "7", fleet="..", token="k7f3q2"),
        Job("slurm", "7", fleet="cpu", token="K7"),
        Job("slurm", "7", "0", fleet="cpu", token="k7f3q2"),
    ],
    ids=str,
)
def test_a_job_of_no_fleet_reports_to_none(world, job):
    assert FleetMember.of(world.store.files, job) is None
