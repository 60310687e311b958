"""Workers in jobs of a real Slurm: no planned end of a job costs a call an attempt."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from slurm_harness import BATCH, NEEDS_LAB, live, logs, prepare_logs, request_of
from support import wait_until

from fsqueue.launch.batch import run, script_of, submit
from fsqueue.launch.launcher import grace_within
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import Member

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = NEEDS_LAB
# One lost attempt fails the call.
TASKS = """
import os, time
import fsqueue
app = fsqueue.FSQueue("lab")
@app.task(max_attempts=1)
def hold(folder, number):
    with open(f"{folder}/starts", "a") as file:
        file.write(f"{number}\\n")
    while not os.path.exists(f"{folder}/release"):
        time.sleep(0.05)
    return number, fsqueue.current_invocation().attempt
"""
FIRST, SECOND = "k7f3q2", "k7f3q3"


class Work:
    """Five calls for jobs with two slots; their bodies run until `release`."""

    def __init__(self, place: Path, tasks) -> None:
        self.place, self.tasks = place, tasks
        self.spool = place / "spool"
        prepare_logs(place)
        self.calls = [tasks.hold(str(place), number) for number in range(5)]

    def submit(self, token: str = FIRST, **keys: object) -> str:
        keys = {"signal_before": 0.0, "idle_timeout": 2.0} | keys
        grace = keys.pop("stop_grace", 5.0)
        request = request_of(self.place, token, **keys)
        script = script_of(type(request)(**vars(request) | {"stop_grace": grace}))
        return submit(BATCH, script, 1)[1]

    def starts(self) -> int:
        path = self.place / "starts"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def wait_for_starts(self, count: int) -> None:
        wait_until(
            lambda: self.starts() >= count,
            lambda: f"{count} starts, only {self.starts()}:\n{logs(self.place)}",
            pause=0.1,
        )
        assert self.processes()

    def assert_all_pending(self) -> None:
        """All calls are pending as the first attempt, and nothing of the job is left."""
        names = [path.name for path in (self.spool / "pending").rglob("*.1")]
        assert len(names) == len(self.calls), logs(self.place)
        assert list((self.spool / "running").iterdir()) == []
        wait_until(lambda: not self.processes(), lambda: f"they end: {self.processes()}")

    def processes(self) -> list[str]:
        """Processes of workers and bodies."""
        return [
            " ".join(process.info["cmdline"] or [])
            for process in psutil.process_iter(["cmdline", "cwd"])
            if process.info["cwd"] == str(self.place)
        ]

    def finish(self) -> None:
        """Let another job do the rest: every value is right, on the first attempt."""
        (self.place / "release").touch()
        self.submit(SECOND)
        self.assert_right()

    def assert_right(self) -> None:
        found = [call.get(timeout=100) for call in self.calls]
        assert found == [(number, 1) for number in range(5)], logs(self.place)
        wait_until(lambda: not live(), "all jobs have ended by themselves", pause=0.2)
        wait_until(lambda: not self.processes(), lambda: f"they end: {self.processes()}")

    def end(self, token: str = FIRST) -> str:
        end = FleetFiles(self.tasks.app.store.files, "cpu").end(Member(token, 1))
        return end.reason if end else ""


@pytest.fixture
def work(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    (place / "tasks.py").write_text(TASKS)
    monkeypatch.setenv("FSQUEUE__ROOT", str(place / "spool"))
    spec = importlib.util.spec_from_file_location("tasks", place / "tasks.py")
    tasks = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tasks", tasks)
    spec.loader.exec_module(tasks)
    work = Work(place, tasks)
    yield work
    (place / "release").touch()
    tasks.app.close()


def control(*words: str) -> str:
    done = subprocess.run(["scontrol", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def gone(job_id: str) -> bool:
    return job_id not in {job.id for job in live()}


def test_a_time_limit_with_calls_that_do_not_fit(work):
    job_id = work.submit(walltime=40.0)
    work.wait_for_starts(2)
    wait_until(lambda: gone(job_id), lambda: logs(work.place), pause=0.2)
    job = control("show", "job", job_id)
    assert "JobState=COMPLETED" in job
    assert "ExitCode=0:0" in job
    assert work.starts() == 2, "nothing was begun that would not fit"
    assert work.end() == "walltime"
    work.assert_all_pending()
    work.finish()


@pytest.mark.parametrize("runner", ["process", "thread"])
def test_scancel(work, runner):
    job_id = work.submit(runner=runner)
    work.wait_for_starts(2)
    run(BATCH.cancellation([job_id], waiting_only=False))
    wait_until(lambda: gone(job_id), lambda: logs(work.place), pause=0.2)
    assert work.end() == "signal"
    work.assert_all_pending()
    work.finish()


def test_a_requeued_job_goes_on(work):
    job_id = work.submit(requeue=True)
    work.wait_for_starts(2)
    control("requeue", job_id)
    work.wait_for_starts(4)
    (work.place / "release").touch()
    work.assert_right()
    assert "Restarts=1" in control("show", "job", job_id)
    assert work.end() == "idle", "of its last run"


def test_a_preempted_job_goes_on(work):
    job_id = work.submit(requeue=True, batch_queue="low")
    work.wait_for_starts(2)
    subprocess.run(
        "sbatch --partition=high --nodes=4 --exclusive --output=/dev/null --wrap 'sleep 2'",
        shell=True,
        check=True,
        capture_output=True,
    )
    work.wait_for_starts(4)
    (work.place / "release").touch()
    work.assert_right()
    assert "Restarts=1" in control("show", "job", job_id)


def test_a_kill_after_five_seconds(work, lab):
    path = Path(lab)
    before = path.read_text()
    path.write_text(re.sub(r"KillWait=\d+", "KillWait=5", before))
    try:
        control("reconfigure")
        job_id = work.submit(stop_grace=grace_within(5.0, 25.0))
        work.wait_for_starts(2)
        run(BATCH.cancellation([job_id], waiting_only=False))
        wait_until(lambda: gone(job_id), lambda: logs(work.place), pause=0.2)
        assert work.end() == "signal"
        work.assert_all_pending()
        work.finish()
    finally:
        path.write_text(before)
        control("reconfigure")


def test_slurms_warning_begins_the_closing(work):
    """It comes up to half a minute early; bodies go on until the end that the job knows."""
    job_id = work.submit(walltime=120.0, signal_before=60.0)
    work.wait_for_starts(2)  # within half a minute
    wait_until(
        lambda: "stopping on SIGUSR2; running calls get" in logs(work.place),
        lambda: logs(work.place),
        timeout=120.0,
        pause=0.2,
    )
    (work.place / "release").touch()
    wait_until(lambda: gone(job_id), lambda: logs(work.place), pause=0.2)
    assert work.starts() == 2
    assert [call.get(timeout=10) for call in work.calls if call.status == "succeeded"][1][1] == 1
    work.finish()
