"""A real Slurm: what our scripts and parsers assume of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from slurm_harness import BATCH, NEEDS_LAB, USER, live, prepare_logs, request_of
from support import open_store, wait_until

from fsqueue.launch.batch import RefusedError, list_jobs, run, script_of, submit
from fsqueue.launch.fleet import Fleet
from fsqueue.launch.pace import Pace
from fsqueue.spool.fleets.records import FleetRecord

if TYPE_CHECKING:
    pass

pytestmark = NEEDS_LAB


def waiting(place: Path, **keys: object) -> dict[str, object]:
    """Keys of a profile whose job runs `sleep` instead of a worker."""
    (place / "sleeper").write_text("#!/bin/bash\nexec sleep 600\n")
    (place / "sleeper").chmod(0o755)
    return {"wrap": str(place / "sleeper"), **keys}


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
    assert BATCH.limits(run(BATCH.site()).out) == (10.0, 1000)


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
