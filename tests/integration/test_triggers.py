"""Tasks that run by themselves."""

from __future__ import annotations

import contextlib
import errno
import os
import threading

import pytest
from support import wait_until

from fsqueue import RetryError, triggers
from fsqueue.spool.files.files import Files
from fsqueue.spool.format.trigger_names import EventName
from fsqueue.spool.store.store import Store
from fsqueue.testing import Fault, FaultyFilesystem
from integration.conftest import working
from integration.trigger_tasks import (
    fussy,
    note,
    payloads_of,
    quiet,
    result_of,
    seen,
    settled,
    source,
    when_of,
)


@pytest.fixture(autouse=True)
def forget():
    seen.clear()


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
        files = Files(FaultyFilesystem([fault]), app.store.layout, app.store.files.info)
        app._session._store = Store(files)
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
    assert "the arguments for task integration.trigger_tasks.note could not be made" in caplog.text


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
    app.task(triggers=triggers.on_result("integration.trigger_tasks.note", 3))(quiet)
    with working(app):
        app.tasks["integration.trigger_tasks.note"]().get(60)
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
    app._session._store = Store(Files(fs, app.store.layout, app.store.files.info))
    app.task(triggers=triggers.on_event("e"))(note)
    folder = app.store.layout.events("t")
    began = fs.monotonic()
    with working(app):
        wait_until(lambda: fs.trace)
        wait_until(lambda: sum(each.path == folder for each in fs.trace) >= 5)
        looks = [each for each in fs.trace if each.path == folder]
        beats = (fs.monotonic() - began) / app.conf.heartbeat  # those of another thread may be late
    assert [each.verb for each in looks[:2]] == ["mkdir", "listdir"]
    assert {each.verb for each in looks[1:]} == {"listdir"}
    assert len(looks) <= beats + 2
