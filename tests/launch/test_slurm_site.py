"""What users of a real Slurm do, from the command line: no call is lost, and nothing is left."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from batch_site import BatchSite
from slurm_harness import NEEDS_LAB
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = NEEDS_LAB
REPOSITORY = Path(__file__).parents[2]
TASKS = """
import os, time
import fsqueue

app = fsqueue.FSQueue("lab")


@app.task(max_attempts=1)
def where(number):
    attempt = fsqueue.current_invocation().attempt
    cores = os.environ["SLURM_CPUS_PER_TASK"]
    return number, attempt, os.environ["SLURM_ARRAY_TASK_ID"], cores, time.time()


@app.task(max_attempts=2)
def hold(folder, number):
    open(f"{folder}/start-{number}", "a").close()
    while not os.path.exists(f"{folder}/release"):
        time.sleep(0.05)
    return number, fsqueue.current_invocation().attempt
"""
IDLE_TIMEOUT = 3
PROFILES = f"""
app = "tasks:app"

[launch.cpu]
system = "slurm"
walltime = "5m"
cores = 2
signal_before = "5s"
idle_timeout = "{IDLE_TIMEOUT}s"
max = 4
"""
CALLS = "tasks.where.parallelize([(n,) for n in range({})]).get()"


@pytest.fixture
def site(place: Path) -> Iterator[BatchSite]:
    site = BatchSite(place, TASKS, PROFILES, "squeue -h -r -o %i", {})
    yield site
    site.end()


def assert_nothing_is_left(site: BatchSite) -> None:
    """No job, process or call; the jobs have ended by themselves."""
    site.wait_for_end()
    for folder in ("pending", "running"):
        files = [path for path in (site.folder / "spool" / folder).rglob("*.*") if path.is_file()]
        assert files == []
    assert set(re.findall(r"JobState=(\S+)", jobs_of(site))) == {"COMPLETED"}


def jobs_of(site: BatchSite) -> str:
    """Slurm's words on the jobs of this folder, one in each line."""
    shown = site.run("scontrol", "--oneliner", "show", "job")
    return "\n".join(line for line in shown.splitlines() if f"WorkDir={site.folder}" in line)


def test_an_array_of_four_jobs_does_two_hundred_calls(site):
    assert "submitted 4 jobs" in site.fsqueue("launch cpu --count 4 --wait --timeout 90")
    found = site.python(f"print(json.dumps({CALLS.format(200)}))")
    assert [(number, attempt) for number, attempt, *_ in found] == [(n, 1) for n in range(200)]
    assert {element for _, _, element, *_ in found} <= {"1", "2", "3", "4"}
    assert_nothing_is_left(site)
    # Without work a job leaves soon; Slurm tells its end in whole seconds.
    jobs = re.findall(r"ArrayTaskId=(\d+) .*EndTime=(\S+)", jobs_of(site))
    assert len(jobs) == 4
    for element, end in jobs:
        last = [at for *_, where, _, at in found if where == element]
        ended = dt.datetime.fromisoformat(end).timestamp()
        assert not last or ended - max(last) <= IDLE_TIMEOUT + 10


def test_a_job_launches_others_and_makes_calls(site):
    """The outer job's variables, such as SLURM_CPUS_PER_TASK, must not reach the inner ones."""
    (site.folder / "outer.sh").write_text(f"""#!/bin/bash
#SBATCH --cpus-per-task=3 --time=5 --output=outer.log
{sys.executable} -m fsqueue launch cpu --count 2 &&
    {sys.executable} -c 'import json, tasks; print(json.dumps({CALLS.format(20)}))' >found.json
""")
    site.run("sbatch", "outer.sh")
    assert_nothing_is_left(site)
    assert "submitted 2 jobs" in site.logs()
    found = json.loads((site.folder / "found.json").read_text())
    assert [(number, attempt) for number, attempt, *_ in found] == [(n, 1) for n in range(20)]
    assert {cores for *_, cores, _ in found} == {"2"}


def test_an_autoscaler_goes_from_no_job_to_four_and_back(site):
    calls = start_holding(site, 10)
    scaler = site.start(*(sys.executable, "-m", "fsqueue", "autoscale", "cpu", "--interval", "1s"))
    most = 0

    def eight_run() -> bool:
        nonlocal most
        most = max(most, len(site.ids()))
        return site.starts() == 8

    wait_until(eight_run, site.logs, timeout=100, pause=0.3)
    assert len(site.ids()) == most == 4
    finish(site, calls, {1})
    assert_nothing_is_left(site)
    scaler.terminate()
    assert scaler.wait(60) == 0


@pytest.mark.parametrize("all_dies", [False, True], ids=["daemons", "all"])
def test_calls_of_a_failed_node_run_again(site, lab, all_dies):
    """Without its daemons a worker notices that it is alone, and gives its calls back."""
    calls = start_holding(site, 2)
    site.fsqueue("launch cpu -- --no-requeue")
    wait_until(lambda: site.starts() == 2, site.logs, pause=0.1)
    (node,) = site.run("squeue", "-h", "-o", "%N").split()
    fail(site, Path(lab), node, all_dies=all_dies)
    try:
        site.wait_for_end()
        assert "JobState=NODE_FAIL" in jobs_of(site)
        site.fsqueue("launch cpu")
        finish(site, calls, {2} if all_dies else {1})
        site.wait_for_end()
    finally:
        bring_back(site, Path(lab), node)


def test_the_example_of_a_sweep_runs_in_jobs(site):
    shutil.rmtree(site.folder / "__pycache__", ignore_errors=True)
    for path in (REPOSITORY / "examples" / "cluster_sweep").iterdir():
        if path.is_file():
            shutil.copy(path, site.folder)
    printed = site.run(sys.executable, "run.py", "--profile", "slurm")
    assert re.findall(r"^seed (\d): rate 0\.5", printed, re.MULTILINE) == list("0123")
    assert_nothing_is_left(site)


def test_the_script_of_the_documentation_runs_workers(site):
    page = (REPOSITORY / "docs" / "batch" / "slurm.md").read_text()
    script = re.search(r"```text\n(#!/bin/bash\n.*?)```", page, re.DOTALL)[1]
    for documented, here in (
        ("/shared/project", str(site.folder)),
        ("/shared/queue", site.environ["FSQUEUE__ROOT"]),
        ("exec fsqueue", f"exec {sys.executable} -m fsqueue"),
        ("--cpus-per-task=16", "--cpus-per-task=2"),
        ("--idle-timeout 5m", f"--idle-timeout {IDLE_TIMEOUT}s"),
    ):
        assert documented in script
        script = script.replace(documented, here)
    (site.folder / "own.sh").write_text(script)
    site.run("sbatch", "--output=%A_%a.log", "own.sh")
    found = site.python(f"print(json.dumps({CALLS.format(40)}))")
    assert [(number, attempt) for number, attempt, *_ in found] == [(n, 1) for n in range(40)]
    assert_nothing_is_left(site)


# -- calls ----------------------------------------------------------------------------------


def start_holding(site: BatchSite, count: int) -> subprocess.Popen:
    """A main script that makes calls of `hold`, and waits for them."""
    program = (
        "import json, tasks;"
        f"found = tasks.hold.parallelize([('.', n) for n in range({count})]).get();"
        "json.dump(found, open('found.json', 'w'))"
    )
    return site.start(sys.executable, "-c", program)


def finish(site: BatchSite, calls: subprocess.Popen, attempts: set[int]) -> None:
    site.release()
    assert calls.wait(100) == 0, site.logs()
    found = json.loads((site.folder / "found.json").read_text())
    assert [number for number, _ in found] == list(range(len(found)))
    assert {attempt for _, attempt in found} == attempts, site.logs()


# -- nodes ----------------------------------------------------------------------------------


def fail(site: BatchSite, conf: Path, node: str, *, all_dies: bool) -> None:
    """Kill a node's daemons, or all that runs on it at once, and tell Slurm that it is down."""
    daemon = psutil.Process(int(pid_file(conf, node).read_text()))
    workers = [psutil.Process(pid) for pid in site.processes()]
    workers = [each for each in workers if "SLURM_JOB_ID" in each.environ()]
    steps = {up.pid: up for each in workers for up in each.parents() if is_step(up)}
    assert steps
    assert workers
    for process in [daemon, *steps.values(), *(workers if all_dies else [])]:
        process.kill()
    site.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")


def is_step(process: psutil.Process) -> bool:
    return process.name().startswith("slurmstepd")


def pid_file(conf: Path, node: str) -> Path:
    return conf.parents[1] / "run" / f"slurmd.{node}.lab.pid"


def bring_back(site: BatchSite, conf: Path, node: str) -> None:
    """Start a daemon as the lab does, so that it ends it, too."""
    log = conf.parents[1] / "log" / f"slurmd.{node}.out.log"
    site.run(
        *(
            "sh",
            "-c",
            'setsid nohup slurmd -D -N "$1" -f "$2" >>"$3" 2>&1 </dev/null & echo $! >"$4"',
        ),
        *("sh", node, str(conf), str(log), str(pid_file(conf, node))),
    )
    # With ReturnToService=2 a node is up again as soon as its daemon has registered.
    wait_until(
        lambda: "idle" in site.run("sinfo", "-h", "-N", "-p", "all", "-n", node, "-o", "%T"),
        what="the node is back",
        pause=0.3,
    )
