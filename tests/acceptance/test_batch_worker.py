"""Workers in batch jobs: the end of the job, warnings, the parent, and leaving by themselves.

No batch system is needed: the end is that of FSQUEUE_JOB_UNTIL or of ``--time-limit``.
"""

import json
import os
import shutil
import signal
import sys
import time
from functools import partial

import pytest
from acceptance_harness import alive, wait_until
from support import PATIENCE

from fsqueue.launch.launcher import grace_within

JOB = {"SLURM_JOB_ID": "77", "SLURM_CPUS_PER_TASK": "3"}


def until(seconds):
    """The environment of a job that ends in so many seconds."""
    return {**JOB, "FSQUEUE_JOB_UNTIL": f"{time.time() + seconds:.3f}"}


def start_in_short_job(site, kind):
    """A worker with one slot that has most of its job's time left.

    The job is longer on a machine that is so busy that the start takes long.
    """
    for seconds in (16, 32, 64):
        end = time.time() + seconds
        worker = site.worker(kind, 1, **until(seconds))
        wait_until(lambda it=worker: " serves " in it.text() or it.popen.poll() is not None)
        if end - time.time() > 0.6 * seconds:
            return worker.wait_for_start()
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.text()
    raise AssertionError(f"no worker starts in time:\n{worker.text()}")


def begin(site, kind, *options, before=(), **env):
    """A worker with one slot, in the middle of a body."""
    return begin_on(site, site.worker(kind, 1, *options, before=before, **env).wait_for_start())


def begin_on(site, worker):
    site.marks_of_call = site.folder("marks")
    site.busy = worker
    site.held = site.call(site.tasks.hold, site.marks_of_call.folder)
    (site.body,) = site.marks_of_call.wait_for_starts(1)
    (name,) = site.files("running")
    return name


def assert_given_back(site, name):
    """The call is pending again as the same attempt, and nothing runs any more."""
    assert name.endswith(".1")
    assert site.files("pending") == [name], site.busy.text()
    assert site.names("running") == site.names("workers") == site.names("tmp") == []
    wait_until(lambda: not alive(site.body), "the body has ended")
    wait_until(lambda: not site.busy.group(), lambda: f"processes end: {site.busy.group()}")


# -- the end of the job ---------------------------------------------------------------------


def test_what_still_runs_at_the_last_call_is_given_back(site, kind):
    name = begin_on(site, start_in_short_job(site, kind))

    assert site.busy.wait() == 0, site.busy.text()
    text = site.busy.text()
    assert "according to FSQUEUE_JOB_UNTIL" in text
    assert text.index("this worker leaves: the job ends in") < text.index("the job ends soon:")
    assert_given_back(site, name)
    shown = json.loads(site.fsqueue("show", name.rpartition(".")[0], "--json").stdout)
    assert [cut["job"] for cut in shown["cuts"]] == ["77"]
    site.worker("thread", 1)
    site.marks_of_call.wait_for_starts(2)
    site.marks_of_call.release()
    assert site.held.result(60)


def test_a_nested_call_is_given_back_too(site, kind):
    marks = site.folder("marks")
    worker = start_in_short_job(site, kind)
    held = site.call(site.tasks.hold_within, marks.folder)
    marks.wait_for_starts(1)

    assert worker.wait() == 0, worker.text()
    assert [name.rpartition(".")[2] for name in site.files("pending")] == ["1", "1"]
    assert site.names("running") == site.names("workers") == []
    marks.release()
    site.worker("thread", 1)
    assert held.result(60) != worker.pid


def test_while_closing_bodies_finish_and_nothing_is_claimed(site, kind):
    site.marks_of_call = site.folder("marks")
    site.held = site.call(site.tasks.hold, site.marks_of_call.folder)
    for seconds in (10, 30, 60):  # in which the body begins, also on a busy machine
        flags = ("--time-limit", "1h", "--stop-margin", f"{3600 - seconds}s")
        site.busy = site.worker(kind, 1, *flags)
        begun = partial(site.marks_of_call.pids, "starts")
        wait_until(lambda begun=begun: begun() or site.busy.popen.poll() is not None, "it begins")
        if begun():
            break
    (site.body,) = begun()
    site.busy.wait_for_log("this worker leaves: the job ends in")
    waiting = site.call(site.tasks.pid)
    wait_until(lambda: site.files("pending"), "the second call is pending")

    site.marks_of_call.release()

    assert site.held.result(60) == site.body
    assert site.busy.wait() == 0, site.busy.text()
    assert [name.rpartition(".")[2] for name in site.files("pending")] == ["1"]
    assert not waiting.done()
    assert site.marks_of_call.pids("starts") == [site.body], "it ran once"


def test_an_idle_worker_leaves_when_nothing_fits_any_more(site, kind):
    worker = site.worker(kind, 1, "--time-limit", "1h", "--stop-margin", "3598s").wait_for_start()
    assert worker.wait() == 0, worker.text()
    assert "the job ends soon" not in worker.text(), "it leaves before the last call"
    assert site.names("workers") == []


def test_an_end_that_is_unknown_is_said_once(site):
    worker = site.worker("thread", 1, OAR_JOB_ID="31").wait_for_start()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert worker.text().count("the end of job 31 is unknown") == 1


def test_without_a_job_there_is_no_end_to_speak_of(site):
    worker = site.worker("thread", 1, "--time-limit", "auto").wait_for_start()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert "the end" not in worker.text()
    assert "the job" not in worker.text()


# -- warnings and kills ---------------------------------------------------------------------

WARNINGS = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]


@pytest.mark.parametrize("number", WARNINGS, ids=lambda number: number.name)
def test_after_a_warning_bodies_go_on_until_the_known_end(site, kind, number):
    beats = {"FSQUEUE__HEARTBEAT": "0.1", "FSQUEUE__STOP_GRACE": "0.2"}
    begin(site, kind, "--time-limit", "1h", **beats)
    site.busy.signal_all(number)
    site.busy.wait_for_log(f"stopping on {number.name}; running calls get")
    assert "until the job ends: 1" in site.busy.text()
    (beat,) = (site.root / "workers").glob("*.beat")
    began = beat.stat().st_mtime
    wait_until(lambda: beat.stat().st_mtime > began + 1, "the grace is over long ago")
    for again in WARNINGS:
        site.busy.signal_all(again)
        site.busy.wait_for_log(f"{again.name}: this worker is stopping already")

    site.marks_of_call.release()

    assert site.held.result(60) == site.body
    assert site.busy.wait() == 0, site.busy.text()
    assert site.marks_of_call.pids("starts") == [site.body]


def test_a_sigterm_after_a_warning_leaves_only_the_grace(site, kind):
    name = begin(site, kind, "--time-limit", "1h", FSQUEUE__STOP_GRACE="0.2")
    site.busy.signal(signal.SIGUSR2)
    site.busy.wait_for_log("stopping on SIGUSR2;")
    site.busy.signal(signal.SIGTERM)

    assert site.busy.wait() == 0, site.busy.text()
    assert_given_back(site, name)


def test_sigusr2_in_grid_engine_leaves_only_the_grace(site, kind):
    """There it announces that the job was deleted, and SIGKILL comes soon."""
    grid_engine = {"JOB_ID": "7", "SGE_TASK_ID": "undefined"}
    name = begin(site, kind, "--time-limit", "1h", FSQUEUE__STOP_GRACE="0.2", **grid_engine)
    site.busy.signal(signal.SIGUSR2)

    assert site.busy.wait() == 0, site.busy.text()
    assert_given_back(site, name)


def test_a_kill_after_the_clamped_grace_costs_no_attempt(site, kind):
    """On a busy machine a short time may not be enough to give back: then it has longer."""
    for kill_delay in (2, 5, 20, 60):
        grace = grace_within(kill_delay, 25.0)
        name = begin(site, kind, FSQUEUE__STOP_GRACE=f"{grace:g}")
        pids = " ".join(map(str, [site.busy.pid, *site.busy.children()]))
        script = f"kill -TERM {site.busy.pid}; sleep {kill_delay}; kill -KILL {pids}"
        site.start("sh", "-c", script)
        if site.busy.wait(2 * PATIENCE) == 0:
            break
        finish_elsewhere(site, kind)

    assert site.busy.wait() == 0, "it has left before the kill"
    assert_given_back(site, name)


def finish_elsewhere(site, kind):
    """Let another worker run the call whose worker was killed, and leave the site as new."""
    site.marks_of_call.release()
    worker = site.worker(kind, 1).wait_for_start()
    site.held.result(PATIENCE)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()
    shutil.rmtree(site.marks_of_call.path)


# -- the parent -----------------------------------------------------------------------------

# The shell is the worker's parent and not replaced by it.
UNDER_A_SHELL = ("sh", "-c", '"$@"; exit', "sh")


def orphan(site):
    """Kill the worker's parent."""
    (parent, worker) = site.busy.pid, site.busy.children()[0]
    os.kill(parent, signal.SIGKILL)
    return worker


@pytest.mark.parametrize("how", ["job", "limit", "supervisor"])
def test_a_worker_whose_parent_is_gone_gives_its_calls_back(site, kind, how):
    name = begin(
        site,
        kind,
        *(("--time-limit", "1h") if how == "limit" else ()),
        before=("sh", "-c", 'FSQUEUE_SUPERVISOR=$$; export FSQUEUE_SUPERVISOR; "$@"; exit', "sh")
        if how == "supervisor"
        else UNDER_A_SHELL,
        **({} if how == "supervisor" else until(3600)),
    )
    worker = orphan(site)

    wait_until(lambda: not alive(worker), "the worker has ended")
    assert "is gone: giving the running calls back at once" in site.busy.text()
    assert_given_back(site, name)


@pytest.mark.parametrize("where", ["outside", "in a job"])
def test_a_worker_that_is_not_part_of_a_job_outlives_its_parent(site, kind, where):
    """As under nohup, in the background of a shell that exits."""
    env = {"FSQUEUE__HEARTBEAT": "0.1"} | (JOB if where == "in a job" else {})
    flags = ("--time-limit", "none") if where == "in a job" else ()
    begin(site, kind, *flags, before=UNDER_A_SHELL, **env)
    orphan(site)
    (beat,) = (site.root / "workers").glob("*.beat")
    began = beat.stat().st_mtime
    wait_until(lambda: beat.stat().st_mtime > began + 1, "it has noticed by now")
    site.marks_of_call.release()
    assert site.held.result(60) == site.body


# -- leaving by itself ----------------------------------------------------------------------


def test_a_worker_without_work_leaves_after_the_idle_timeout(site, kind):
    worker = site.worker(kind, 2, "--idle-timeout", "1s").wait_for_start()
    assert worker.wait() == 0, worker.text()
    assert "it has had no call for 1s" in worker.text()
    assert site.names("workers") == []


def test_a_worker_with_work_is_not_idle(site, kind):
    marks = site.folder("marks")
    held = site.call(site.tasks.hold, marks.folder)
    wait_until(lambda: site.files("pending"), "the call is pending")
    worker = site.worker(kind, 1, "--idle-timeout", "4s", FSQUEUE__HEARTBEAT="0.1")
    (body,) = marks.wait_for_starts(1)
    (beat,) = (site.root / "workers").glob("*.beat")
    began = beat.stat().st_mtime
    wait_until(lambda: beat.stat().st_mtime > began + 5, "an idle worker would have left")
    assert worker.popen.poll() is None
    marks.release()
    assert held.result(60) == body
    assert worker.wait() == 0, worker.text()


def test_a_worker_leaves_when_its_queues_are_empty(site, kind):
    calls = [site.tasks.square(number) for number in range(20)]
    later = site.tasks.square.options(countdown=3600)(1)

    worker = site.worker(kind, 3, "--until-empty")

    assert worker.wait() == 0, worker.text()
    assert [call.result[0] for call in calls] == [number**2 for number in range(20)]
    assert later.status == "pending"
    assert "nothing in its queues is due" in worker.text()
    assert site.names("workers") == site.names("running") == []


def test_calls_that_running_bodies_make_are_run_too(site, kind):
    call = site.tasks.square(3)
    chained = call.then(site.tasks.square_of)
    worker = site.worker(kind, 2, "--until-empty")
    assert worker.wait() == 0, worker.text()
    assert chained.result == 81


@pytest.mark.concurrent
def test_a_chain_of_calls_is_run_to_its_end(site, kind):
    """Each link is made at the moment at which the worker has nothing else to do."""
    marks = site.folder("marks")
    site.tasks.chain(marks.folder, 50)
    worker = site.worker(kind, 1, "--until-empty")
    assert worker.wait() == 0, worker.text()
    assert len(marks.pids("links")) == 50
    assert site.files("pending") == []


def test_a_call_that_waits_for_a_resource_of_this_worker_is_due(site, kind):
    marks = site.folder("marks")
    first, second = (site.call(site.tasks.hold_on_gpu, marks.folder) for _ in range(2))
    wait_until(lambda: len(site.files("pending")) == 2, "both are pending")
    marks.release()

    worker = site.worker(kind, 2, "--until-empty", "--resource", "gpu=1")

    assert worker.wait() == 0, worker.text()
    assert first.result(60)
    assert second.result(60)


@pytest.mark.concurrent
@pytest.mark.parametrize("supervised", [False, True], ids=["alone", "supervised"])
def test_a_worker_leaves_after_so_many_calls(site, kind, supervised):
    calls = [site.tasks.square(number) for number in range(12)]
    env = {"FSQUEUE_SUPERVISOR": str(os.getpid())} if supervised else {}

    worker = site.worker(kind, 4, "--max-tasks", "5", **env)

    assert worker.wait() == (75 if supervised else 0), worker.text()
    assert sum(call.status == "succeeded" for call in calls) == 5
    assert {name.rpartition(".")[2] for name in site.files("pending")} == {"1"}
    assert len(site.files("pending")) == 7
    assert site.names("workers") == site.names("running") == []


def test_calls_that_wait_for_their_turn_are_not_counted(site, kind):
    marks = site.folder("marks")
    first = site.worker("thread", 1).wait_for_start()
    held = site.tasks.hold_alone(marks.folder)
    marks.wait_for_starts(1)
    waiting, plain = site.tasks.hold_alone(marks.folder), site.tasks.square(3)

    worker = site.worker(kind, 1, "--max-tasks", "1")

    assert worker.wait() == 0, worker.text()
    assert plain.result[0] == 9
    assert waiting.status == "pending"
    marks.release()
    assert held.result == first.pid
    assert waiting.result == first.pid


# -- what the job gives ---------------------------------------------------------------------


def test_slots_and_devices_come_from_the_job(site):
    env = {**until(3600), "CUDA_VISIBLE_DEVICES": "0,3"}
    flags = ("--concurrency", "cores", "--gpus", "auto", "--resource", "mem=auto")
    worker = site.worker("thread", None, *flags, **env, SLURM_MEM_PER_CPU="1024").wait_for_start()
    assert "with 3 thread slots" in worker.text()
    (found,) = json.loads(site.fsqueue("workers", "--json").stdout)["workers"]
    assert (found["slots"], found["resources"]) == (3, "gpu=2 mem=3G")
    assert found["batch"]["job"] == "77"
    assert 3000 < found["left"] < 3600
    shown = site.fsqueue("workers").stdout
    assert "JOB" in shown
    assert "LEFT" in shown
    assert "77" in shown


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--time-limit", "10:00", "auto or none"),
        ("--time-limit", "0", "above 0"),
        ("--idle-timeout", "soon", "is not a duration"),
        ("--concurrency", "0", "or cores"),
        ("--gpus", "0,0", "different names"),
        ("--max-tasks", "0", "0"),
    ],
)
def test_a_bad_flag_is_told(site, flag, value, expected):
    done = site.run(sys.executable, "-m", "fsqueue", "worker", "tasks:app", flag, value)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
