"""Tasks for slot processes that claim calls themselves. Bodies note how often they run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid

from fsqueue import FSQueue

app = FSQueue("claiming", concurrency=2, heartbeat=0.1, poll_interval=0.2)
NOTES = os.environ.get("NOTES_OF_TEST", "")


def note(name):
    """Note that a body of this name runs, in the process that is named."""
    path = f"{NOTES}/{name}.{os.getpid()}.{uuid.uuid4().hex}"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


def wait_for(name):
    while not os.path.exists(f"{NOTES}/{name}"):
        time.sleep(0.005)


@app.task
def mark(number):
    note(number)
    return number


@app.task
def slowly(number, seconds):
    note(number)
    time.sleep(seconds)
    return number


@app.task
def until_stopped(number, most):
    """Go on after so many bodies only when the worker stops."""
    note(number)
    if len(os.listdir(NOTES)) > most:
        wait_for("stopping")
    time.sleep(0.005)
    return number


@app.task(max_attempts=1)
def end_process(number, how):
    note(number)
    if how == "exit":
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(max_attempts=2)
def end_process_once(number):
    note(number)
    if not os.path.exists(f"{NOTES}/died"):
        os.close(os.open(f"{NOTES}/died", os.O_CREAT))
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@app.task(timeout=0.2)
def too_long(number):
    note(number)
    wait_for("never")


@app.task
def hold(number):
    note(number)
    wait_for("go")
    return number


@app.task
async def hold_softly(number):
    note(number)
    try:
        await asyncio.sleep(3600)
    finally:
        note("cleaned")


@app.task
def fail(number):
    raise ValueError(number)


@app.task
def add_one(number):
    return number + 1
