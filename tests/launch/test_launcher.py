from __future__ import annotations

import importlib
import re

import pytest
from fleet_harness import World, call
from msgspec import structs

from fsqueue import FSQueue
from fsqueue.config import load_config
from fsqueue.errors import ConfigError
from fsqueue.launch.batch import RefusedError
from fsqueue.launch.launcher import (
    Application,
    JobTemplate,
    Launcher,
    application_of,
    grace_within,
    settings_of,
)
from fsqueue.launch.profiles import Profile

SYSTEMS = ("slurm", "pbs", "sge", "lsf", "flux", "oar")


class Launch:
    """A launcher, and the cluster that it submits to."""

    def __init__(self, folder, system="slurm", **keys):
        self.world = World(folder, system, in_process=True)
        self.application = Application(
            "tasks:app", "t", folder, self.world.root, {"FSQUEUE__GROUP": "lab"}, 25.0
        )
        self.profile = Profile(
            **{"system": system, "walltime": 3600.0, "cores": 4, "max": 10, **keys}
        )
        self.launcher = self.make()

    def template(self, name="gpu", **changes):
        application = self.application._replace(**changes)
        return JobTemplate(application, name, self.profile, run=self.run)

    def make(self, name="gpu", **changes):
        return Launcher(self.world.store, self.template(name, **changes))

    def run(self, command):
        return call(self.world.cluster.folder, command)


@pytest.fixture
def launch(folder):
    return Launch(folder)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_launch_defines_the_fleet_and_submits_its_jobs(folder, system):
    launch = Launch(folder, system, gpus=2, memory=8 << 30, nodes=1)
    launch.launcher.define()
    members = launch.launcher.submit(3)
    assert len(members) == len(launch.world.cluster.live()) == 3
    record = launch.launcher.fleet.record
    assert (record.slots, record.resources, record.app_id) == (4, "gpu-2_mem-8G", "t")
    assert record == launch.template().record


def test_more_jobs_than_an_array_may_have_become_several_arrays(launch):
    launch.launcher.define()
    assert len(launch.launcher.submit(8)) == 8
    jobs = launch.world.cluster.live().values()
    names = [job["name"] for job in jobs]
    assert sorted(names.count(name) for name in set(names)) == [2, 3, 3], "MaxArraySize is 4"


def test_no_more_jobs_are_submitted_than_there_are_slots(launch):
    launch.launcher.define()
    assert len(launch.launcher.submit(50)) == 10


def test_a_refusal_is_told_with_the_batch_systems_words(launch):
    launch.launcher.define()
    launch.world.cluster.fault("submit", "refuse")
    with pytest.raises(RefusedError, match="Invalid account"):
        launch.launcher.submit(1)


def test_a_rehearsal_submits_nothing_and_says_what_would_happen(launch):
    rehearsal = launch.template().rehearse(2)
    assert str(rehearsal.command) == "sbatch --parsable"
    assert "#SBATCH --array=1-2" in rehearsal.script
    assert rehearsal.verdict.err == "the script is accepted\n"
    assert launch.world.cluster.every() == {}
    assert Launch(f"{launch.world.root}-2", "lsf").template().rehearse(1).verdict is None


def test_the_worker_has_less_time_than_the_site_leaves_it(launch):
    assert "export FSQUEUE__STOP_GRACE=15\n" in launch.template().script_of("abcdef", 1)
    patient = launch.template(stop_grace=3.0)
    assert "export FSQUEUE__STOP_GRACE=3\n" in patient.script_of("abcdef", 1)


@pytest.mark.parametrize(
    ("delay", "wanted", "grace"),
    [(30, 25, 25), (10, 25, 5), (5, 25, 2.5), (60, 25, 25), (30, 0, 0), (2, 25, 1)],
)
def test_the_grace_ends_before_the_kill(delay, wanted, grace):
    assert grace_within(delay, wanted) == grace


def test_a_missing_command_is_told_before_anything_happens(launch):
    with pytest.raises(ConfigError, match="sbatch is not on PATH: run this where the commands of"):
        launch.template().check(lambda program: None)


def test_a_disk_of_this_machine_is_a_warning(launch):
    warnings = launch.template().warnings()
    assert len(warnings) == 2
    assert re.match(r"root, /.*spool, is on a disk of this machine: compute", warnings[0])


def test_a_fleet_of_another_application_is_not_taken_over(launch):
    launch.launcher.define()
    other = launch.make(app_id="other")
    with pytest.raises(ConfigError, match="fleet gpu belongs to the application 't'"):
        other.define()


def test_a_profile_that_makes_no_script_is_told_before_anything_happens(launch):
    launch.profile = structs.replace(launch.profile, options=("!--memm",))
    with pytest.raises(ConfigError, match="removes nothing"):
        launch.template().check(lambda program: program)


def test_a_profile_for_this_machine_is_no_batch_job(launch):
    launch.profile = structs.replace(launch.profile, system="local")
    with pytest.raises(ConfigError, match="local is not a batch system"):
        launch.template()


def test_an_application_is_found_by_its_module(tmp_path, monkeypatch):
    (tmp_path / "launched_tasks.py").write_text("import fsqueue\napp = fsqueue.FSQueue('t')\n")
    monkeypatch.setenv("FSQUEUE__HEARTBEAT", "1.5")
    monkeypatch.setenv("FSQUEUE__ROOT", str(tmp_path / "spool"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    app = importlib.import_module("launched_tasks").app
    assert application_of(app) == Application(
        "launched_tasks:app",
        "t",
        str(tmp_path),
        str(tmp_path / "spool"),
        {"FSQUEUE__HEARTBEAT": "1.5"},
        25.0,
    )


def test_an_application_without_a_root_cannot_be_launched(monkeypatch):
    with pytest.raises(ConfigError, match="no root is set, and the private folder"):
        application_of(FSQueue("launched"))


def test_settings_of_files_and_arguments_are_not_carried(tmp_path, monkeypatch):
    (tmp_path / "fsqueue.toml").write_text("lease = 90\n")
    environ = {"FSQUEUE__GROUP": "7", "FSQUEUE__STOP_GRACE": "3", "FSQUEUE__ROOT": "/q"}
    conf = load_config({"heartbeat": 1.0}, environ=environ, start=tmp_path)
    assert settings_of(conf) == {"FSQUEUE__GROUP": "7"}
    assert settings_of(load_config({}, environ={}, start=tmp_path)) == {}
