"""Tasks that run by themselves."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading

import pytest
from support import wait_until

from fsqueue import RetryError, WorkerLostError, current_invocation, triggers
from fsqueue.spool.admin.listing import pending_calls
from fsqueue.spool.format.trigger_names import EventName
from fsqueue.spool.store.store import Store
from fsqueue.spool.worker.reaper import reap
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import Fault, FaultyFilesystem
from integration import sample_tasks
from integration.conftest import working

seen = []


@pytest.fixture(autouse=True)
def forget():
    seen.clear()


def note(*args, **kwargs):
    seen.append((args, kwargs) if kwargs else args)


def quiet(): ...


def behind(name):
    return sample_tasks.gates[name].wait(60)


def source(value):
    if isinstance(value, Exception):
        raise value
    return value


def fussy():
    if current_invocation().retries == 0:
        raise RetryError(delay=0.0)
    return "done"


def result_of(occurrence):
    return (occurrence.invocation, str(occurrence.state), occurrence.result or occurrence.exception)


def payloads_of(occurrence):
    return tuple(part.payload for part in occurrence.parts)


def when_of(occurrence):
    return (int(occurrence.id),)


def settled(app):
    """All events are handled and all calls have ended."""
    store = app.store
    wait_until(lambda: not store.fs.names(store.layout.events(app.app_id)), what="events handled")
    pending = store.layout.queue(f"{app.app_id}.default")
    wait_until(
        lambda: not any(os.listdir(f"{pending}/{slot}") for slot in os.listdir(pending)),
        what="calls started",
    )
    running = store.layout.running_folder
    wait_until(
        lambda: not any(os.listdir(f"{running}/{each}") for each in os.listdir(running)),
        what="calls ended",
    )
    return list(seen)


# -- events -----------------------------------------------------------------------------------


def test_an_event_waits_for_a_worker_and_runs_each_task_once(make_app):
    caller, app = make_app(), make_app()
    ids = {caller.emit("paid", number) for number in range(5)} | {caller.emit("paid", {"of": 3})}
    assert len(ids) == 6
    app.task(triggers=triggers.on_event("paid"))(note)
    app.task(triggers=triggers.on_event("other"))(source)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(working(app, app.make_runner()))
        wait_until(lambda: len(seen) == 6)
        assert sorted(settled(app), key=str) == sorted(
            [*((number,) for number in range(5)), ((), {"of": 3})], key=str
        )


def test_an_event_that_nobody_has_a_trigger_for_is_left_to_others(make_app):
    app = make_app()
    app.task(triggers=triggers.on_event("known"))(note)
    with working(app):
        app.emit("unknown.yet", "early")
        app.emit("known")
        wait_until(lambda: seen == [()])
    newer = make_app()
    newer.task(triggers=triggers.on_event("unknown.yet"))(note)
    with working(newer):
        wait_until(lambda: seen == [(), ("early",)])


def test_a_damaged_event_goes_into_quarantine(make_app):
    app = make_app()
    app.task(triggers=triggers.on_event("known"))(note)
    app.emit("known", "first")
    folder = app.store.layout.events("t")
    (name,) = os.listdir(folder)
    with open(f"{folder}/{name}", "r+b") as file:
        file.truncate(30)
    with working(app):
        app.emit("known", "second")
        wait_until(lambda: ("second",) in seen)
        wait_until(lambda: os.path.exists(app.store.layout.quarantined(name)))
    assert seen == [("second",)]


@pytest.mark.parametrize("harm", ["denied", "newer"])
def test_an_event_that_cannot_be_read_does_not_stop_others(make_app, harm, caplog):
    app = make_app()
    app.task(triggers=triggers.on_event("known"))(note)
    app.emit("known", "first")
    folder = app.store.layout.events("t")
    (name,) = os.listdir(folder)
    path = f"{folder}/{name}"
    if harm == "denied":
        fault = Fault.fail(errno.EACCES, at=None, verb="read", path=name)
        app._session._store = Store(
            FaultyFilesystem([fault]), app.store.layout, app.store.files.info
        )
    else:
        with open(path, "r+b") as file:
            content = file.read()
            file.seek(0)
            file.write(content.replace(b"fsqueue 1", b"fsqueue 9", 1))
    with working(app):
        app.emit("known", "second")
        wait_until(lambda: seen == [("second",)])
    assert "trying again" not in caplog.text


def test_arguments_that_cannot_be_made_cost_that_call_only(make_app, caplog):
    app = make_app()
    app.task(triggers=triggers.on_event("e", arguments=lambda o: (1 / o.payload,)))(note)
    with working(app):
        app.emit("e", 0)
        app.emit("e", 2)
        assert wait_until(lambda: settled(app)) == [(0.5,)]
    assert "the arguments for task integration.test_triggers.note could not be made" in caplog.text


def test_a_json_application_reads_no_pickled_event(make_app):
    app = make_app(serializer="json")
    app.task(triggers=triggers.on_event("e"))(note)
    make_app().emit("e", "pickled")
    with working(app):
        app.emit("e", {"a": [1, None]})
        wait_until(lambda: seen == [((), {"a": [1, None]})])
        assert settled(app) == [((), {"a": [1, None]})]


def test_the_name_of_an_events_file():
    assert EventName.parse("a.b.abcd-1") == EventName("a.b", "abcd-1")
    assert EventName.parse("abcd-1") is None
    assert EventName.parse(".a.abcd-1") is None


# -- ends of calls ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2])
def test_the_ends_of_calls(make_app, batch):
    app = make_app()
    task = app.task(max_retries=0, parallel_batch_size=batch)(source)
    app.task(
        triggers=[
            triggers.on_status(task, "failed", arguments=("failed",)),
            triggers.on_result(task, 3, arguments=("three",)),
            triggers.on_result(task, lambda value: value > 2, arguments=("large",)),
            triggers.on_exception(task, LookupError, arguments=("lookup",)),
            triggers.on_status(task, arguments=lambda o: (o.invocation,)),
        ]
    )(note)
    with working(app):
        group = task.parallelize([(1,), (3,), (KeyError("k"),), (OSError("o"),)])
        for each in group:
            wait_until(each.done)
        found = settled(app)
    ends = [(each.id,) for each in group]
    expected = [("failed",)] * 2 + [("three",), ("large",), ("lookup",), *ends]
    assert sorted(found) == sorted(expected)


def test_a_retry_is_no_end(make_app):
    app = make_app()
    task = app.task(fussy)
    app.task(triggers=triggers.on_status(task, arguments=result_of))(note)
    with working(app):
        call = task()
        assert call.get(60) == "done"
        assert settled(app) == [(call.id, "succeeded", "done")]


@pytest.mark.parametrize("predicate", [lambda value: value.no, sys.exit])
def test_a_predicate_that_fails_does_not_hurt_the_call(make_app, caplog, predicate):
    app = make_app()
    task = app.task(source)
    app.task(triggers=triggers.on_result(task, predicate))(note)
    app.task(triggers=triggers.on_event("e", arguments=lambda o: o.payload()))(quiet)
    app.task(triggers=triggers.on_event("e", lambda _: predicate(1)))(fussy)
    with working(app):
        app.emit("e", sys.exit)
        assert task(1).get(60) == 1
        assert settled(app) == []
    assert "it does not fire" in caplog.text


def test_a_direct_task_can_be_waited_for_by_its_name(make_app):
    app = make_app()
    direct = app.direct_task(source)
    app.task(triggers=triggers.on_status("integration.test_triggers.source"))(note)
    with working(app):
        assert direct(2) == 2
        wait_until(lambda: seen == [()])


def watching(app, task):
    app.task(
        triggers=[
            triggers.on_status(task, "cancelled", arguments=result_of),
            triggers.on_exception(task, WorkerLostError, arguments=result_of),
        ]
    )(note)
    with working(app):  # since then whoever ends a call lets its triggers know
        wait_until(lambda: os.path.exists(app.store.layout.events("t")))


def test_calls_that_the_queue_ends_itself(make_app):
    app, operator = make_app(), make_app()  # which has none of the code
    task = app.task(max_attempts=1, parallel_batch_size=2)(source)
    watching(app, task)
    pending = task(1)
    operator.invocation(pending.id).cancel()
    lost = task.parallelize([(1,), (2,)])
    worker = Worker(operator.store, queues=("t.default",), runner="thread", concurrency=1)
    worker.register()
    (call,) = pending_calls(operator.store)
    assert worker.claim(call.path)
    reap(operator.store, worker.name, "killed")
    worker._release_lock()
    with working(app), working(app, app.make_runner()):
        wait_until(lambda: len(seen) >= 3)
        found = settled(app)
    kinds = {invocation: (state, type(error).__name__) for invocation, state, error in found}
    assert len(found) == 3
    assert kinds == {
        pending.id: ("cancelled", "CancelledError"),
        **{each.id: ("failed", "WorkerLostError") for each in lost},
    }


def test_a_call_that_is_cancelled_while_it_runs(make_app, gate):
    app = make_app()
    task = app.task(behind)
    watching(app, task)
    opened, name = gate()
    with working(app):
        call = task(name)
        wait_until(lambda: call.status == "running")
        call.cancel()
        opened.set()
        wait_until(lambda: seen)
        ((invocation, state, _),) = settled(app)
    assert (invocation, state) == (call.id, "cancelled")


# -- composition ------------------------------------------------------------------------------


def test_all_of_waits_for_each_part_and_begins_anew(make_app):
    app = make_app()
    both = triggers.all_of(
        triggers.on_event("a"),
        triggers.on_event("b") | triggers.on_event("c"),
        arguments=payloads_of,
    )
    app.task(triggers=both)(note)
    with working(app), working(app, app.make_runner()):
        app.emit("a", 1)
        settled(app)
        app.emit("a", 2)
        assert settled(app) == []
        app.emit("c", 3)
        wait_until(lambda: seen == [(1, 3)])
        app.emit("b", 4)
        settled(app)
        app.emit("b", 5)
        assert settled(app) == [(1, 3)]
        app.emit("a", 6)
        wait_until(lambda: seen == [(1, 3), (6, 4)])


def test_all_of_remembers_ends_with_their_errors_when_workers_are_gone(make_app):
    app = make_app()
    task = app.task(max_retries=0)(source)
    app.task(
        triggers=triggers.all_of(
            triggers.on_exception(task, ValueError),
            triggers.on_event("go"),
            arguments=lambda o: (str(o.parts[0].exception), o.parts[1].payload),
        )
    )(note)
    with working(app):
        call = task(ValueError("why"))
        wait_until(call.done)
    app.emit("go", "payload")
    with working(app, app.make_runner()):
        wait_until(lambda: seen == [("why", "payload")])


# -- ticks ------------------------------------------------------------------------------------


def test_each_tick_once_with_several_workers(make_app):
    app = make_app()
    app.task(triggers=triggers.cron("* * * * * *", arguments=when_of))(note)
    with contextlib.ExitStack() as stack:
        for each in [app, make_app(), make_app()]:
            if each is not app:
                each.task(triggers=triggers.cron("* * * * * *", arguments=when_of))(note)
            stack.enter_context(working(each))
        wait_until(lambda: len(seen) >= 3)
    ticks = [tick for (tick,) in settled_after(app)]
    assert sorted(ticks) == list(range(min(ticks), min(ticks) + len(ticks)))


def settled_after(app):
    """What was seen; a tick that was fired at the very end is left pending."""
    store = app.store
    pending = store.layout.queue("t.default")
    for slot in os.listdir(pending):
        for name in os.listdir(f"{pending}/{slot}"):
            os.unlink(f"{pending}/{slot}/{name}")
    return seen


def test_an_application_without_triggers_has_no_thread_for_them(make_app):
    app = make_app()
    app.task(note)
    app.task(triggers=triggers.on_result("integration.test_triggers.note", 3))(quiet)
    with working(app):
        app.tasks["integration.test_triggers.note"]().get(60)
        assert [each for each in threading.enumerate() if each.name == "fsqueue-triggers"] == []
        late = app.task(triggers=triggers.on_event("late"))(fussy)
        wait_until(
            lambda: [each for each in threading.enumerate() if each.name == "fsqueue-triggers"]
        )
        assert late.triggers


# -- sync mode --------------------------------------------------------------------------------


def test_sync_mode_runs_what_events_and_ends_trigger(make_app, spool):
    app = make_app(dev_mode_force_sync_tasks=True)
    task = app.task(source)
    direct = app.direct_task(fussy)
    app.task(
        triggers=[
            triggers.on_event("e"),
            triggers.on_result(task, 3, arguments=result_of),
            triggers.on_exception(task, KeyError, arguments=("failed",)),
            triggers.on_exception(direct, RetryError, arguments=("direct",)),
            triggers.all_of(triggers.on_event("a"), triggers.on_event("b"), arguments=payloads_of),
            triggers.cron("* * * * * *", arguments=("tick",)),
        ]
    )(note)
    app.emit("e", "payload")
    assert seen.pop() == ("payload",)
    call = task(3)
    assert seen.pop() == (call.id, "succeeded", 3)
    assert task(KeyError()).status == "failed"
    assert seen.pop() == ("failed",)
    with pytest.raises(RetryError):
        direct()
    assert seen.pop() == ("direct",)
    app.emit("b", 1)
    app.emit("b", 2)
    assert seen == []
    app.emit("a", 3)
    assert seen == [(3, 1)]
    assert not os.path.exists(spool)


# -- costs ------------------------------------------------------------------------------------


def test_events_cost_a_look_a_heartbeat(make_app):
    app = make_app(heartbeat=0.1, lease=1.0)
    fs = FaultyFilesystem()
    app._session._store = type(app.store)(fs, app.store.layout, app.store.files.info)
    app.task(triggers=triggers.on_event("e"))(note)
    folder = app.store.layout.events("t")
    with working(app):
        wait_until(lambda: fs.trace)
        wait_until(lambda: sum(each.path == folder for each in fs.trace) >= 5)
        beats = [each for each in fs.trace if each.path.endswith(".beat")]
        looks = [each for each in fs.trace if each.path == folder]
    assert [each.verb for each in looks[:2]] == ["mkdir", "listdir"]
    assert {each.verb for each in looks[1:]} == {"listdir"}
    assert len(looks) <= len(beats) + 1
