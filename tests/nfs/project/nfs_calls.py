"""The caller's side of the tests: ``python nfs_calls.py COMMAND ...`` prints one line of JSON."""

import faulthandler
import json
import os
import signal
import statistics
import sys
import threading
import time

import nfs_tasks
from nfs_tasks import app


def blocking(count):
    """Direct calls, one after the other."""
    took = []
    wrong = []
    for number in range(int(count)):
        began = time.perf_counter()
        value = nfs_tasks.double(number)
        took.append(time.perf_counter() - began)
        if value != 2 * number:
            wrong.append((number, value))
    return {"wrong": wrong, "median": statistics.median(took), "max": max(took)}


def steadily(folder):
    """Direct calls until a file comes."""
    calls = []
    nfs_tasks.where()
    print("begun", flush=True)
    while "stop" not in os.listdir(folder):
        began = time.time()
        nfs_tasks.where()
        calls.append((began, time.time()))
        time.sleep(0.05)
        os.utime(folder)
    return {"calls": calls}


def after_silence(folder, go, seconds):
    """A call of a process that has made one before, and then nothing until a local file comes."""
    nfs_tasks.where()
    print("published -", flush=True)
    nfs_tasks.wait_for(folder, go)
    called = time.time()
    began, ended = nfs_tasks.nap(float(seconds))
    had = time.time()
    return {"started": began - called, "answered": had - ended, "had": had}


def counted(folder, command, *arguments):
    """Another command, of a process that has made a call before, and between two local files."""
    nfs_tasks.where()
    print("published -", flush=True)
    nfs_tasks.wait_for(folder, "go")
    answer = globals()[command](*arguments)
    print("collected", flush=True)
    nfs_tasks.wait_for(folder, "over")
    return answer


def refused(count):
    """Direct calls that raise."""
    wrong = []
    for number in range(int(count)):
        try:
            wrong.append(nfs_tasks.refuse(f"no {number}"))
        except LookupError as error:
            if error.args != (f"no {number}",):
                wrong.append(repr(error))
    return {"wrong": wrong}


def squares(folder, count, pause="0"):
    """Calls made at once, whose outcomes are kept."""
    items = [(folder, number, float(pause)) for number in range(int(count))]
    group = nfs_tasks.square.parallelize(items)
    print("published", *sorted({invocation.id.partition("-")[0] for invocation in group}))
    sys.stdout.flush()
    began = latest = time.perf_counter()
    pause = 0.0
    for invocation in group:
        invocation.get()
        pause = max(pause, time.perf_counter() - latest)
        latest = time.perf_counter()
    results = group.results
    wrong = [
        (number, value) for number, (value, _) in enumerate(results) if value != number * number
    ]
    return {
        "wrong": wrong,
        "count": len(results),
        "hosts": sorted({host for _, host in results}),
        "seconds": latest - began,
        "pause": pause,
    }


def fan_out(kind, count):
    """Calls made at once and collected once; their outcomes are kept for others, or not."""
    numbers = list(range(int(count)))
    if kind == "kept":
        values = nfs_tasks.double_kept.parallelize([(number,) for number in numbers]).results
    else:
        values = nfs_tasks.doubled(numbers)
    return {"wrong": [] if values == [2 * number for number in numbers] else values}


def publish(count):
    """Calls that are pending when this process has ended."""
    group = nfs_tasks.square.parallelize([("nowhere", number) for number in range(int(count))])
    return {"ids": len(group)}


def held(folder):
    """A call of either kind whose first worker holds it; both are answered by another one."""
    answers = {}

    def call_directly():
        answers["direct"] = nfs_tasks.hold_at_first_directly(folder, "direct")

    thread = threading.Thread(target=call_directly)
    thread.start()
    invocation = nfs_tasks.hold_at_first(folder, "kept")
    print("published", invocation.id, flush=True)
    answers["kept"] = invocation.result
    thread.join()
    return {"answers": answers, "ended": time.time()}


def result_of(invocation_id):
    """What any process may ask for."""
    return {"result": app.invocation(invocation_id).get(timeout=20)}


def polled(folder):
    """Ask for the state again and again, with nobody waiting: how soon is the end seen?"""
    invocation = nfs_tasks.hold_at_first(folder, "polled")
    print("published", invocation.id, flush=True)
    states = []
    while True:
        state = str(invocation.status)
        if states[-1:] != [state]:
            states.append(state)
            print(state, flush=True)
        if state in {"succeeded", "failed"}:
            return {"states": states, "result": invocation.result}
        time.sleep(0.02)


def watched(invocation_id):
    """The same by another process than the caller."""
    states = []
    while not states or states[-1] != "succeeded":
        state = str(app.invocation(invocation_id).status)
        if states[-1:] != [state]:
            states.append(state)
            print(state, flush=True)
        time.sleep(0.02)
    return {"states": states}


def where():
    """Which client's worker answers."""
    return {"host": nfs_tasks.where()}


def features(folder, turns, orders):
    """Calls that take turns, a chain over both clients, and events."""
    from nfs_features import app, on_a, on_b, take_turn

    group = take_turn.parallelize([(folder,)] * int(turns))
    chain = on_a([]).then(on_b).then(on_a).then(on_b)
    for order in range(int(orders)):
        app.emit("paid", {"order": order})
    answer = {"path": chain.get(timeout=40), "turns": group.get(timeout=40)}
    app.close()
    return answer


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    answer = globals()[sys.argv[1]](*sys.argv[2:])
    app.close()
    print(json.dumps(answer), flush=True)
