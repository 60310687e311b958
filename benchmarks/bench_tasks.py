"""The functions that the benchmark calls: they do nothing, so that only the queue is measured."""

import os
import threading

from fsqueue import FSQueue

app = FSQueue("bench")


@app.direct_task
def echo(value):
    return value


@app.task
def later(value):
    return value


ticks = threading.Semaphore(0)


def tick():
    ticks.release()


@app.direct_task
def exists(path):
    return os.path.exists(path)
