"""Autoscalers: on a cluster whose jobs do what the test says, and on one that runs them."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace

import pytest
from fleet_harness import AT_ONCE, QUEUE, World, write_worker
from msgspec import structs
from support import PATIENCE, wait_until

from fsqueue.errors import ConfigError
from fsqueue.launch.pace import Pace
from fsqueue.spool.fleets.records import Member
from fsqueue.spool.format.names import DEFAULT_PRIORITY, Slot
from fsqueue.testing import FaultyFilesystem


@pytest.fixture
def world(folder):
    return World(folder, "slurm", most=3, in_process=True)


@pytest.mark.parametrize("system", ["slurm", "pbs", "sge", "lsf", "flux", "oar"])
def test_an_autoscaler_goes_from_nothing_to_what_is_needed_and_back(folder, system):
    world = World(folder, system, most=4, in_process=True)
    scaler = world.autoscaler()
    world.demand(8)
    sizes = []
    for _ in range(5):
        scaler.tick()
        sizes.append(len(world.cluster.live()))
        for job_id in world.cluster.live():
            world.start(job_id)
    assert sizes == [1, 2, 4, 4, 4]
    world.drain(scaler)
    assert {past.kind for _, past in world.files.past()} == {"idle"}


def test_calls_made_after_the_first_look_do_not_wait_for_a_whole_tick(world):
    world.pace = replace(AT_ONCE, tick=3600.0)
    scaler, stop = world.autoscaler(), threading.Event()

    def report(_):
        if not world.cluster.live():
            world.demand(1)
        else:
            stop.set()

    scaler.run(stop, report)


def test_three_young_deaths_pause_a_fleet_until_it_is_resumed(world):
    scaler = world.autoscaler()
    world.demand(1)
    for _ in range(3):
        scaler.tick()
        for job_id in world.cluster.live():
            world.end(job_id, None)
        scaler.tick()
        scaler.tick()
    assert world.cluster.live() == {}
    assert "3 jobs ended in a row" in world.files.marked("paused")
    scaler.tick()
    assert world.cluster.live() == {}
    world.fleet().resume()
    scaler.tick()
    assert len(world.cluster.live()) == 1


def test_a_fleet_of_a_batch_system_that_is_not_known_here_is_told(world):
    """A newer version of fsqueue may know more of them."""
    world.files.define(structs.replace(world.files.record(), system="future"))
    world.demand(1)
    with pytest.raises(ConfigError, match="'future' is not a batch system; known are: slurm, pbs"):
        world.autoscaler().tick()
    assert world.files.slots.taken() == {}


def test_a_dry_run_decides_and_does_nothing(world):
    world.demand(3)
    found = world.autoscaler().tick(dry_run=True)
    assert [(each.action, each.count) for each in found.decisions] == [("submit", 1)]
    assert world.cluster.every() == {}
    assert world.files.slots.taken() == {}


def test_without_jobs_or_demand_the_batch_system_is_not_asked(world):
    asked = []
    scaler = world.autoscaler(run=asked.append)
    for _ in range(3):
        scaler.tick()
    assert asked == []


def test_the_batch_system_is_asked_less_often_while_nothing_changes(folder):
    fs = FaultyFilesystem()
    world = World(folder, "slurm", in_process=True, pace=replace(AT_ONCE, listing=30.0))
    asked = []

    def run(command):
        asked.append(command.argv[0])
        return world.run(command)

    world.demand(1)
    scaler = world.autoscaler(fs, run)
    scaler.tick()
    for _ in range(21):  # 630 s
        fs.clock_offset += 30.0
        scaler.tick()
    listings = asked.count("squeue")
    assert listings <= 4, asked
    for job_id in world.cluster.live():
        world.start(job_id)
    fs.clock_offset += 30.0
    scaler.tick()
    assert asked.count("squeue") == listings + 1, "a birth is a change"


def test_a_job_that_is_missed_is_soon_looked_for_again(folder):
    """Not only after the long pause that follows while nothing changes."""
    fs = FaultyFilesystem()
    pace = replace(AT_ONCE, listing=30.0)
    world = World(folder, "slurm", in_process=True, pace=pace)
    scaler = world.autoscaler(fs)
    world.demand(1)
    scaler.tick()
    (job_id,) = world.cluster.live()
    world.start(job_id)
    world.demand(0)
    for _ in range(30):
        fs.clock_offset += 30.0
        scaler.tick()
    world.end(job_id, None)
    fs.clock_offset += 300.0
    scaler.tick()
    assert len(world.files.slots.taken()) == 1
    fs.clock_offset += 30.0
    scaler.tick()
    assert world.files.slots.taken() == {}


@pytest.mark.parametrize("system", ["slurm", "sge", "lsf"])
def test_scripts_run_on_a_cluster_and_know_their_job(folder, system):
    """For real: the fake cluster runs the script, whose worker says how it knows itself."""
    world = World(folder, system, most=3, running=True)
    report = f"{folder}/report"
    os.makedirs(report)
    program = (
        "import os, sys, time;"
        "from fsqueue.runner.processes.job import find_end, job_of, this_host;"
        "job = job_of(os.environ); end = find_end(os.environ, this_host());"
        f"open(f'{report}/{{job.number}}', 'w').write(f'{{job.token}} {{job.id}} "
        "{end.at - time.monotonic():.0f}')"
    )
    path = f"{folder}/worker"
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"#!{sys.executable}\n{program}\n")
    os.chmod(path, 0o755)
    world.profile = type(world.profile)(system=system, walltime=3600.0, cores=2, max=3, python=path)
    members = world.fleet().submit(3, world.script)
    wait_until(lambda: len(os.listdir(report)) == 3 and not world.cluster.live())
    for member in members:
        with open(f"{report}/{member.number}", encoding="ascii") as file:
            token, job_id, left = file.read().split()
        assert Member(token, member.number) == member
        assert job_id == world.files.ids(member.token)[member.number]
        assert 3600 - PATIENCE < int(left) <= 3600


@pytest.mark.parametrize("system", ["slurm", "flux", "oar"])
def test_an_autoscaler_that_runs_by_itself_gets_all_done_and_ends_with_nothing(folder, system):
    """For real, with jobs that take calls as a worker does, and leave when there are none."""
    quick = Pace(tick=0.1, listing=0.1, gap=0.2, patience=3600.0, back_off=0.1)
    world = World(folder, system, most=3, running=True, pace=quick)
    world.demand(40)
    calls = world.store.layout.slot(QUEUE, str(Slot(DEFAULT_PRIORITY, 1.0)))
    path = write_worker(folder, calls)
    world.profile = structs.replace(world.profile, python=path)
    stop = threading.Event()
    thread = threading.Thread(target=world.autoscaler().run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: not os.listdir(calls), what="all calls are taken")
        wait_until(
            lambda: not world.cluster.live() and not world.files.slots.taken(),
            what="no job and no slot is left",
        )
    finally:
        stop.set()
        thread.join()
    kinds = [past.kind for _, past in world.files.past()]
    assert set(kinds) <= {"idle", "cancelled"}
    assert "idle" in kinds
    assert world.files.marked("paused") is None
