"""A small weather service in plain Python: the program before fsqueue.

Looking up one station takes half a second. The sleep stands for the part that makes a real
function slow: a database, a web service, a simulation. The temperatures are made up, but
they depend only on station and year, so that every script can check its results.

Run it to see the starting point: five stations, one after the other, 2.5 seconds.
"""

import asyncio
import os
import time
import zlib

Reading = tuple[float, str]  # degrees Celsius first, so that max() finds the warmest

STATIONS = ["Abisko", "Bergen", "Cork", "Dakar", "Evora"]


def _look_up(station: str, year: int) -> Reading:
    if not station.isalpha():
        raise LookupError(f"there is no weather station called {station!r}")
    time.sleep(0.5)
    tenths = zlib.crc32(f"{station} {year}".encode()) % 300
    return (15 + tenths / 10, station)


def highest(station: str, year: int = 2024) -> Reading:
    """Give the highest temperature of one station in one year."""
    return _look_up(station, year)


def yearbook(stations: list[str], year: int = 2024) -> list[Reading]:
    """Give the highest temperature of every station, in the order asked for."""
    return [_look_up(station, year) for station in stations]


def record(stations: list[str], year: int = 2024) -> Reading:
    """Give the highest temperature measured anywhere."""
    return max(_look_up(station, year) for station in stations)


async def forecast(station: str, seconds: float = 0.02) -> str:
    """Wait for a forecast without blocking the event loop."""
    await asyncio.sleep(seconds)
    return f"{station}: dry"


def echo(value: int) -> int:
    """Return the value; the call costs only the round trip."""
    return value


def greet(name: str) -> tuple[str, int]:
    """Return a greeting and the id of the process it comes from."""
    return f"Hello {name}", os.getpid()


def process_id() -> int:
    """Return the id of the process that runs this body."""
    return os.getpid()


if __name__ == "__main__":
    start = time.perf_counter()
    readings = [highest(station) for station in STATIONS]
    print(f"plain Python: {len(readings)} stations in {time.perf_counter() - start:.2f} s")
    celsius, warmest = max(readings)
    print(f"the warmest: {warmest}, {celsius:.1f} °C")
    assert warmest == "Evora"
