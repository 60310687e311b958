"""Durations and counts as people give them: conversion and limits.

Every duration is a number of seconds. Options, settings, flags and methods all come here, so that
a value is refused where it is given, and not hours later by a timer or a file name.
"""

from __future__ import annotations

import numbers
from typing import Any, Final

LONGEST: Final = 100 * 365 * 86_400
"""The longest duration, in seconds: 100 years.

Python's timers take up to 292 years, and the names of slots have room until the year 2286.
"""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def plain(value: Any) -> Any:
    """A number of any kind (NumPy, `Decimal`, `Fraction`) as an int or float.

    Anything else, such as a bool, stays as it is: what checks types refuses it.
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
        name: of the option or argument, for the message.
        value: a number.
        least: the shortest duration that is accepted.

    Raises:
        TypeError: it is no number.
        ValueError: it is too short, too long, or not a number (NaN).
    """
    found = plain(value)
    expected = f"{name} = {value!r}, expected a number >= {least:g} and <= {LONGEST} seconds"
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise TypeError(expected)
    if not least <= found <= LONGEST:
        raise ValueError(expected)
    return float(found)


def pause(name: str, value: Any) -> float:
    """A duration in seconds, as `seconds`; a negative number is none at all.

    A program computes it as the time that is left until something, which may have passed.
    """
    found = plain(value)
    if isinstance(found, int | float) and not isinstance(found, bool) and found < 0:
        return 0.0
    return seconds(name, value)


def patience(name: str, value: Any) -> float | None:
    """How long to wait, in seconds; None for as long as it takes.

    As in the standard library a negative number means not to wait. Infinity, and more than
    `LONGEST`, mean to wait for as long as it takes.

    Args:
        name: of the argument, for the message.
        value: a number or None.

    Raises:
        TypeError: it is neither.
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


def parse_duration(text: str) -> float | None:
    """The seconds of a text such as ``90``, ``90s``, ``15m``, ``2h`` or ``7d``.

    None if it is no duration, or one that is negative or longer than `LONGEST`.
    """
    number, factor = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    try:
        found = float(number) * factor
    except ValueError:
        return None
    return found if 0 <= found <= LONGEST else None
