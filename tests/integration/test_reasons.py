"""Why a call is not running: the same answer for every view (P14)."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime

import msgspec
import pytest
from support import PATIENCE, wait_until

from fsqueue import State
from fsqueue.cli import exits
from fsqueue.errors import WorkerLostError
from fsqueue.spool.admin import controls
from fsqueue.spool.admin.glance import Looks
from fsqueue.spool.admin.listing import list_failed
from fsqueue.spool.admin.reasons import why
from fsqueue.spool.disk.identity import boot_id
from fsqueue.spool.format.records import WorkerRecord
from fsqueue.spool.history.entries import Entry
from fsqueue.spool.history.journal import Journal
from fsqueue.spool.store.open_spool import open_store
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import FaultyFilesystem
from integration import sample_tasks
from integration.conftest import working
from integration.test_facts import only_slot


def reasons(app, invocation):
    store = open_store(app.store.layout.root, look=True)
    looks = Looks(store, heartbeat=app.conf.heartbeat, result_ttl=app.conf.result_ttl)
    store.files.sync_clock()
    return {each.code: each for each in why(store, invocation.id, looks.take())}


def test_a_call_that_is_not_due(app):
    call = app.task(sample_tasks.add).options(countdown=1000)(1)
    found = reasons(app, call)
    assert list(found) == ["not_due", "no_worker"]
    assert 900 < found["not_due"].until - app.store.clock.now() < 1100


def test_a_call_that_waits_for_another_one(app):
    add = app.task(sample_tasks.add)
    first = add(1)
    last = add(first)
    found = reasons(app, last)
    assert list(found) == ["waits_for_call", "no_worker"]
    assert first.id in found["waits_for_call"].text
    assert "has not ended" in found["waits_for_call"].text


def test_a_paused_queue_says_since_when(app):
    call = app.task(sample_tasks.add)(1)
    controls.pause(app.store, "t.default")
    found = reasons(app, call)
    assert list(found) == ["paused", "no_worker"]
    assert abs(found["paused"].since - app.store.clock.now()) < PATIENCE
    assert found["paused"].ends == "fsqueue resume default"


def test_no_worker_serves_the_queue_or_has_the_resources(app):
    call = app.task(sample_tasks.add).options(resources={"gpu": 2})(1)
    with working(app):
        wait_until(lambda: list(reasons(app, call)) == ["no_resources"])
    found = reasons(app, call)
    assert list(found) == ["no_worker", "no_resources"]
    assert "gpu" in found["no_resources"].text
    assert "--resource gpu=2" in found["no_resources"].ends


def test_a_limit_names_who_holds_it(app, gate, tmp_path):
    event, name = gate()
    hold = app.task(sample_tasks.behind_gate, running_concurrency="task")
    with working(app, app.make_runner(concurrency=4)):
        first = hold(name, path=str(tmp_path / "ran"))
        wait_until((tmp_path / "ran").exists)  # claimed, the second could still be before it
        second = hold(name)
        # Between two looks, a worker may just be claiming it and finding the permit taken.
        found = wait_until(lambda: reasons(app, second).get("limit"))
        assert f"the concurrency limit of {hold.name}: at most 1 at a time" in found.text
        assert f"held by {first.id} on " in found.text
        assert reasons(app, first) == {}
        event.set()
        second.get(timeout=PATIENCE)
    assert reasons(app, first) == {}


def test_a_limit_is_named_before_a_worker_finds_that_it_is_taken(app, gate, tmp_path):
    event, name = gate()
    hold = app.task(sample_tasks.behind_gate, running_concurrency="task")
    with working(app, app.make_runner(concurrency=1)):
        first = hold(name, path=str(tmp_path / "ran"))
        wait_until((tmp_path / "ran").exists)  # so it has the permit
        second = hold(name)
        wait_until(lambda: "busy" in reasons(app, second))
        found = reasons(app, second)
        assert list(found) == ["limit", "busy"]
        assert f"it needs the concurrency limit of {hold.name}" in found["limit"].text
        assert f"held by {first.id} on " in found["limit"].text
        event.set()
        second.get(timeout=PATIENCE)


def test_all_slots_are_busy(app, gate):
    event, name = gate()
    hold = app.task(sample_tasks.behind_gate)
    with working(app, app.make_runner(concurrency=1)):
        first = hold(name)
        wait_until(lambda: first.status is State.RUNNING)
        second = hold(name)
        wait_until(lambda: "busy" in reasons(app, second))
        assert "the only slot" in reasons(app, second)["busy"].text
        event.set()
        second.get(timeout=PATIENCE)


def test_the_place_of_a_call_counts_those_of_its_second_and_the_rate_is_that_of_status(app, gate):
    event, name = gate()
    hold, add = app.task(sample_tasks.behind_gate), app.task(sample_tasks.add)
    with working(app, app.make_runner(concurrency=1)):
        add(1).get(timeout=PATIENCE)
        first = hold(name)
        wait_until(lambda: first.status is State.RUNNING)
        soon = datetime.fromtimestamp(app.store.clock.now() + 0.5, UTC)
        rest = [hold.options(eta=soon)(name) for _ in range(3)]
        wait_until(lambda: all("busy" in reasons(app, each) for each in rest))
        for each in rest:  # a worker takes them in any order
            assert "at most about 2 calls may run before it" in reasons(app, each)["busy"].text
        found, rate, times = wait_until(lambda: timed(app, rest[0]))
        assert f"{rate:.3g} calls/s" in found.text
        assert times[0] <= found.until - 3 / rate <= times[1]
        event.set()
        for each in rest:
            each.get(timeout=PATIENCE)


def timed(app, invocation):
    """The reason of a call in a busy queue, the rate of its spool, and the times around; or None.

    The rate is that of all calls, as there is only one queue.
    """
    store = open_store(app.store.layout.root, look=True)
    store.files.sync_clock()
    glance = Looks(store, heartbeat=app.conf.heartbeat, result_ttl=app.conf.result_ttl).take()
    before = store.clock.now()
    (found,) = why(store, invocation.id, glance)
    return (found, glance.recent.rate, (before, store.clock.now())) if found.until else None


@pytest.mark.leaves_strays
@pytest.mark.parametrize("how", ["silent", "dead"])
def test_a_worker_that_holds_the_call_is_silent_or_dead(app, how):
    call, store = app.task(sample_tasks.add)(1), app.store
    worker = Worker(store, queues=("t.default",), runner="thread", concurrency=1)
    worker.register()
    assert worker.claim(f"{store.layout.slot('t.default', only_slot(store))}/{call.id}.1")
    assert reasons(app, call) == {}
    if how == "silent":
        os.utime(store.layout.worker_beat(worker.name), (1, 1))
    else:
        record = msgspec.structs.replace(worker.record, boot=boot_id(), start="another")
        assert isinstance(record, WorkerRecord)
        with open(store.layout.worker_record(worker.name), "wb") as file:
            file.write(msgspec.json.encode(record))
    found = reasons(app, call)
    assert list(found) == [f"worker_{how}"]
    assert "none lives" in found[f"worker_{how}"].ends
    worker.deregister()


def test_ended_calls_say_why_they_did_not_run(app):
    add = app.task(sample_tasks.add)
    gone, late = add.options(countdown=1000)(1), add.options(expires=0.001)(2)
    assert gone.cancel()
    assert "expired" in wait_until(lambda: reasons(app, late) or None)
    with working(app), pytest.raises(Exception, match="expired"):
        late.get(timeout=PATIENCE)
    assert list(reasons(app, gone)) == ["cancelled"]
    assert list(reasons(app, late)) == ["expired"]
    assert str(reasons(app, gone)["cancelled"]) == "it was cancelled"


# -- commands ---------------------------------------------------------------------------------


def test_show_tells_reasons_and_attempts(app, fsqueue, in_json, tmp_path):
    call = app.task(sample_tasks.add).options(countdown=1000)(1)
    shown = fsqueue("show", call.id).stdout
    assert "it is not due yet, until " in shown
    assert "ends with the time" not in shown
    assert in_json("show", call.id)["why"][0]["code"] == "not_due"
    fail = app.task(sample_tasks.fail_before, retry_for=ConnectionError, retry_delay=0.01)
    with working(app):
        again = fail(str(tmp_path / "ran"), 2)
        again.get(timeout=PATIENCE)
    seen = in_json("show", again.id)
    assert [each["state"] for each in seen["attempts"]] == ["retried", "retried", "succeeded"]
    assert seen["attempts"][0]["failure"]["type"] == "ConnectionError"
    assert "1 retried after" in fsqueue("show", again.id).stdout


def test_show_tells_when_a_retry_is_due_and_that_it_failed_once(app, fsqueue, in_json, tmp_path):
    fail = app.task(sample_tasks.fail_before, retry_for=ConnectionError, retry_delay=500)
    with working(app):
        call = fail(str(tmp_path / "ran"), 2)
        seen = wait_until(lambda: _retried(in_json("show", call.id)))
    assert "it failed 1 time and is retried later" in fsqueue("show", call.id).stdout
    assert seen["due"] == seen["why"][0]["until"] > seen["created"] + 100
    assert "due" not in in_json("show", app.task(sample_tasks.add)(1).id)


def _retried(seen):
    return seen if seen["state"] == "pending" and seen.get("retries") else None


def test_show_tells_when_a_call_was_claimed_and_who_waits_for_it(app, gate, fsqueue, in_json):
    event, name = gate()
    hold, add = app.task(sample_tasks.behind_gate), app.task(sample_tasks.add)
    with working(app, app.make_runner(concurrency=1)):
        first = hold(name)
        waiting = [add(first) for _ in range(12)]
        wait_until(lambda: first.status is State.RUNNING)
        seen = in_json("show", first.id)
        assert seen["created"] <= seen["claimed"] + 1
        text = fsqueue("show", first.id).stdout
        assert "claimed " in text
        assert text.count("waited for by") == 11
        assert "and 2 calls more" in text
        assert waiting[0].id in text
        assert {each["id"] for each in seen["family"]["relatives"]} == {e.id for e in waiting}
        event.set()
        for each in waiting:
            with contextlib.suppress(TypeError):  # there is no value to add to
                each.get(timeout=PATIENCE)


def test_a_call_that_was_cancelled_before_it_ran_has_not_started(app, fsqueue, in_json):
    call = app.task(sample_tasks.add).options(countdown=1000)(1)
    assert call.cancel()
    assert "started" not in in_json("show", call.id)
    assert "took" not in fsqueue("show", call.id).stdout


@pytest.mark.leaves_strays  # the mailboxes of the app's client
def test_show_tells_who_died_with_the_call(nested, fsqueue, in_json):
    app = nested.app
    with working(app, app.make_runner(kind="process", concurrency=1)):
        call = nested.die.options(max_attempts=2)()
        with pytest.raises(WorkerLostError):
            call.get(timeout=PATIENCE)
    attempts = in_json("show", call.id)["attempts"]
    assert [each["state"] for each in attempts] == ["lost", "lost"]
    assert all("slot" in each["evidence"] for each in attempts)


@pytest.fixture
def failures(app, tmp_path):
    fail, kill = app.task(sample_tasks.fail_before), app.task(sample_tasks.add)
    with working(app):
        made = [fail(str(tmp_path / str(number)), 1) for number in range(3)]
        made.append(kill("no number"))
        for each in made:
            wait_until(lambda each=each: each.status is State.FAILED)
    return made


@pytest.mark.leaves_strays  # the mailbox of those that are retried
def test_failures_are_grouped_and_one_group_is_retried(app, failures, fsqueue, in_json):
    first, second = in_json("failures")["groups"]
    assert (first["calls"], first["type"], second["calls"]) == (3, "ConnectionError", 1)
    assert "in fail_before" in fsqueue("failures").stdout
    assert f"fsqueue retry --failed-with {first['fp']}" in fsqueue("failures", first["fp"]).stdout
    assert in_json("failures", "--task", "no.such")["groups"] == []
    fsqueue("failures", "00000000", expect=exits.NOT_FOUND)
    listed = in_json("list", "--failed-with", first["fp"])["calls"]
    assert {each["id"] for each in listed} == {each.id for each in failures[:3]}
    assert len(in_json("list", "--failed-with", "TypeError")["calls"]) == 1
    run = failures[0].id.rpartition("-")[0]
    assert len(in_json("list", "--run", run, "--queue", "default")["calls"]) == 4
    assert in_json("list", "--run", "zzzzzzzzzz")["calls"] == []
    ordered = in_json("list", "--state", "failed", "--sort", "failure")["calls"]
    types = [each["failure"]["type"] for each in ordered]
    assert types == sorted(types)
    assert len(in_json("list", "--since", "1h")["calls"]) == 4
    assert in_json("list", "--older-than", "1h")["calls"] == []
    retried = in_json("retry", "--failed-with", first["fp"], "--since", "1h")["retried"]
    assert set(retried) == {each.id for each in failures[:3]}
    fsqueue("retry", "--since", "1h", expect=exits.USAGE)


@pytest.mark.leaves_strays  # the same
def test_a_group_is_retried_even_if_its_callers_have_taken_the_failures(failures, in_json):
    for each in failures:
        with pytest.raises((ConnectionError, TypeError)):
            each.get(timeout=PATIENCE)
    retried = in_json("retry", "--failed-with", "ConnectionError")["retried"]
    assert set(retried) == {each.id for each in failures[:3]}


def test_runs_tell_whose_calls_these_are(app, failures, fsqueue, in_json):
    (run,) = in_json("runs")["runs"]
    assert (run["ended"], run["failed"], run["here"]) == (4, 4, True)
    assert run["record"]["pid"] == os.getpid()
    assert run["client"] in fsqueue("runs").stdout
    assert "is here" in fsqueue("runs").stdout
    assert (run["running"], run["waiting"], run["ends"]) == (0, 0, None)
    assert "ENDS IN" in fsqueue("runs").stdout
    assert "RUN TIME" in fsqueue("stats").stdout


def test_listing_500_failures_reads_the_journal_and_none_of_them(app):
    store = app.store
    store.files.sync_clock()
    store.files.make_folders(store.layout.failed_folder)
    journal = Journal(store, 1)
    journal.begin()
    for number in range(500):
        name = f"zzzzzzzzzz-{number}"
        store.fs.create(f"{store.layout.failed_folder}/{name}.1", [])
        times = {"started": store.clock.now(), "wait": 0.0, "run": 0.0}
        what = {"failure": "ValueError", "fp": "01234567", "failed": 1, "state": "failed"}
        journal.add(Entry(id=name, task="t.f", queue="t.default", attempt=1, **times, **what))
    journal.close("worker")
    fs = FaultyFilesystem()
    looking = open_store(store.layout.root, fs, look=True)
    looking.files.sync_clock()
    fs.inject()
    assert {each.failure.fp for each in list_failed(looking)} == {"01234567"}
    assert fs.count() <= 8
