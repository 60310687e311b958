import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsqueue.common.values import (
    LONGEST,
    duration,
    format_clock,
    format_duration,
    parse_clock,
    parse_duration,
)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("90", 90),
        ("1.5", 1.5),
        ("45s", 45),
        ("40m", 2400),
        ("4h", 14_400),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (" 2D 4H ", 187_200),
        ("1w", 604_800),
        ("250ms", 0.25),
        ("02:00:00", 7200),
        ("30:00:00", 108_000),
        ("1-02:00:00", 93_600),
    ],
)
def test_durations_are_seconds_or_texts_with_units(given, seconds):
    assert duration("walltime", given) == seconds


@pytest.mark.parametrize(
    "given",
    [
        "",
        "h",
        "4 hours",
        "-1",
        "1h1h",
        "4hm",
        "1e3",
        "nan",
        "inf",
        "1-02",
        "1:2:3",
        "4h;",
        -1,
        math.nan,
        math.inf,
        True,
        None,
        "٣",
    ],
)
def test_anything_else_is_refused_with_an_example(given):
    with pytest.raises(ValueError, match=r"walltime = .*, expected seconds or a text like .*40m"):
        duration("walltime", given)


def test_a_clock_without_hours_is_refused_as_systems_read_it_differently():
    with pytest.raises(ValueError, match='write "10m", "10h" or "10:00:00"'):
        duration("walltime", "10:00")
    assert parse_duration("10:00") is None


@given(st.integers(0, 10**12))
def test_what_is_formatted_is_read_as_the_same_time(thousandths):
    assert parse_duration(format_duration(thousandths / 1000)) == pytest.approx(thousandths / 1000)


@given(st.text(alphabet="0123456789wdhms.:- ", max_size=12))
def test_every_text_is_read_or_refused(text):
    seconds = parse_duration(text)
    assert seconds is None or 0 <= seconds <= LONGEST


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (45, "45s"),
        (300, "5m"),
        (14400, "4h"),
        (5400, "1h30m"),
        (1.5, "1.5s"),
        (90061, "1d1h1m1s"),
        (0.2504, "0.25s"),
    ],
)
def test_durations_are_formatted_shortly(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:30", 30),
        ("59:59", 3599),
        ("1:00:00", 3600),
        ("2-01:00:00", 176400),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("", None),
        ("NOT_SET", None),
    ],
)
def test_clocks_of_batch_systems_are_read(text, seconds):
    assert parse_clock(f"  {text}\n") == seconds


def test_limits_are_written_as_clocks_and_rounded_up():
    assert [format_clock(each) for each in (1, 59.2, 14_400, 108_000)] == [
        "00:00:01",
        "00:01:00",
        "04:00:00",
        "30:00:00",
    ]
