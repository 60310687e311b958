"""The functions of tasks_original.py with fsqueue's decorators added.

Nothing else changed: the bodies and signatures are the same, character for character
(migration.py prints the difference and checks it), and so is every call site.
"""

import asyncio
import os
import time
import zlib
from collections.abc import Iterator
from typing import Any

from fsqueue import FSQueue

app = FSQueue("direct_task_demo")

Reading = tuple[float, str]  # degrees Celsius first, so that max() finds the warmest

STATIONS = ["Abisko", "Bergen", "Cork", "Dakar", "Evora"]


def _look_up(station: str, year: int) -> Reading:
    if not station.isalpha():
        raise LookupError(f"there is no weather station called {station!r}")
    time.sleep(0.5)
    tenths = zlib.crc32(f"{station} {year}".encode()) % 300
    return (15 + tenths / 10, station)


def _one_call_per_station(call: dict[str, Any]) -> Iterator[tuple[list[str], int]]:
    """Fan-out, first form: one tuple of positional arguments for each call."""
    for station in call["stations"]:
        yield [station], call["year"]


def _join(parts: list[list[Reading]]) -> list[Reading]:
    return [reading for part in parts for reading in part]


def _same_year_for_all(
    call: dict[str, Any],
) -> tuple[dict[str, int], list[dict[str, list[str]]]]:
    """Fan-out, second form: the arguments that all calls share, and those that differ."""
    return {"year": call["year"]}, [{"stations": [station]} for station in call["stations"]]


@app.direct_task
def highest(station: str, year: int = 2024) -> Reading:
    """Give the highest temperature of one station in one year."""
    return _look_up(station, year)


@app.direct_task(parallel_func=_one_call_per_station, aggregate_func=_join)
def yearbook(stations: list[str], year: int = 2024) -> list[Reading]:
    """Give the highest temperature of every station, in the order asked for."""
    return [_look_up(station, year) for station in stations]


@app.direct_task(parallel_func=_same_year_for_all, aggregate_func=max)
def record(stations: list[str], year: int = 2024) -> Reading:
    """Give the highest temperature measured anywhere."""
    return max(_look_up(station, year) for station in stations)


@app.direct_task
async def forecast(station: str, seconds: float = 0.02) -> str:
    """Wait for a forecast without blocking the event loop."""
    await asyncio.sleep(seconds)
    return f"{station}: dry"


@app.direct_task
def echo(value: int) -> int:
    """Return the value; the call costs only the round trip."""
    return value


@app.direct_task
def greet(name: str) -> tuple[str, int]:
    """Return a greeting and the id of the process it comes from."""
    return f"Hello {name}", os.getpid()


@app.task  # returns an invocation: the caller can ask later, or wait with a timeout
def process_id() -> int:
    """Return the id of the process that runs this body."""
    return os.getpid()
