"""Fan-out: one call in the program becomes many calls on the workers.

`parallel_func` turns the caller's arguments into those of the single calls, and
`aggregate_func` makes one value from their results. tasks.py shows both forms: `yearbook`
lists a tuple of arguments for each call, and `record` gives the arguments that all calls
share once, and then those that differ.
"""

import tasks
import tasks_original as plain
from demo_support import report, timed, worker_in_thread


def main() -> None:
    expected = plain.yearbook(plain.STATIONS)
    print("fan-out, the worker in a thread:")
    with worker_in_thread(tasks.app):
        readings, seconds = timed(lambda: tasks.yearbook(tasks.STATIONS))
        report("yearbook(5 stations): a tuple for each call", seconds)
        assert readings == expected
        assert 0.5 <= seconds < 2.5  # the sum of the five

        warmest, seconds = timed(lambda: tasks.record(tasks.STATIONS))
        report("record(5 stations): shared arguments once, then dicts", seconds)
        assert warmest == max(expected)
        assert 0.5 <= seconds < 2.5  # the sum of the five

        nothing, seconds = timed(lambda: tasks.yearbook([]))
        report("yearbook of no stations", seconds)
        assert nothing == []
    for celsius, station in readings:
        print(f"    {station:<8} {celsius:.1f} °C{'  (the record)' * (station == warmest[1])}")


if __name__ == "__main__":
    main()
