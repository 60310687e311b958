"""Sync mode: the decorated functions run inline, as if the decorators were not there.

For unit tests and debuggers. It uses no worker, no thread and no file. Switch it on in the
environment, as here, or with `app.conf.dev_mode_force_sync_tasks = True`.
"""

import asyncio
import os

os.environ["FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS"] = "True"

import tasks
import tasks_original as plain
from demo_support import report, timed


def main() -> None:
    print(f"sync mode, all in process {os.getpid()}, no worker:")

    readings, seconds = timed(lambda: [tasks.highest(station) for station in tasks.STATIONS])
    report("5 calls of 0.5 s in a row, as plain Python would", seconds)
    assert readings == plain.yearbook(plain.STATIONS)
    assert seconds >= 2.5

    warmest, seconds = timed(lambda: tasks.record(tasks.STATIONS[:2]))
    report("a fan-out over 2 stations, inline as well", seconds)
    assert warmest == max(readings[:2])

    text, seconds = timed(lambda: asyncio.run(tasks.forecast("Cork")))
    report("an awaited call", seconds)
    assert text == "Cork: dry"

    greeting, pid = tasks.greet("fsqueue")
    assert (greeting, pid) == ("Hello fsqueue", os.getpid())
    invocation = tasks.process_id()
    assert invocation.done()
    assert invocation.result == os.getpid()
    print(f"  {greeting!r} came from process {pid}; @app.task's invocation was done at once")


if __name__ == "__main__":
    main()
