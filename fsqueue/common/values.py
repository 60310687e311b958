"""Converts and limits durations and numbers that users give.

Every duration is a number of seconds. Options, settings, flags and methods all use this module, so
that a bad value is refused where it is given, not hours later by a timer or a file name.
"""

from __future__ import annotations

import math
import numbers
import re
from typing import Any, Final

LONGEST: Final = 100 * 365 * 86_400
"""The longest duration, in seconds: 100 years.

Python's timers take up to 292 years, and the names of pending files reach to the year 2286.
"""

_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_NUMBER: Final = re.compile(r"\d{1,12}(?:\.\d{1,6})?", re.ASCII)
_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(ms|[wdhms])", re.ASCII)
_PARTS: Final = re.compile(rf"(?:{_PART.pattern}\s*)+", re.ASCII)
_CLOCK: Final = re.compile(r"(?:(\d{1,6})-)?(\d{1,6}):(\d{2}):(\d{2})", re.ASCII)
_SHORT_CLOCK: Final = re.compile(r"(\d{1,6}):(\d{2})", re.ASCII)
_EXPECTED: Final = 'expected seconds or a text like "90s", "40m", "1h30m", "2d" or "1-02:00:00"'


def plain(value: Any) -> Any:
    """A number of any kind (NumPy, `Decimal`, `Fraction`) as an int or float.

    Anything else, such as a bool, stays unchanged, for a type check to refuse.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Number):
        return value
    try:
        return int(value) if isinstance(value, numbers.Integral) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):  # complex, a signalling NaN, a huge fraction
        return value


def seconds(name: str, value: Any, *, least: float = 0.0) -> float:
    """A duration in seconds.

    Args:
        name: the option or argument, for the message.
        value: a number.
        least: the shortest valid duration.

    Raises:
        TypeError: the value is not a number.
        ValueError: it is too short, too long, or NaN.
    """
    found = plain(value)
    expected = f"{name} = {value!r}, expected a number >= {least:g} and <= {LONGEST} seconds"
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise TypeError(expected)
    if not least <= found <= LONGEST:
        raise ValueError(expected)
    return float(found)


def pause(name: str, value: Any) -> float:
    """A duration in seconds, like `seconds`, but a negative number gives 0.

    Programs compute it as the time that is left until a moment, which may have passed.
    """
    found = plain(value)
    if isinstance(found, int | float) and not isinstance(found, bool) and found < 0:
        return 0.0
    return seconds(name, value)


def patience(name: str, value: Any) -> float | None:
    """A timeout in seconds; None: no limit.

    As in the standard library, a negative number means not to wait. Infinity, and more than
    `LONGEST`, mean no limit.

    Args:
        name: the argument, for the message.
        value: a number or None.

    Raises:
        TypeError: the value is neither a number nor None.
        ValueError: it is NaN.
    """
    if value is None:
        return None
    found = plain(value)
    expected = f"{name} = {value!r}, expected a number of seconds, or None to wait without limit"
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise TypeError(expected)
    if found != found:  # noqa: PLR0124 - only NaN; `math.isnan` fails for huge integers
        raise ValueError(expected)
    if found > LONGEST:
        return None
    return float(found) if found > 0 else 0.0


# -- durations as texts -------------------------------------------------------------------------


def parse_duration(text: str) -> float | None:
    """Parse a duration into seconds; None if it is invalid or longer than `LONGEST`.

    It may be a number of seconds ("90"), numbers with units ("40m", "1h30m", "1.5h", "2d 4h",
    "500ms"), or a clock ("02:00:00", or with days "1-02:00:00"). "10:00" is invalid: Slurm reads it
    as ten minutes, other systems as ten hours.
    """
    text = text.strip().lower()
    if _NUMBER.fullmatch(text):
        found = float(text)
    elif (clock := _CLOCK.fullmatch(text)) is not None:
        found = _from_clock(clock)
    elif _PARTS.fullmatch(text) is not None:
        parts = _PART.findall(text)
        if len({unit for _, unit in parts}) < len(parts):  # "1h1h" must be a typo
            return None
        found = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        return None
    return found if found <= LONGEST else None


def duration(name: str, value: Any) -> float:
    """A duration in seconds, from a number or a string.

    Args:
        name: the setting, for the message.
        value: a number of seconds, or a string for `parse_duration`.

    Raises:
        ValueError: the value is invalid or longer than `LONGEST`.
    """
    found = parse_duration(value) if isinstance(value, str) else _plain_seconds(value)
    if found is not None:
        return found
    advice = _EXPECTED
    if isinstance(value, str) and _SHORT_CLOCK.fullmatch(value.strip()):
        advice = 'which can be minutes or hours: write "10m", "10h" or "10:00:00"'
    raise ValueError(f"{name} = {value!r}, {advice}")


def _plain_seconds(value: Any) -> float | None:
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 <= found <= LONGEST else None


def _from_clock(match: re.Match[str]) -> float:
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(days * 86_400 + hours * 3600 + minutes * 60 + seconds)


def parse_clock(text: str) -> float | None:
    """The seconds of a batch system's time, ``[days-][hours:]minutes:seconds``.

    None for any other string, such as UNLIMITED or INVALID.
    """
    text = text.strip()
    if (clock := _CLOCK.fullmatch(text)) is not None:
        return _from_clock(clock)
    if (short := _SHORT_CLOCK.fullmatch(text)) is not None:
        return float(int(short[1]) * 60 + int(short[2]))
    return None


def format_duration(seconds: float) -> str:
    """The shortest string that `parse_duration` reads as the same time: "4h", "1h30m", "1.5s".

    Fractions are rounded to milliseconds.
    """
    thousandths = round(seconds * 1000)
    whole, rest = divmod(thousandths, 1000)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        parts.append(f"{whole}.{rest:03d}".rstrip("0") + "s")
    elif whole or not parts:
        parts.append(f"{whole}s")
    return "".join(parts)


def format_clock(seconds: float) -> str:
    """``hours:minutes:seconds``, rounded up, for batch systems: "04:00:00", "30:00:00"."""
    whole = math.ceil(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
