"""Two autoscalers at once: one does all of its work in the middle of the other's."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from dying import InterruptibleFilesystem
from fleet_sweep import FLEETS, World, check, with_ended_job
from sweep import LOCAL, walk


@pytest.mark.parametrize("step", FLEETS, ids=str)
def test_another_autoscaler_does_the_same_in_the_middle(folder, step):
    for number in itertools.count(1):
        world, _ = step.begin(f"{folder}/{number}", LOCAL)
        fs = InterruptibleFilesystem()
        scaler, other = world.autoscaler(fs), world.autoscaler()
        fs.inject()
        fs.interrupt(number, lambda world=world, other=other: step.act(world, other))
        step.act(world, scaler)
        check(world)
        if fs._action is not None:
            break


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
