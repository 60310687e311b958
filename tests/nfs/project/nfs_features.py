"""Tasks that take turns, follow each other and have triggers; a worker is on each client.

Names in the shared folder are never used again: a client may remember them.
"""

import os

from nfs_tasks import host, note

from fsqueue import FSQueue, triggers

app = FSQueue("features")  # its root comes from FSQUEUE__ROOT
MARKS = os.environ["MARKS"]


@app.task(running_concurrency="task")
def take_turn(folder):
    """Hold the only token of the folder for a moment; a failure if somebody else has it."""
    os.utime(folder)
    (name,) = os.listdir(folder)
    state, _, number = name.partition(".")
    if state != "free":
        raise AssertionError(f"somebody is here: {name}")
    held = os.path.join(folder, f"held.{number}")
    os.rename(os.path.join(folder, name), held)
    os.rename(held, os.path.join(folder, f"free.{int(number) + 1}"))
    return host()


@app.task(queue="a")
def on_a(path):
    return [*path, host()]


@app.task(queue="b")
def on_b(path):
    return [*path, host()]


@app.task(triggers=triggers.on_event("paid"))
def book(order):
    note(MARKS, f"order-{order}")


@app.task(triggers=triggers.cron("* * * * * *", arguments=lambda tick: (tick.when.timestamp(),)))
def each_second(second):
    note(MARKS, f"tick-{second:.0f}")
