"""Distributed mode: the same call sites, answered by a worker.

The worker runs in a thread here, so that one command shows everything. With
`fsqueue worker tasks:app` it would run in another process or on another machine (main_job.py).
"""

from concurrent.futures import ThreadPoolExecutor

import tasks
import tasks_original as plain
from demo_support import report, timed, worker_in_thread


def one_after_the_other() -> list[tasks.Reading]:
    return [tasks.highest(station) for station in tasks.STATIONS]


def all_at_once() -> list[tasks.Reading]:
    with ThreadPoolExecutor(max_workers=len(tasks.STATIONS)) as pool:
        return list(pool.map(tasks.highest, tasks.STATIONS))


def ask_for_nonsense() -> str:
    try:
        tasks.highest("no such station")
    except LookupError as error:
        return str(error)
    raise AssertionError("the worker's exception did not arrive")


def main() -> None:
    expected = plain.yearbook(plain.STATIONS)
    print("distributed, the worker in a thread:")
    with worker_in_thread(tasks.app):
        readings, seconds = timed(one_after_the_other)
        report("5 calls of 0.5 s in a row: each blocks its caller", seconds)
        assert readings == expected
        assert seconds >= 2.5

        readings, seconds = timed(all_at_once)
        report("5 calls of 0.5 s from a ThreadPoolExecutor", seconds)
        assert readings == expected
        assert 0.5 <= seconds < 2.5  # the sum of the five

        print(f"  an exception is raised at the call: LookupError: {ask_for_nonsense()}")


if __name__ == "__main__":
    main()
