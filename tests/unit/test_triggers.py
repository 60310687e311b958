"""How triggers are declared, and when cron triggers tick."""

from __future__ import annotations

import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from fsqueue import FSQueue, State, args, triggers
from fsqueue.triggers.kinds import LATE, AllOf, AnyOf, Cron, Occurrence, given_by, name_of
from fsqueue.triggers.making import checked

BERLIN = ZoneInfo("Europe/Berlin")
DAYS = datetime(2026, 3, 30, tzinfo=BERLIN), datetime(2026, 10, 26, tzinfo=BERLIN)
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC).timestamp()


def task(a=1): ...


def other(): ...


# -- ticks ------------------------------------------------------------------------------------


def times(ticks, zone=UTC):
    return [f"{datetime.fromtimestamp(tick, zone):%d %H:%M:%S}" for tick in ticks]


def test_ticks_that_are_due_in_their_order():
    minutely = triggers.cron("* * * * *")
    assert times(minutely.due(NOON - 50, NOON)) == ["04 12:00:00"]
    assert minutely.due(NOON, NOON + 59) == []
    seconds = triggers.cron("*/20 * * * * *")
    assert times(seconds.due(NOON - 41, NOON)) == ["04 11:59:20", "04 11:59:40", "04 12:00:00"]
    assert seconds.next(NOON) == NOON + 20
    assert seconds.next(NOON + 0.5) == NOON + 20


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("last", ["04 11:30:00"]),
        ("skip", []),
        ("all", ["04 10:30:00", "04 11:00:00", "04 11:30:00"]),
    ],
)
def test_what_becomes_of_missed_ticks(missed, expected):
    trigger = triggers.cron("*/30 * * * *", missed=missed)
    now = NOON - LATE - 1
    assert times(trigger.due(NOON - 2 * 3600, now)) == expected
    fresh = times(trigger.due(NOON - 2 * 3600, NOON + LATE))
    assert fresh == (["04 12:00:00"] if missed != "all" else [*expected, "04 12:00:00"])


def test_all_has_a_bound():
    assert len(triggers.cron("* * * * * *", missed="all").due(0.0, NOON)) == 1000


@pytest.mark.parametrize("now", DAYS)
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/20 * * * *", "0 30 2 * * *"])
def test_ticks_are_the_same_from_whenever_one_looks_where_clocks_are_set(now, expression):
    cron = triggers.cron(expression, timezone="Europe/Berlin", missed="all")
    end = now.timestamp()
    ticks = cron.due(end - 2 * 86_400, end)
    assert ticks == sorted(set(ticks))
    at, found = end - 2 * 86_400, []
    while (at := cron.next(at)) <= end:
        found.append(at)
    assert found == ticks
    for start in range(int(end) - 86_400 - 12_000, int(end) - 60_000, 900):
        after = [tick for tick in ticks if tick > start + 0.25]
        assert not after or cron.next(start + 0.25) == after[0]


def test_a_daily_tick_comes_once_a_day_where_clocks_are_set():
    daily = triggers.cron("30 2 * * *", timezone="Europe/Berlin", missed="all")
    for day in DAYS:
        assert len(daily.due(day.timestamp() - 2 * 86_400, day.timestamp())) == 2


def test_the_time_of_a_tick_is_in_its_zone():
    occurrence = triggers.cron("0 14 * * *", timezone="Europe/Berlin").at(NOON)
    assert occurrence.when.isoformat() == "2026-05-04T14:00:00+02:00"


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: triggers.cron("* * * *"), ValueError, "cron = .* five fields"),
        (lambda: triggers.cron("61 * * * *"), ValueError, "cron = .*Bad minute"),
        (lambda: triggers.cron("0 0 30 2 *"), ValueError, "cron = "),
        (lambda: triggers.cron("* * * * *", timezone="Mars/X"), ValueError, "timezone = 'Mars/X'"),
        (lambda: triggers.cron("* * * * *", timezone="../x"), ValueError, "timezone = "),
        (lambda: triggers.cron("* * * * *", missed="some"), ValueError, "missed = 'some'"),
        (lambda: triggers.on_event("a b"), ValueError, "event name = 'a b'"),
        (lambda: triggers.on_event(".hidden"), ValueError, "event name"),
        (lambda: triggers.on_status(task, "running"), ValueError, "on_status: 'running'"),
        (lambda: triggers.on_status("task"), TypeError, "on_status: task = 'task'"),
        (lambda: triggers.on_status(3), TypeError, "on_status: task = 3"),
        (lambda: triggers.on_result(task, []), TypeError, r"on_result: \[\], expected"),
        (lambda: triggers.on_exception(task, "KeyError"), TypeError, "on_exception: 'KeyError'"),
        (triggers.any_of, TypeError, "any_of needs triggers"),
        (lambda: triggers.on_event("a") & "b", TypeError, "all_of: 'b', expected"),
        (
            lambda: triggers.on_event("a", arguments=(1,)) & triggers.on_event("b"),
            TypeError,
            "arguments of its own",
        ),
        (
            lambda: (
                (triggers.on_event("a") & triggers.on_event("b") | triggers.on_event("c"))
                & triggers.on_event("d")
            ),
            TypeError,
            "cannot be one of its parts",
        ),
        (lambda: checked("daily"), TypeError, "triggers: 'd', expected triggers"),
        (lambda: checked(5), TypeError, "triggers = 5"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_written(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_arguments_that_do_not_fit_are_refused_by_the_decorator():
    app = FSQueue("t")
    with pytest.raises(TypeError, match=r"triggers: the arguments of cron.* do not fit .*other"):
        app.task(triggers=triggers.cron("* * * * *", arguments=(1,)))(other)
    with pytest.raises(TypeError, match="unknown task option triggers"):
        app.task(task).options(triggers=[])
    assert app.triggers.needs_attention is False


# -- composition ------------------------------------------------------------------------------


def test_operators_make_flat_triggers():
    a, b, c = map(triggers.on_event, "abc")
    assert (a | b | c) == triggers.any_of(a, b, c) == AnyOf((a, b, c))
    assert (a & b & c) == triggers.all_of(a, b, c) == AllOf((a, b, c))
    assert checked([a | b, c]) == (a, b, c)
    assert str(a & (b | c)) == "on_event('a') & (on_event('b') | on_event('c'))"


def test_any_of_gives_its_arguments_to_parts_that_have_none():
    either = triggers.any_of(
        triggers.on_event("a"), triggers.on_event("b", arguments=(2,)), arguments=(1,)
    )
    assert [part.arguments for part in either.parts] == [(1,), (2,)]


def test_equal_triggers_of_a_task_are_told_apart():
    app = FSQueue("t")
    twice = [triggers.cron("* * * * *", arguments=(number,)) for number in range(2)]
    app.task(triggers=twice)(task)
    app.task(triggers=twice[0])(task)  # imported again
    app.task(triggers=triggers.on_event("x"))(other)
    keys = {each.key for each in app.triggers._watched.crons}
    assert len(keys) == 1
    app.task(triggers=twice)(task)
    assert len({each.key for each in app.triggers._watched.crons}) == 2
    assert keys < {each.key for each in app.triggers._watched.crons}


def test_tasks_may_be_imported_while_others_look():
    """A module that a call needs is imported in the thread of a slot."""
    app = FSQueue("t")
    firing = app.triggers
    app.task(triggers=triggers.on_status(other))(task)
    modules = [
        types.FunctionType(task.__code__, {"__name__": f"module_{number}"}, "task")
        for number in range(200)
    ]
    missing = []

    def look():
        while not done.is_set():
            if not firing.needs_attention or name_of(other) not in firing._watched.ends:
                missing.append(firing)

    done = threading.Event()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(look)
            for module in modules:
                app.task(module)
            done.set()
            looking.result()
    finally:
        sys.setswitchinterval(interval)
    assert not missing


@pytest.mark.parametrize(
    ("trigger", "payload", "given"),
    [
        (triggers.on_event("e"), None, ()),
        (triggers.on_event("e"), {"a": 1}, {"a": 1}),
        (triggers.on_event("e"), [1], ([1],)),
        (triggers.on_event("e", arguments={"b": 2}), {"a": 1}, {"b": 2}),
        (triggers.on_event("e", arguments=lambda o: args(o.payload)), 7, args(7)),
        (triggers.cron("* * * * *"), None, ()),
    ],
)
def test_arguments(trigger, payload, given):
    occurrence = Occurrence("id", datetime.now(UTC), event="e", payload=payload)
    assert given_by(trigger, occurrence) == given


def test_a_result_is_compared_with_its_type():
    done = Occurrence("id", datetime.now(UTC), state=State.SUCCEEDED, result=1)
    assert triggers.on_result(task, 1).matches(done)
    assert not triggers.on_result(task, True).matches(done)
    assert triggers.on_result(task, lambda value: value < 2).matches(done)
    assert isinstance(triggers.cron("* * * * *"), Cron)


def test_a_result_that_cannot_be_read_here_is_no_failure():
    done = Occurrence("id", datetime.now(UTC), state=State.SUCCEEDED, exception=ImportError())
    assert not triggers.on_result(task, None).matches(done)
    assert not triggers.on_exception(task).matches(done)
    assert triggers.on_status(task, "succeeded").matches(done)
