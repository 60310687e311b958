"""The application whose spool `spool_v1.tar.gz` holds. Its root is FSQUEUE__ROOT.

Files of the spool name these functions, so none of them may be renamed or change its parameters.
"""

import os
import time

from fsqueue import FSQueue, args
from fsqueue.triggers import cron, on_event

# The spool is old whenever it is read: nothing of it may expire by itself.
AGES = 3e9
app = FSQueue(
    "archive",
    heartbeat=0.2,
    lease=0.6,
    poll_interval=0.1,
    result_ttl=AGES,
    journal_ttl=AGES,
)


@app.task
def add(first, second=1):
    return first + second


@app.task(serializer="json")
def add_in_json(first, second=1):
    return first + second


@app.task
def reject(text):
    raise LookupError(text)


@app.task(retry_for=ConnectionError, max_retries=3, retry_delay=0.1)
def flaky(first_runs):
    if os.environ.get("SPOOL_APP_FAILS"):
        raise ConnectionError("not yet")
    return first_runs


def wait_for_release(folder):
    """Until the file `release` is there; where the folder is gone, it ends at once."""
    while os.path.isdir(folder) and not os.path.exists(os.path.join(folder, "release")):
        time.sleep(0.01)


@app.task
def hold(folder):
    wait_for_release(folder)
    return "held"


@app.task(running_concurrency="task", running_limit=1)
def hold_alone(folder):
    wait_for_release(folder)
    return "alone"


@app.task(registration_concurrency="arguments")
def add_once(first, second=1):
    return first + second


@app.task(call_result_cache=True, call_result_cache_ttl=AGES)
def add_cached(first, second=1):
    return first + second


@app.task(capture_output=True)
def speak(text):
    print(text)
    return len(text)


@app.task(resources={"gpu": 1})
def on_gpu(number):
    return number


@app.task(parallel_batch_size=3)
def scale(number, factor=2):
    return number * factor


@app.task
def length(text):
    return len(text)


@app.task(triggers=on_event("arrived", arguments=lambda occurrence: args(occurrence.payload)))
def on_arrival(payload):
    return payload


@app.task(triggers=on_event("first") & on_event("second"))
def on_both():
    return "both"


@app.task(triggers=cron("0 3 * * *"))
def each_night():
    return None
