"""The commands about fleets, run as a user runs them, with a batch system that a program plays."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest
from command_server import of_interpreters, run
from fake_cluster import FakeBatch
from support import PATIENCE

TASKS = """
from fsqueue import FSQueue

app = FSQueue("demo")


@app.task
def double(number):
    return 2 * number
"""
PROFILES = """
root = {root!r}
app = "tasks:app"

[launch.cpu]
system = "slurm"
walltime = "1h"
cores = 4
max = 3

[launch.gpu]
extends = "cpu"
gpus = 2
batch_queue = "gpu"

[launch.typo]
system = "slurm"
waltime = "1h"
"""


class Site:
    """A project, a spool and a cluster."""

    def __init__(self, folder):
        self.project, self.root = folder / "project", folder / "spool"
        self.project.mkdir()
        (self.project / "tasks.py").write_text(TASKS)
        (self.project / "fsqueue.toml").write_text(PROFILES.format(root=str(self.root)))
        self.bin = folder / "bin"
        self.cluster = FakeBatch(str(self.bin), "slurm")

    def fsqueue(self, line, code=0, **environ):
        """Run a command line; returns what it has printed, errors after output."""
        path = environ.pop("PATH", f"{self.bin}{os.pathsep}{os.defpath}")
        env = {"HOME": str(self.project), "PATH": path, "COLUMNS": "200", **environ}
        env = of_interpreters() | env
        done = run(tuple(shlex.split(line)), str(self.project), env, PATIENCE)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def document(self, line, code=0):
        printed = self.fsqueue(line, code)
        return json.JSONDecoder().raw_decode(printed)[0]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_from_a_profile_to_jobs_and_back_to_nothing(site):
    assert "fleet cpu: submitted 2 jobs: 100_1 100_2" in site.fsqueue("launch cpu --count 2")
    (fleet,) = site.document("fleet list --json")["fleets"]
    assert [job["state"] for job in fleet["jobs"]] == ["waiting", "waiting"]
    assert site.fsqueue("fleet") == site.fsqueue("fleet list")
    shown = site.fsqueue("fleet show cpu")
    assert "walltime     1h00m" in shown
    assert "100_2" in shown
    assert "fleet cpu stops; 2 jobs had not ended" in site.fsqueue("fleet stop cpu")
    assert site.cluster.live() == {}
    assert "stopped: by `fsqueue fleet stop`" in site.fsqueue("fleet show cpu")


def test_flags_replace_values_of_the_profile_and_raw_flags_come_last(site):
    flags = "--walltime 40m --cores 2 --memory 3G --gpus 1"
    script = site.document(f"launch gpu --dry-run --json {flags} -- --qos=long")["script"]
    for directive in ("--time=00:40:00", "--cpus-per-task=2", "--mem=3072M", "--gres=gpu:1"):
        assert f"#SBATCH {directive}\n" in script
    assert script.index("--qos=long") > script.index("--partition=gpu")


def test_a_dry_run_leaves_no_trace(site):
    printed = site.fsqueue("launch cpu --count 3 --dry-run")
    assert printed.startswith("sbatch --parsable <<'END'\n#!/bin/bash\n")
    assert "#SBATCH --array=1-3\n" in printed
    assert "the batch system's answer:\n\n  the script is accepted" in printed
    assert site.cluster.every() == {}
    assert not site.root.exists()


def test_a_dry_run_needs_no_batch_system(site):
    printed = site.fsqueue("launch cpu --dry-run", PATH="/nonexistent")
    assert "#SBATCH --time=01:00:00\n" in printed
    assert "not checked by the batch system: cannot run s" in printed


@pytest.mark.parametrize("count", [1, 3])
def test_a_dry_run_with_pbs_submits_a_job_that_cannot_start_and_deletes_it(site, count):
    cluster = use_pbs(site)
    printed = site.fsqueue(f"launch cpu --count {count} --dry-run")
    assert "the script is accepted: 100" in printed
    assert len(cluster.every()) == count
    assert cluster.live() == {}
    assert not site.root.exists()
    cluster.fault("submit", "refuse")
    assert "Invalid account" in site.fsqueue("launch cpu --dry-run", 2)


def test_a_job_that_a_dry_run_could_not_delete_is_held_and_named(site):
    cluster = use_pbs(site)
    cluster.fault("cancel", "refuse")
    printed = site.fsqueue("launch cpu --dry-run", 2)
    assert "the job 100.server of this check is held: delete it by qdel '100.server'" in printed
    assert [job["state"] for job in cluster.live().values()] == ["held"]


def use_pbs(site):
    config = site.project / "fsqueue.toml"
    config.write_text(config.read_text().replace('"slurm"', '"pbs"'))
    return FakeBatch(str(site.bin), "pbs")


def test_a_full_fleet_says_how_to_enlarge_it(site):
    printed = site.fsqueue("launch cpu --count 5", 1)
    assert "submitted 3 jobs" in printed
    assert "has 3 jobs, its max: `fsqueue fleet scale cpu NUMBER` changes that" in printed
    site.fsqueue("fleet scale cpu 4")
    # The profile says 3 as before: what the user has scaled stays.
    assert "submitted 1 job" in site.fsqueue("launch cpu")


def test_a_stopped_fleet_is_resumed_by_a_launch(site):
    site.fsqueue("launch cpu")
    site.fsqueue("fleet stop cpu")
    printed = site.fsqueue("launch cpu")
    assert "fleet cpu was stopped or paused: this resumes it" in printed
    assert len(site.cluster.live()) == 1


def test_autoscaling_submits_for_due_calls_and_says_why(site):
    assert "cpu" not in site.fsqueue("autoscale cpu --once")
    make_calls(site, 9)
    assert "cpu: submit 1: 3 more jobs are needed\n" in site.fsqueue("autoscale cpu --dry-run")
    assert site.cluster.every() == {}
    site.fsqueue("autoscale cpu --once")
    assert len(site.cluster.live()) == 1
    site.fsqueue("fleet pause cpu")
    assert "cpu: wait: paused: by `fsqueue fleet pause`" in site.fsqueue("autoscale cpu --once")


def test_an_autoscaler_ends_on_sigterm(site):
    make_calls(site, 1)
    command = [sys.executable, "-m", "fsqueue", "autoscale", "cpu", "--interval", "1s"]
    environ = {"HOME": str(site.project), "PATH": f"{site.bin}{os.pathsep}{os.defpath}"}
    with subprocess.Popen(
        command, cwd=site.project, env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "cpu: submit 1: 1 more job is needed\n"
        process.terminate()
        assert process.wait(60) == 0
    assert len(site.cluster.live()) == 1, "its jobs go on"


def make_calls(site, count):
    program = f"import tasks; [tasks.double(number) for number in range({count})]"
    subprocess.run([sys.executable, "-c", program], cwd=site.project, check=True)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("launch nothing", 2, "no launch profile 'nothing'; there are: cpu, gpu, typo"),
        ("launch typo", 2, "launch.typo: unknown key waltime; did you mean walltime?"),
        ("launch cpu --walltime soon", 2, "'soon' is not a duration"),
        ("launch cpu --memory lots", 2, "memory = 'lots', expected a number of bytes"),
        ("launch slurm", 2, 'a job needs a time limit, like "4h"'),
        ("launch cpu --app nowhere:app", 2, "there is no module 'nowhere'"),
        ("autoscale cpu nothing --once", 2, "no launch profile 'nothing'"),
        ("fleet show cpu", 3, "has no fleet 'cpu'; there are none"),
        ("fleet shw cpu", 2, "No such command 'shw'"),
    ],
)
def test_mistakes_are_told_before_anything_happens(site, line, code, message):
    assert message in site.fsqueue(line, code)
    assert site.cluster.every() == {}
    assert not site.root.exists()


def test_a_missing_batch_system_is_told(site):
    printed = site.fsqueue("launch cpu", 2, PATH="/nonexistent")
    assert "sbatch is not on PATH: run this where the commands of slurm are" in printed


def test_a_refused_submission_shows_the_batch_systems_words(site):
    site.cluster.fault("submit", "refuse")
    assert "Invalid account" in site.fsqueue("launch cpu", 2)


def test_a_fleet_can_be_stopped_where_the_batch_system_is_missing(site):
    site.fsqueue("launch cpu")
    printed = site.fsqueue("fleet stop cpu", PATH="/nonexistent")
    assert "so nothing is cancelled" in printed
    assert len(site.cluster.live()) == 1
    assert "the batch system cannot be asked here" in site.fsqueue(
        "fleet show cpu", PATH="/nonexistent"
    )


def test_an_unknown_fleet_names_the_others(site):
    site.fsqueue("launch cpu")
    assert "has no fleet 'gpu'; there are: cpu" in site.fsqueue("fleet scale gpu 2", 3)
    assert "has no log of any job" in site.fsqueue("fleet logs cpu", 3)


def test_a_fleet_with_jobs_is_not_forgotten(site):
    site.fsqueue("launch cpu")
    assert "fleet cpu still has jobs" in site.fsqueue("fleet forget cpu", 1)
