"""Calls that need a certain time, and workers that have only so much."""

import json

import pytest
from acceptance_harness import wait_until
from support import PATIENCE, WHOLE

from fsqueue import State, WalltimeError

# Most of it is waiting for ends of jobs, which mean the same to slots of both kinds.
WAITS_LONG = pytest.mark.parametrize("kind", ["process", "thread"] if WHOLE else ["process"])


def pending_folders(site):
    return sorted(path.name for path in (site.root / "pending").iterdir() if any(path.rglob("*.1")))


def test_a_worker_leaves_calls_that_it_could_not_finish(site, kind):
    task = site.tasks.process_id
    long, short, plain = (task.options(walltime=each)() for each in ("1h", "10m", None))
    worker = site.worker(kind, 1, "--time-limit", "30m", "--until-empty")
    assert worker.wait() == 0, worker.text()
    assert short.get(timeout=60)
    assert plain.get(timeout=60)
    assert long.status is State.PENDING
    assert pending_folders(site) == ["acceptance.default.walltime-3600"]

    shown = json.loads(site.fsqueue("show", long.id, "--json").stdout)
    assert "for 1h: no worker or fleet has that" in str(shown["why"])
    with_time = site.worker(kind, 1, "--time-limit", "2h").wait_for_start()
    assert long.get(timeout=60), with_time.text()


def test_a_call_comes_to_the_worker_that_has_the_time(site, kind):
    short = site.worker(kind, 1, "--time-limit", "30m").wait_for_start()
    long = site.worker(kind, 1, "--time-limit", "3h").wait_for_start()
    marks = site.folder("marks")
    call = site.tasks.hold_later.options(walltime="2h")(marks.folder)
    marks.wait_for_starts(1)
    (holder,) = [path.parent.name for path in (site.root / "running").rglob("*.1")]
    assert f"-{long.pid}-" in holder
    assert f"-{short.pid}-" not in holder
    marks.release()
    call.get(timeout=60)


def test_a_waiting_body_runs_a_call_that_would_not_fit(site, kind):
    """With one slot there is no other place for it (P9)."""
    site.worker(kind, 1, "--time-limit", "30m").wait_for_start()
    outer, inner = site.tasks.process_ids_within("2h").get(timeout=60)
    assert outer == inner


@WAITS_LONG
def test_a_call_whose_timeout_is_longer_than_the_time_left_waits(site, kind):
    limit = ("--time-limit", "1h")
    for seconds in (10, 40, 160):  # on a busy machine it takes longer to look and to call
        margin = ("--stop-margin", f"{3600 - seconds}s")
        worker = site.worker(kind, 1, *limit, *margin).wait_for_start()
        wait_until(lambda: time_left(site) < 3598.5, "less than its time for calls is left")
        call = site.tasks.process_id.options(timeout=seconds - 1.0)()
        refusal = f"{call.id}.1 is left to others"
        wait_until(lambda it=worker, text=refusal: text in it.text() or it.popen.poll() == 0)
        if refusal in worker.text():
            break
        assert call.cancel()
    assert worker.wait() == 0, worker.text()
    assert worker.text().count("is left to others") == 1
    assert call.status is State.PENDING
    site.worker(kind, 1, *limit).wait_for_start()
    assert call.get(timeout=60), "a new worker has the time"


def time_left(site):
    """What the worker says that is left of its job; nothing, if it has ended."""
    found = json.loads(site.fsqueue("workers", "--json").stdout)["workers"]
    return min((each["left"] for each in found), default=0.0)


@WAITS_LONG
def test_a_call_that_is_longer_than_every_job_fails(site, kind):
    marks = site.folder("marks")
    call = site.tasks.hold_later.options(max_cuts=1)(marks.folder)
    jobs = 0
    # On a busy machine, a worker may start so late that its end does not count.
    for seconds in (16, 16, 32, 64, 128):
        jobs += 1
        worker = site.worker(kind, 1, "--time-limit", f"{seconds}s", SLURM_JOB_ID=f"{jobs}")
        assert worker.wait(seconds + PATIENCE) == 0, worker.text()
        wait_until(lambda: not site.files("running"), "it is given back")
        if call.status is State.FAILED:
            break
    reason = rf"ran \d+ s of {seconds * 7 // 8} s in 1 job, whose end cut it off"
    with pytest.raises(WalltimeError, match=reason):
        call.get(timeout=60)
    shown = json.loads(site.fsqueue("show", call.id, "--json").stdout)
    assert [cut["job"] for cut in shown["cuts"]] == [str(each) for each in range(1, jobs + 1)]
    assert shown["attempt"] == 1, "no end of a job costs an attempt"
    assert "by the end of worker" in site.fsqueue("show", call.id).stdout

    retried = site.fsqueue("retry", call.id)
    assert retried.returncode == 0, retried.stderr
    marks.release()
    site.worker(kind, 1, "--until-empty").wait()
    assert site.files("failed") == []
