"""Tasks that note in a shared folder who has run them."""

import os
import socket
import time

from fsqueue import FSQueue

app = FSQueue("nfs")  # its root comes from FSQUEUE__ROOT

_LONGEST_HOLD = 100.0
_LOOK = 0.05


def host():
    return socket.gethostname()


def note(folder, text):
    """Append a line, in one write, to a file that no other process writes to."""
    path = os.path.join(folder, f"runs.{host()}.{os.getpid()}")
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{text}\n")


def wait_for(folder, name):
    """Wait for a file. By listing: "no such file" may be an answer from the cache."""
    deadline = time.monotonic() + _LONGEST_HOLD
    while name not in os.listdir(folder):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} did not come into {folder}")
        os.utime(folder)
        time.sleep(_LOOK)


@app.direct_task
def double(number):
    return 2 * number


@app.direct_task(
    parallel_func=lambda arguments: [(number,) for number in arguments["numbers"]],
    aggregate_func=lambda results: [number for each in results for number in each],
)
def doubled(numbers):
    return [2 * number for number in (numbers if isinstance(numbers, list) else [numbers])]


@app.task
def double_kept(number):
    return 2 * number


@app.direct_task
def refuse(text):
    raise LookupError(text)


@app.direct_task
def where():
    return host()


@app.direct_task
def nap(seconds):
    """When it began and ended: all guests have the clock of their host."""
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


@app.task
def square(folder, number, pause=0.0):
    time.sleep(pause)
    note(folder, number)
    return number * number, host()


def _hold_at_first(folder, name):
    """The first run waits for a file; every other one comes back at once."""
    first = True
    try:
        os.mkdir(os.path.join(folder, f"begun-{name}"))
    except FileExistsError:
        first = False
    note(folder, f"{name}-{'first' if first else 'again'}")
    if first:
        wait_for(folder, "release")
        note(folder, f"{name}-ends")
    return ("first" if first else "again"), host()


@app.task
def hold_at_first(folder, name):
    return _hold_at_first(folder, name)


@app.direct_task
def hold_at_first_directly(folder, name):
    return _hold_at_first(folder, name)
