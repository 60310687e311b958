"""Workers of a fleet's jobs: what they tell the fleet, and when they leave because of it."""

import signal

import pytest
from acceptance_harness import wait_until

from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import FleetRecord, Member

MEMBER = Member("k7f3q2", 2)
JOB = {
    "SLURM_JOB_ID": "78",
    "SLURM_ARRAY_JOB_ID": "77",
    "SLURM_ARRAY_TASK_ID": "2",
    "FSQUEUE_FLEET": "cpu",
    "FSQUEUE_FLEET_TOKEN": MEMBER.token,
    "FSQUEUE_JOB_UNTIL": "4102444800",
    "FSQUEUE__HEARTBEAT": "0.2",
}


@pytest.fixture
def fleet(site):
    files = FleetFiles(site.tasks.app.store.files, "cpu")
    files.define(
        FleetRecord(
            name="cpu",
            system="slurm",
            app_id="acceptance",
            queues=("default",),
            walltime=14_400.0,
            slots=1,
        )
    )
    return files


def ended(fleet):
    end = fleet.end(MEMBER)
    return end and (end.reason, end.calls)


def test_a_worker_notes_its_birth_and_its_end(site, kind, fleet):
    assert fleet.born() == {}
    call = site.tasks.square(3)
    worker = site.worker(kind, 1, "--idle-timeout", "1s", **JOB)
    assert worker.wait() == 0, worker.text()
    assert call.result[0] == 9
    assert list(fleet.born()) == [MEMBER]
    assert ended(fleet) == ("idle", 1)
    assert fleet.end(MEMBER).seconds > 0.9


@pytest.mark.parametrize(
    ("flags", "end"),
    [
        (("--max-tasks", "1"), ("max-tasks", 1)),
        (("--until-empty",), ("until-empty", 1)),
        (("--time-limit", "1h", "--stop-margin", "3590s"), ("walltime", 1)),
    ],
    ids=["max-tasks", "until-empty", "walltime"],
)
def test_each_reason_to_leave_is_noted(site, fleet, flags, end):
    site.tasks.square(3)
    worker = site.worker("thread", 1, *flags, **JOB)
    assert worker.wait() == 0, worker.text()
    assert ended(fleet) == end


def test_signals_and_requests_are_noted(site, fleet):
    worker = site.worker("thread", 1, **JOB).wait_for_start()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert ended(fleet) == ("signal", 0)
    worker = site.worker("thread", 1, **JOB, SLURM_RESTART_COUNT="1").wait_for_start()
    site.fsqueue("drain", "--all", "--wait")
    assert worker.wait() == 0
    assert ended(fleet) == ("drained", 0), "the job was requeued: its last run counts"


def test_what_is_cut_off_is_given_back_before_the_end_is_noted(site, kind, fleet):
    marks = site.folder("marks")
    worker = site.worker(kind, 1, **JOB, FSQUEUE__STOP_GRACE="0.2").wait_for_start()
    site.call(site.tasks.hold, marks.folder)
    marks.wait_for_starts(1)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()
    assert [name.rpartition(".")[2] for name in site.files("pending")] == ["1"]
    assert ended(fleet) == ("signal", 0)
    assert site.names("workers") == []


@pytest.mark.parametrize("mark", ["stopped", "cancelled"])
def test_a_running_worker_drains_when_its_fleet_wants_that(site, kind, fleet, mark):
    marks = site.folder("marks")
    worker = site.worker(kind, 1, **JOB).wait_for_start()
    held = site.call(site.tasks.hold, marks.folder)
    (body,) = marks.wait_for_starts(1)
    if mark == "stopped":
        fleet.mark("stopped", "enough")
    else:
        fleet.note_cancelled(MEMBER)
    worker.wait_for_log("stopping on its fleet cpu")
    waiting = site.call(site.tasks.pid)
    wait_until(lambda: site.files("pending"), "the second call is pending")
    marks.release()
    assert held.result(60) == body
    assert worker.wait() == 0, worker.text()
    assert not waiting.done()
    assert ended(fleet) == ("drained", 1)


def test_marks_for_other_jobs_do_not_matter(site, fleet):
    fleet.note_cancelled(Member(MEMBER.token, 1))
    fleet.mark("paused", "for now")
    worker = site.worker("thread", 1, "--until-empty", **JOB)
    assert worker.wait() == 0
    assert ended(fleet) == ("until-empty", 0)


def test_a_job_that_starts_after_the_stop_claims_nothing(site, kind, fleet):
    fleet.mark("stopped", "enough")
    call = site.tasks.square(3)
    worker = site.worker(kind, 1, **JOB)
    assert worker.wait() == 0, worker.text()
    assert call.status == "pending"
    assert "its fleet cpu is stopped: enough" in worker.text()
    assert ended(fleet) == ("drained", 0)


@pytest.mark.concurrent
def test_the_workers_of_a_job_with_several_nodes_have_one_end(site, fleet):
    calls = [site.tasks.square(number) for number in range(10)]
    workers = [site.worker("thread", 1, "--until-empty", **JOB) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert [call.result[0] for call in calls] == [number**2 for number in range(10)]
    assert list(fleet.born()) == [MEMBER]
    assert ended(fleet) == ("until-empty", 10)


def test_a_worker_that_cannot_work_says_so(site, fleet):
    """The queue's folder is a file."""
    site.tasks.square(3).cancel()
    queue = site.root / "pending" / "acceptance.other"
    queue.write_text("no folder")
    worker = site.worker("thread", 1, "--queue", "other", **JOB)
    assert worker.wait() == 2
    assert ended(fleet) is None, "it has not begun"
    assert fleet.born() == {}


@pytest.mark.parametrize(
    "wrong",
    [{"FSQUEUE_FLEET": "../x"}, {"FSQUEUE_FLEET_TOKEN": "a/b"}, {"FSQUEUE_FLEET": "c" * 40}],
    ids=["name", "token", "long"],
)
def test_a_worker_with_a_bad_fleet_works_on(site, fleet, wrong):
    call = site.tasks.square(3)
    worker = site.worker("thread", 1, "--until-empty", **JOB | wrong)
    assert worker.wait() == 0
    assert call.result[0] == 9
    assert "this worker reports to no fleet" in worker.text()


def test_a_killed_worker_has_been_born_and_leaves_no_last_words(site, fleet):
    worker = site.worker("thread", 1, **JOB).wait_for_start()
    wait_until(lambda: list(fleet.born()) == [MEMBER], "it is born")
    worker.signal(signal.SIGKILL)
    worker.wait()
    assert ended(fleet) is None
