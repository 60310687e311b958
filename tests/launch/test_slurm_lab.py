"""A real Slurm: what our scripts and parsers assume of it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fleet_harness import write_worker
from slurm_harness import BATCH, NEEDS_LAB, USER, live, logs, prepare_logs, request_of
from support import wait_until

from fsqueue.launch.autoscale import Autoscaler, Managed
from fsqueue.launch.commands import RefusedError, list_jobs, run, slurm, submit
from fsqueue.launch.fleet import Fleet
from fsqueue.launch.launcher import Application, JobTemplate, Launcher
from fsqueue.launch.pace import Pace
from fsqueue.launch.profiles import Profile
from fsqueue.launch.scripts import script_of
from fsqueue.spool.fleets.records import FleetRecord
from fsqueue.spool.format.names import DEFAULT_PRIORITY, Slot
from fsqueue.spool.store.open_spool import open_store

if TYPE_CHECKING:
    pass

pytestmark = NEEDS_LAB
TASKS = """
import os
import fsqueue
app = fsqueue.FSQueue("lab")
@app.task
def whereabouts(number):
    return number, os.environ["SLURM_ARRAY_TASK_ID"]
"""


def waiting(place: Path, **keys: object) -> dict[str, object]:
    """Keys of a profile whose job runs `sleep` instead of a worker."""
    (place / "sleeper").write_text("#!/bin/bash\nexec sleep 600\n")
    (place / "sleeper").chmod(0o755)
    return {"wrap": str(place / "sleeper"), **keys}


@pytest.fixture(autouse=True)
def application(place: Path) -> None:
    (place / "tasks.py").write_text(TASKS)


@pytest.mark.parametrize("count", [1, 3])
def test_a_script_is_accepted_and_listed_by_its_name_with_elements_ids(place, count):
    prepare_logs(place)
    ids = submit(BATCH, script_of(request_of(place, "k7f3q2", count, **waiting(place))), count)
    listed = [job.id for job in live() if job.token == "k7f3q2"]
    assert sorted(listed) == sorted(ids.values())
    assert all(("_" in job_id) == (count > 1) for job_id in listed)
    wait_until(
        lambda: [job.state for job in live()] == ["running"] * count, what="they run", pause=0.2
    )


def test_one_element_of_an_array_is_cancelled_by_its_id(place):
    prepare_logs(place)
    ids = submit(BATCH, script_of(request_of(place, "k7f3q3", 3, **waiting(place))), 3)
    run(BATCH.cancellation([ids[3]], waiting_only=False))
    wait_until(lambda: {job.number for job in live()} == {1, 2}, what="it has ended", pause=0.2)


def test_a_running_job_that_was_cancelled_is_listed_as_that_for_a_while(place):
    """An element of an array that was cancelled before it started is not listed at all."""
    prepare_logs(place)
    ids = submit(BATCH, script_of(request_of(place, "k7f3qa", 2, **waiting(place))), 2)
    wait_until(lambda: [job.state for job in live()] == ["running"] * 2, what="they run", pause=0.2)
    run(BATCH.cancellation([ids[2]], waiting_only=False))

    def ended() -> list:
        listed = list_jobs(BATCH, USER)
        return [(job.id, job.reason) for job in listed if job.state == "ended"]

    wait_until(lambda: (ids[2], "CANCELLED") in ended(), what="it has ended", pause=0.2)


def test_cancelling_waiting_jobs_leaves_running_ones_alone(place):
    prepare_logs(place)
    ids = submit(BATCH, script_of(request_of(place, "k7f3q4", **waiting(place))), 1)
    wait_until(lambda: [job.state for job in live()] == ["running"], what="it runs", pause=0.2)
    run(BATCH.cancellation([ids[1]], waiting_only=True))
    assert [job.state for job in live()] == ["running"]


def test_a_wrong_partition_is_told_by_the_check_and_by_the_submission(place):
    script = script_of(request_of(place, "k7f3q5", batch_queue="nowhere"))
    verdict = run(BATCH.verdict(script))
    assert verdict.code
    assert "invalid partition" in verdict.err.lower()
    with pytest.raises(RefusedError, match=r"(?i)invalid partition"):
        submit(BATCH, script, 1)
    assert live() == []


def test_the_site_says_its_kill_delay_and_longest_array(lab):
    settings = run(slurm.site()).out
    assert slurm.kill_delay(settings) == 10.0
    assert slurm.longest_array(settings) == 1000


def test_workers_of_an_array_run_calls(place):
    prepare_logs(place)
    script = script_of(request_of(place, "k7f3q6", 4))
    submit(BATCH, script, 4)
    calls = "[tasks.whereabouts(number) for number in range(200)]"
    program = f"import tasks; print(sorted(call.result for call in {calls}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        env={**os.environ, "FSQUEUE__ROOT": str(place / "spool")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{logs(place)}"
    found = eval(done.stdout)
    assert [number for number, _ in found] == list(range(200))
    assert {element for _, element in found} <= {"1", "2", "3", "4"}


def test_a_fleet_keeps_in_step_with_slurm(place):
    store = open_store(place / "spool")
    fleet = Fleet(store.files, "cpu", pace=Pace(gap=0.0))
    fleet.files.define(
        FleetRecord(
            name="cpu", system="slurm", app_id="lab", queues=("default",), walltime=600.0,
            slots=2, max=3,
        )
    )  # fmt: skip

    def script(token: str, count: int) -> str:
        return script_of(request_of(place, token, count, **waiting(place)))

    def look() -> list:
        held = fleet.hold()
        return fleet.reconcile(held, list_jobs(BATCH, USER))

    assert len(fleet.submit(2, script)) == 2
    assert len(fleet.submit(2, script)) == 1, "there are three slots"
    assert fleet.submit(1, script) == []
    seen = look()
    assert len(seen) == 3
    assert {job.id for job in seen} == {job.id for job in live()}
    fleet.stop(look(), now=True)
    wait_until(lambda: look() == [], what="all slots are free", pause=0.2)
    assert {past.kind for _, past in fleet.files.past()} == {"cancelled"}


def test_an_autoscaler_goes_from_no_job_to_four_and_back(place):
    """With jobs that take calls as a worker does, and leave when there are none."""
    store = open_store(place / "spool")
    store.files.sync_clock()
    calls = store.layout.slot("lab.default", str(Slot(DEFAULT_PRIORITY, 1.0)))
    store.fs.make_folders(calls)
    for number in range(400):
        (Path(calls) / f"client0001-{number}.1").touch()
    profile = Profile(
        system="slurm", walltime=600.0, max=4, backlog=4, python=write_worker(str(place), calls)
    )
    application = Application("tasks:app", "lab", str(place), str(place / "spool"), {}, 25.0)
    pace = Pace(tick=0.5, listing=0.5, gap=1.0, back_off=1.0)
    template = JobTemplate(application, "cpu", profile)
    launcher = Launcher(store, template, pace=pace)
    launcher.define()
    managed = [Managed("cpu", template.script_of)]
    scaler = Autoscaler(open_store(place / "spool"), "lab", managed, pace=pace, user=USER)
    stop, most = threading.Event(), 0
    thread = threading.Thread(target=scaler.run, args=(stop,))
    thread.start()
    try:

        def is_over() -> bool:
            nonlocal most
            jobs, taken = len(live()), len(launcher.fleet.files.slots.taken())
            most = max(most, jobs)
            return not jobs and not taken and not os.listdir(calls)

        wait_until(is_over, timeout=90, what="no call, job and slot is left", pause=0.2)
    finally:
        stop.set()
        thread.join()
    assert most == 4
    assert {past.kind for _, past in launcher.fleet.files.past()} <= {"idle", "cancelled"}


def test_a_job_within_a_job_is_submitted_as_from_outside(place):
    """The outer job's SLURM_MEM_PER_NODE and SLURM_NTASKS would be options of the inner one."""
    prepare_logs(place)
    program = (
        "from fsqueue.launch.commands import Command, run;"
        "print(run(Command(('sbatch', '--parsable', '--output=/dev/null', '--wrap=env > inner')))"
        ".out, flush=True)"
    )
    (place / "sleeper").write_text(
        f"#!/bin/bash\ncd {shlex.quote(str(place))}\n"
        f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)}\n"
    )
    (place / "sleeper").chmod(0o755)
    submit(
        BATCH, script_of(request_of(place, "k7f3q7", cores=3, wrap=str(place / "sleeper"))), 1
    )  # fmt: skip
    inner = place / "inner"
    wait_until(lambda: inner.exists() and inner.stat().st_size, what="it runs", pause=0.2)
    wait_until(lambda: not live(), what="both have ended", pause=0.2)
    lines = inner.read_text().splitlines()
    assert not [line for line in lines if line.startswith(("FSQUEUE_FLEET", "FSQUEUE_JOB"))]
    assert "SLURM_CPUS_PER_TASK=3" not in lines
