"""Extreme numbers are accepted or refused where they are given, for every duration and count.

Options, settings and flags are found by introspection, so a new one is covered at once.
"""

from __future__ import annotations

import math
import numbers
import threading
from decimal import Decimal
from fractions import Fraction

import click
import msgspec
import pytest
from cli_reference import commands
from msgspec import inspect

from fsqueue import FSQueue, RetryError
from fsqueue.calls.options import CallSettings, TaskOptions, changed
from fsqueue.common.fields import describe
from fsqueue.common.printable import moment
from fsqueue.common.values import LONGEST, parse_duration, patience, plain, seconds
from fsqueue.config import Settings
from fsqueue.errors import ConfigError
from fsqueue.runner.attempt.retries import delay_before_retry
from fsqueue.runner.output.reporting import checked_progress
from fsqueue.spool.format.names import Slot, is_slot_name
from fsqueue.spool.format.records import RetryPolicy
from fsqueue.spool.format.schedule import later


class Index:
    """Like an integer of NumPy, for who asks `numbers`."""

    def __init__(self, value):
        self.value = value

    def __int__(self):
        return self.value


numbers.Integral.register(Index)

EXTREME = [
    math.inf,
    -math.inf,
    math.nan,
    0,
    0.0,
    -0.0,
    -1,
    -1e-9,
    5e-324,
    1e-9,
    0.5,
    1,
    1e10,
    1e15,
    1e300,
    1.7976931348623157e308,
    2**31,
    2**63,
    2**64,
    10**30,
    10**400,
    -(10**400),
    LONGEST,
    LONGEST + 1,
    threading.TIMEOUT_MAX,
    True,
    False,
    "1",
    "inf",
    "nan",
    "",
    "ten",
    b"1",
    None,
    [],
    1j,
    Decimal("2.5"),
    Decimal("Infinity"),
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("1e400"),
    Fraction(5, 2),
    Fraction(10**400),
    Index(3),
    Index(10**30),
    object(),
]
TEXTS = [
    *("inf", "-inf", "nan", "infinity", "0", "-1", "-0", "1e-9", "5e-324", "1", "1e10", "1e300"),
    *("1e400", str(2**63), "1" * 400, "1" * 5000, "true", "false", "None", "null", "ten", "0x10"),
    *("1_000", "٣", " 1", "1 ", "40m", "1e300d", "infd", "nand", "d", "s", "-1h", "+5"),
]


def is_numeric(hint):
    kind = inspect.type_info(hint)
    kind = kind.type if isinstance(kind, inspect.Metadata) else kind
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    plain_kinds = [each.type if isinstance(each, inspect.Metadata) else each for each in kinds]
    return any(isinstance(each, inspect.IntType | inspect.FloatType) for each in plain_kinds)


def numeric(struct):
    return [name for name, field in describe(struct).items() if is_numeric(field.hint)]


def is_usable(name, value):
    """Whether nothing that uses a value can overflow."""
    if value is None or value == "auto":
        return True
    assert type(value) in {int, float}, (name, value)
    return 0 <= value <= LONGEST


def test_options_are_those_that_type_checkers_know():
    hints = TaskOptions.__annotations__
    assert set(describe(CallSettings)) == set(hints)
    assert len(numeric(CallSettings)) >= 14
    assert len(numeric(Settings)) >= 8


def tried(use, *kinds):
    """What a use of a value gives, or None and the text of its error."""
    try:
        return use(), ""
    except kinds as error:
        return None, str(error) or "an error without a text"


def plain_task(number=0):
    return number


plain_task.__module__ = "unit_test_values"


@pytest.mark.parametrize("name", numeric(CallSettings))
def test_an_option_takes_a_value_or_refuses_it(name):
    for value in EXTREME:
        found, error = tried(lambda: changed(CallSettings(), {name: value}), TypeError, ValueError)  # noqa: B023 - called at once
        if error:
            assert f"{name} = " in error
            assert "expected a" in error
        else:
            assert is_usable(name, getattr(found, name))
            assert not isinstance(value, bool | str | bytes), value


@pytest.mark.parametrize("name", numeric(CallSettings))
def test_an_option_in_the_environment(monkeypatch, name):
    variable = f"FSQUEUE__TASK__{name.upper()}"
    for text in TEXTS:
        monkeypatch.setenv(variable, text)
        task, error = tried(lambda: FSQueue().task(plain_task), ConfigError)
        if error:
            assert f"{variable}: {name} = " in error
        else:
            assert is_usable(name, getattr(task.settings, name))


@pytest.mark.parametrize("name", numeric(Settings))
def test_a_setting_takes_a_value_or_refuses_it(name):
    others = {"lease": LONGEST} if name == "heartbeat" else {}
    for value in EXTREME:
        app, error = tried(lambda: FSQueue(**others, **{name: value}), ConfigError)  # noqa: B023 - called at once
        if error:
            assert f"argument: {name} = " in error
            assert "expected a" in error
        else:
            assert is_usable(name, getattr(app.conf, name))
            assert not isinstance(value, bool | str | bytes), value


@pytest.mark.parametrize("name", numeric(Settings))
def test_a_setting_in_the_environment(monkeypatch, name):
    variable = f"FSQUEUE__{name.upper()}"
    others = {"lease": LONGEST} if name == "heartbeat" else {}
    for text in TEXTS:
        monkeypatch.setenv(variable, text)
        app, error = tried(lambda: FSQueue(**others), ConfigError)
        if error:
            assert f"environment variable {variable}: {name} = " in error
        else:
            assert is_usable(name, getattr(app.conf, name))


@pytest.mark.parametrize("table", ["", "task."])
def test_a_value_in_a_file(tmp_path, monkeypatch, table):
    monkeypatch.chdir(tmp_path)
    for name in numeric(CallSettings if table else Settings):
        for text in ("inf", "nan", "-1", "1e300", "1" + "0" * 30, "true", '"1"'):
            (tmp_path / "fsqueue.toml").write_text(f"{table}{name} = {text}\n", "utf-8")
            with pytest.raises(ConfigError, match=f"fsqueue.toml: .*{name} = "):
                FSQueue()


PARAMETERS = {
    f"{name} {parameter.opts[0]}": (command, parameter)
    for name, command in commands().items()
    for parameter in command.params
    if isinstance(parameter, click.Option)
    and not parameter.is_flag
    and not isinstance(parameter.type, click.Choice | click.Path | click.types.StringParamType)
}


def test_durations_and_counts_of_flags_are_found():
    assert {"worker --concurrency", "wait --timeout", "gc --older-than"} <= set(PARAMETERS)
    assert {"list --limit", "top --interval", "stats --window"} <= set(PARAMETERS)


@pytest.mark.parametrize("flag", PARAMETERS)
def test_a_flag_takes_a_value_or_refuses_it(flag):
    command, parameter = PARAMETERS[flag]
    context = click.Context(command)
    for text in TEXTS:
        value, error = tried(
            lambda: parameter.type_cast_value(context, text),  # noqa: B023 - called at once
            click.UsageError,
        )
        if not error and value not in {"auto", "none"}:
            assert type(value) in {int, float}
            assert 0 <= value <= LONGEST


def test_the_timeout_of_a_wait(spool):
    app = FSQueue(root=spool)
    task = app.task(plain_task)
    call, group = task(), task.parallelize([()])
    for value in EXTREME:
        left, error = tried(lambda: patience("timeout", value), TypeError, ValueError)  # noqa: B023 - called at once
        if error:
            for wait in (call.get, group.get):
                with pytest.raises((TypeError, ValueError), match="timeout = "):
                    wait(value)
        elif left is not None and left < 0.01:
            for wait in (call.get, group.get):
                with pytest.raises(TimeoutError):
                    wait(value)
        else:
            assert left is None or left <= LONGEST < threading.TIMEOUT_MAX
    app.close()


def test_the_delay_of_a_retry():
    for value in EXTREME:
        raised, error = tried(lambda: RetryError("again", delay=value), TypeError, ValueError)  # noqa: B023 - called at once
        if error:
            assert "delay = " in error
        else:
            assert raised.delay is None or 0 <= raised.delay <= LONGEST


@pytest.mark.parametrize("name", ["concurrency", "queues", "resources"])
def test_the_numbers_of_a_worker(name):
    app = FSQueue()
    for value in EXTREME:
        given = {"concurrency": value, "queues": {"q": value}, "resources": {"gpu": value}}[name]
        _, error = tried(lambda: app.make_runner(**{name: given}), ConfigError)  # noqa: B023 - called at once
        if error:
            assert "expected a" in error
        else:
            assert not isinstance(value, bool), value


@pytest.mark.parametrize("eta", ["0001-01-01T00:00:00+14:00", "2199-12-31T00:00:00Z"])
def test_times_that_are_taken(eta):
    settings = changed(CallSettings(), {"eta": eta})
    assert is_slot_name(str(Slot(5, later(1.8e9, settings.eta.timestamp() - 1.8e9))))


def test_a_time_that_no_slot_can_have():
    with pytest.raises(ValueError, match=r"eta = .*before 2200"):
        changed(CallSettings(), {"eta": "9999-12-31T23:59:59-14:00"})


@pytest.mark.parametrize("delay", [5e-324, 1e-300, 1e-9, 1.0, 1e9, LONGEST, 1e15, 1e300])
def test_each_delay_leads_to_a_slot_with_a_name(delay):
    now = 1.8e9
    due = later(now, delay)
    assert due >= now + min(delay, LONGEST) - 1
    assert is_slot_name(str(Slot(5, due)))


@pytest.mark.parametrize("retries", [0, 1, 1023, 1024, 99_998])
@pytest.mark.parametrize("policy", [RetryPolicy(times=99_999), RetryPolicy(times=99_999, delay=0)])
@pytest.mark.parametrize("factor", [1.0, 2.0, 1000.0])
def test_the_pause_before_any_retry(policy, retries, factor):
    policy = msgspec.structs.replace(policy, factor=factor, longest=LONGEST, jitter=10.0)
    delay = delay_before_retry(policy, RetryError(), retries)
    assert 0 <= delay <= LONGEST


def test_a_negative_delay_of_a_retry_is_none():
    assert RetryError(delay=-5).delay == 0
    assert RetryError(delay=-math.inf).delay == 0


def test_the_counts_of_a_report():
    for value in EXTREME:
        found, error = tried(lambda: checked_progress(value, value, ""), TypeError, ValueError)  # noqa: B023 - called at once
        if error:
            assert "progress(done=" in error
        else:
            assert math.isfinite(found.done)


@pytest.mark.parametrize("when", [-1e300, -1e12, 0.0, 1e12, 1e300, 10**30])
def test_any_time_of_a_file_can_be_shown(when):
    assert moment(when)


def test_numbers_of_other_kinds_are_numbers():
    assert (plain(Decimal("2.5")), plain(Fraction(5, 2)), plain(Index(3))) == (2.5, 2.5, 3)
    assert plain(True) is True
    assert seconds("x", Decimal("0.5")) == 0.5
    assert patience("x", math.inf) is None
    assert patience("x", -5) == 0
    assert parse_duration("2h") == 7200
    assert parse_duration("-2h") is None
