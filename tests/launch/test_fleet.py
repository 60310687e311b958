"""Fleets by themselves: what a newcomer would want to know about their behaviour."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from fleet_harness import AT_ONCE, World
from msgspec import structs
from support import open_store

from fsqueue.errors import SpoolError
from fsqueue.launch.batch import DoubtfulError, Listed, RefusedError
from fsqueue.launch.fleet import Fleet
from fsqueue.launch.job_logs import log_tail
from fsqueue.launch.sightings import kind_of_end
from fsqueue.spool.disk.identity import host_name
from fsqueue.spool.fleets.fleets import FleetFiles, fleet_names
from fsqueue.spool.fleets.records import EndRecord, Member, check_name


@pytest.fixture
def world(folder):
    return World(folder, "slurm", most=3, in_process=True)


def look(fleet):
    held = fleet.hold()
    from fsqueue.launch.batch import list_jobs

    return fleet.reconcile(held, list_jobs(fleet._batch(), "me", fleet._run))


def test_a_fleet_submits_up_to_max_jobs_as_arrays(world):
    fleet = world.fleet()
    assert [member.number for member in fleet.submit(2, world.script)] == [1, 2]
    assert len(fleet.submit(5, world.script)) == 1
    assert fleet.submit(1, world.script) == []
    assert len(world.cluster.live()) == 3


def test_an_unknown_fleet_is_told(world):
    with pytest.raises(SpoolError, match="there is no fleet gpu in"):
        Fleet(world.store.files, "gpu").submit(1, world.script)
    assert fleet_names(world.store.files) == ["cpu"]


def test_a_refused_submission_leaves_the_slots_free_and_a_note_behind(world):
    fleet = world.fleet()
    world.cluster.fault("submit", "refuse")
    with pytest.raises(RefusedError, match="Invalid account"):
        fleet.submit(2, world.script)
    assert fleet.files.slots.taken() == {}
    ((_, past),) = fleet.files.past()
    assert past.kind == "refused"
    assert "Invalid account" in past.detail
    assert fleet.files.trail()[-1].what == "a submission was refused"


def test_a_script_that_cannot_be_made_takes_no_slots(world):
    def script(token, count):
        raise ValueError("no script")

    with pytest.raises(ValueError, match="no script"):
        world.fleet().submit(2, script)
    assert world.files.slots.taken() == {}
    assert world.cluster.every() == {}


def test_jobs_whose_submission_was_not_answered_are_found_by_their_name(world):
    fleet = world.fleet()
    world.cluster.fault("submit", "lost")
    with pytest.raises(DoubtfulError):
        fleet.submit(2, world.script)
    assert len(fleet.files.slots.taken()) == 2
    assert {job.id for job in look(fleet)} == set(world.cluster.live())
    (token,) = {member.token for member in fleet.files.slots.taken().values()}
    assert set(fleet.files.ids(token).values()) == set(world.cluster.live())


def test_jobs_that_were_not_submitted_after_all_leave_no_trace_after_two_listings(world):
    fleet = world.fleet()
    world.cluster.fault("submit", "no-answer")
    with pytest.raises(DoubtfulError):
        fleet.submit(2, world.script)
    assert [job.state for job in look(fleet)] == ["submitting"] * 2
    assert look(fleet) == []
    assert fleet.files.slots.taken() == {}
    assert fleet.files.past() == []


def test_one_listing_without_a_job_does_not_end_it(world):
    fleet = world.fleet()
    fleet.submit(1, world.script)
    held = fleet.hold()
    assert len(fleet.reconcile(held, [])) == 1
    assert len(look(fleet)) == 1
    assert len(fleet.reconcile(fleet.hold(), [])) == 1, "the first absence was forgotten"


def test_two_listings_that_follow_too_soon_do_not_end_a_job_either(folder):
    world = World(folder, "slurm", in_process=True, pace=replace(AT_ONCE, gap=60.0))
    fleet = world.fleet()
    fleet.submit(1, world.script)
    for _ in range(3):
        assert len(fleet.reconcile(fleet.hold(), [])) == 1


def test_a_submission_that_goes_on_elsewhere_is_waited_for(world):
    """A process on another host cannot be seen; its slots stay taken for its patience."""
    fleet = world.fleet()
    fleet.files.begin("abcdef", 1)
    fleet.files.slots.take("abcdef", 1, 3)
    for _ in range(3):
        assert len(fleet.reconcile(fleet.hold(), [])) == 1
    # Zero would not do: the reading of the file server's clock lags by as long as it took.
    pace = replace(AT_ONCE, patience=-math.inf)
    impatient = Fleet(world.store.files, "cpu", run=world.run, pace=pace)
    assert len(impatient.reconcile(impatient.hold(), [])) == 1
    assert impatient.reconcile(impatient.hold(), []) == []


def test_the_slots_of_a_submitter_that_was_killed_are_freed(world):
    program = (
        "import sys, os; from fsqueue.spool.store.open_spool import open_store;"
        "from fsqueue.spool.fleets.fleets import FleetFiles;"
        "files = FleetFiles(open_store(sys.argv[1]).files, 'cpu'); files.begin('abcdef', 2);"
        "print(len(files.slots.take('abcdef', 2, 3))); sys.stdout.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, world.root], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (-9, "2\n")
    fleet = world.fleet()
    assert len(look(fleet)) == 2
    assert look(fleet) == []


def test_a_submitter_that_was_suspended_takes_slots_again_or_cancels_its_jobs(world):
    fleet = world.fleet()

    def overtaken(token, count):
        # Others take it for dead, free its slots, and use all of them but one.
        for member in fleet.files.slots.taken().values():
            fleet.files.free(member, None)
        world.fleet().submit(2, world.script)
        return world.script(token, count)

    fleet.submit(2, overtaken)
    world.check()
    assert len(world.cluster.live()) == 3
    assert len(fleet.files.slots.taken()) == 3


def test_a_job_without_a_slot_gets_one_or_is_cancelled(world):
    fleet = world.fleet()
    lost = fleet.submit(1, world.script)
    (orphan,) = world.cluster.live()
    for member in lost:
        fleet.files.free(member, None)
    look(fleet)
    assert list(fleet.files.slots.taken().values()) == lost
    for member in lost:
        fleet.files.free(member, None)
    fleet.submit(3, world.script)
    look(fleet)
    assert orphan not in world.cluster.live()
    assert len(world.cluster.live()) == 3
    assert fleet.files.trail()[-1].what == f"cancelled job {orphan}"


def test_jobs_of_a_fleet_of_the_same_name_in_another_spool_are_left_alone(folder):
    one = World(f"{folder}/one", "slurm", in_process=True)
    two = World(f"{folder}/two", "slurm", in_process=True)
    two.cluster = one.cluster
    one.fleet().submit(2, one.script)
    two.demand(1)
    for _ in range(3):
        two.autoscaler().tick()
    assert len(one.cluster.live()) == 3
    assert len(two.files.slots.taken()) == 1


def test_a_requeued_job_keeps_its_slot(world):
    fleet = world.fleet()
    fleet.submit(1, world.script)
    (job_id,) = world.cluster.live()
    world.start(job_id)
    assert [job.state for job in look(fleet)] == ["running"]
    world.cluster.set_state(job_id, "waiting")
    assert [job.state for job in look(fleet)] == ["waiting"]


def test_a_stopped_fleet_cancels_what_waits_and_submits_nothing(world):
    fleet = world.fleet()
    fleet.submit(2, world.script)
    running, waiting = world.cluster.live()
    world.start(running)
    fleet.stop(look(fleet))
    assert list(world.cluster.live()) == [running]
    assert fleet.submit(1, world.script) == []
    assert not fleet.files.marked("paused")
    assert fleet.files.marked("stopped") == "stopped"
    world.demand(5)
    world.autoscaler().tick()
    assert list(world.cluster.live()) == [running]
    fleet.stop(look(fleet), now=True)
    assert world.cluster.live() == {}
    assert waiting not in world.cluster.live()


def test_a_stop_counts_also_where_the_batch_systems_commands_are_missing(world):
    fleet = world.fleet()
    fleet.submit(1, world.script)
    elsewhere = Fleet(world.store.files, "cpu", pace=AT_ONCE)  # no sbatch on PATH here
    elsewhere.stop(elsewhere.sightings(), now=True)
    assert fleet.files.marked("stopped") is not None
    assert len(world.cluster.live()) == 1
    world.autoscaler().tick()
    assert world.cluster.live() == {}


def test_a_damaged_stop_mark_still_stops(world):
    fleet = world.fleet()
    fleet.stop([])
    with open(f"{fleet.files.folder}/stopped", "w", encoding="ascii") as file:
        file.write("?")
    assert fleet.files.marked("stopped") == "for an unknown reason"
    assert fleet.submit(1, world.script) == []


def test_scaling_down_ends_no_job_and_lets_none_follow(world):
    fleet = world.fleet()
    fleet.submit(3, world.script)
    fleet.scale(1)
    assert len(world.cluster.live()) == 3
    assert fleet.submit(1, world.script) == []
    assert fleet.record.max == 1


def test_the_last_lines_of_the_latest_log_are_shown(world):
    fleet = world.fleet()
    assert log_tail(fleet._store, fleet.files) == []
    for name, lines, when in (("7_1.log", 30, 1.0), ("7_2.log", 3, 2.0)):
        path = f"{fleet.files.logs}/{name}"
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f"{name} {line}\n" for line in range(lines))
        os.utime(path, (when, when))
    assert log_tail(fleet._store, fleet.files, 2) == ["7_2.log 1", "7_2.log 2"]


def test_a_fleet_without_jobs_can_be_forgotten(world):
    fleet = world.fleet()
    fleet.submit(1, world.script)
    assert not fleet.files.forget()
    fleet.stop(look(fleet))
    look(fleet)
    look(fleet)
    assert fleet.files.forget()
    assert fleet_names(world.store.files) == []
    assert os.listdir(f"{world.root}/fleet") == []


def test_two_hosts_write_one_trail(world):
    world.files.note("first", "because")
    with open(f"{world.files.folder}/trail/other.jsonl", "w", encoding="ascii") as file:
        file.write('{"at": 1.0, "what": "before"}\nnoise\n')
    assert [note.what for note in world.files.trail()] == ["before", "first"]
    assert os.listdir(f"{world.files.folder}/trail").count(f"{host_name()}.jsonl") == 1


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 33])
def test_names_of_fleets_are_checked(name):
    with pytest.raises(ValueError, match="expected a name of at most 32"):
        check_name(name)


def test_foreign_files_among_those_of_a_fleet_harm_nobody(world):
    fleet = world.fleet()
    fleet.submit(1, world.script)
    for place in ("slots/x", "slots/0", "births/x", "past/x", "jobs/x", "marks/x", "ends/x"):
        path = f"{fleet.files.folder}/{place}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write("?")
    open(f"{fleet.files.folder}/slots/2", "w", encoding="ascii").close()
    assert len(look(fleet)) == 1
    assert len(fleet.submit(5, world.script)) == 1, "slot 2 is a file, and in use by nobody"


@pytest.mark.parametrize(
    ("last", "how", "lived", "kind"),
    [
        ("idle", "", 5.0, "idle"),
        ("walltime", "COMPLETED", 5.0, "walltime"),
        ("signal", "PREEMPTED", 5.0, "drained"),
        ("max-tasks", "", 5.0, "drained"),
        (None, "CANCELLED", None, "cancelled"),
        (None, "PREEMPTED", 5.0, "vanished"),
        (None, "NODE_FAIL", None, "vanished"),
        (None, "FAILED", None, "young"),
        (None, "", None, "young"),
        (None, "", 5.0, "young"),
        (None, "", 500.0, "vanished"),
        ("error", "FAILED", 5.0, "young"),
    ],
)
def test_ends_are_failures_or_not(last, how, lived, kind):
    record = last and EndRecord(reason=last, calls=0, seconds=5.0)
    assert kind_of_end(record, how, lived)[0] == kind


def test_a_job_that_has_finished_a_call_was_no_failure():
    last = EndRecord(reason="error", calls=1, seconds=5.0)
    assert kind_of_end(last, "FAILED", 5.0)[0] == "done"


def test_the_reports_of_all_nodes_of_a_job_are_one(world):
    member = Member("k7f3q2", 1)

    def report(worker: str, reason: str, calls: int, seconds: float, restart: int = 0) -> None:
        end = EndRecord(reason=reason, calls=calls, seconds=seconds, restart=restart)
        world.files.note_end(member, end, worker)

    assert world.files.end(member) is None
    report("node1-1-aaaaaa", "walltime", 3, 50.0)
    report("node2-1-aaaaaa", "error", 0, 60.0)
    world.files.note_end(Member("k7f3q2", 10), EndRecord(reason="idle", calls=9, seconds=9.0), "x")
    found = EndRecord(reason="walltime", calls=3, seconds=60.0)
    assert world.files.end(member) == found, "one worker worked, so the job did"
    report("node2-1-aaaaaa", "error", 0, 60.0)
    assert world.files.end(member) == found, "a report that is written again counts once"
    report("node1-2-bbbbbb", "idle", 1, 5.0, restart=1)
    assert world.files.end(member).calls == 1, "of the run before the requeue nothing counts"


def test_files_that_were_not_signed_with_the_spools_key_are_not_believed(folder):
    record = World(f"{folder}/unsigned", "slurm").files.record()
    signed = FleetFiles(open_store(f"{folder}/signed", key=b"k" * 64).files, "cpu")
    signed.define(record)
    assert signed.record() == record
    shutil.copy(f"{folder}/unsigned/spool/fleet/cpu/fleet.json", f"{signed.folder}/fleet.json")
    assert signed.record() is None


@pytest.mark.parametrize("other", ["gpu/fleet.json", "cpu/stopped"])
def test_a_file_is_believed_in_its_own_place_only(world, other):
    """Whoever has no key could still copy what was signed for another place."""
    record = world.files.record()
    FleetFiles(world.store.files, "gpu").define(replace_name(record))
    world.files.mark("stopped", "why")
    shutil.copy(f"{world.root}/fleet/{other}", f"{world.files.folder}/fleet.json")
    assert world.files.record() is None


def replace_name(record):
    return structs.replace(record, name="gpu", max=99)


def test_the_record_of_a_fleet_has_no_line_of_a_script(world):
    """Whoever can write into the spool must not choose what the submitting user runs."""
    with open(f"{world.files.folder}/fleet.json", encoding="utf-8") as file:
        text = file.read()
    assert "setup" not in text
    assert "options" not in text
    assert FleetFiles(world.store.files, "cpu").record().system == "slurm"


def test_room_is_made_of_jobs_that_have_ended_whether_they_are_listed_or_not(world):
    """Slurm lists jobs for minutes after their end."""
    fleet = world.fleet()
    fleet.submit(3, world.script)
    for job_id in world.cluster.live():
        world.cluster.set_state(job_id, "ended")
    ended = [
        Listed(job_id, job["name"], "ended", "COMPLETED")
        for job_id, job in world.cluster.every().items()
    ]

    class Listing(Fleet):
        def list_batch_jobs(self):
            return ended

    Listing(world.store.files, "cpu", run=world.run, pace=AT_ONCE).make_room(1)
    assert fleet.files.slots.taken() == {}
