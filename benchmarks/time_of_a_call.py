"""Prints where the processor's time of a no-op call goes, in the caller and in a thread slot.

First, one thread publishes calls, runs them as a slot does, and collects their results, a few at a
time. No other thread is at work, so nothing waits. Each function is measured in rounds of its own,
as the clock that is read around it costs time. The figures are the least of many rounds: a busy
machine spoils some of these, but not all. Functions on deeper levels are parts of those above. The
system calls alone are measured too, on files of the same size.

Then, calls of another process, one after another: what the slot's thread does for each of them.
"""

# ruff: noqa: SLF001 - it takes the place of a slot's thread

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from operator import itemgetter
from pathlib import Path

import machine

HERE = Path(__file__).parent
CALLS = 25
STEPS = (
    ("publish", "fsqueue.task:Task.__call__", 0),
    ("encode arguments", "fsqueue.calls.publishing:Publisher.encode", 1),
    ("header", "fsqueue.calls.publishing:Publisher._draft", 1),
    ("write and rename", "fsqueue.spool.store.store:Store.publish", 1),
    ("ring", "fsqueue.spool.caller.client:Client.ring", 1),
    ("next claim", "fsqueue.runner.loop.claiming:Claiming.next", 0),
    ("rename into the worker's folder", "fsqueue.spool.store.claims:Claims.claim", 1),
    ("take a claim to its result", "fsqueue.runner.loop.worker_loop:WorkerLoop._run_claim", 0),
    ("read, verify, decode", "fsqueue.runner.attempt.execute:_read", 1),
    ("body, and what surrounds it", "fsqueue.runner.attempt.execute:_run", 1),
    ("arguments, body, value", "fsqueue.runner.attempt.bodies:_answer", 2),
    ("publish the outcome", "fsqueue.spool.files.outcomes:Outcomes.publish", 1),
    ("remove the claimed file", "fsqueue.spool.files.files:Files.remove", 1),
    ("journal entry", "fsqueue.runner.attempt.journal_entries:ended", 1),
    ("record it", "fsqueue.spool.history.journal:Journal.add", 1),
    ("free the slot", "fsqueue.runner.loop.settling:Settling.settle", 1),
    ("get", "fsqueue.invocation:Invocation.get", 0),
    ("read and remove", "fsqueue.spool.files.outcomes:Outcomes.collect", 1),
    ("verify, decode", "fsqueue.spool.files.outcomes:Outcomes.read", 1),
)

BLOCKING_STEPS = (
    ("take a claim to its result", "fsqueue.runner.loop.worker_loop:WorkerLoop._run_claim", 0),
    (
        "search after it, in vain",
        "fsqueue.runner.loop.worker_loop:WorkerLoop._next_claim_of_thread",
        0,
    ),
    ("linger", "fsqueue.runner.slots.thread_slots:ThreadSlots._linger", 0),
    ("wait for events, and read them", "fsqueue.spool.wakeups.watching:Watches._listen", 1),
    ("claim", "fsqueue.runner.loop.lingering:Lingering.claim", 1),
)
BLOCKING_CALLS = 300
CALLER = """
import bench_tasks
for number in range({calls}):
    if number in (100, {calls} - 1):
        bench_tasks.exists("/mark")
    bench_tasks.echo(number)
"""


class Clock:
    """Adds up the thread's CPU time in one function of fsqueue, which it replaces."""

    def __init__(self, name):
        module, _, path = name.partition(":")
        *owners, self._attribute = path.split(".")
        self._owner = __import__(module, fromlist=["_"])
        for owner in owners:
            self._owner = getattr(self._owner, owner)
        self.seconds = 0.0

    def __enter__(self):
        function = self._function = getattr(self._owner, self._attribute)

        def timed(*args, **kwargs):
            began = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.thread_time() - began

        setattr(self._owner, self._attribute, timed)
        return self

    def __exit__(self, *_):
        setattr(self._owner, self._attribute, self._function)


def started_worker(bench_tasks):
    """The loop of a worker that is registered and claims nothing by itself."""
    from fsqueue.runner.loop import worker_loop

    made, begin = [], worker_loop.WorkerLoop.__init__

    def note(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        made.append(self)

    worker_loop.WorkerLoop.__init__ = note
    runner = bench_tasks.app.make_runner(kind="thread", concurrency=1)
    thread = threading.Thread(target=runner.run)
    thread.start()
    bench_tasks.echo(None)
    runner.stop_runner_loop()
    thread.join()
    worker_loop.WorkerLoop.__init__ = begin
    (loop,) = made
    loop._worker.register()
    loop._stopping.why = ""
    loop._store.dependencies.watch()
    return loop


def round_of(loop, task):
    """Publish, run and collect a few calls."""
    invocations = [task(number) for number in range(CALLS)]
    claimed = 0
    while claimed < CALLS:
        claim = loop._claiming.next()
        if claim is None:
            loop._backlog.expire()
            continue
        claimed += 1
        loop._run_claim(claim)
    for invocation in invocations:
        invocation.get(60)


def measure(name, loop, task, rounds):
    """Least microseconds of a function for each call."""
    found = []
    for _ in range(rounds):
        with Clock(name) as clock:
            round_of(loop, task)
        found.append(clock.seconds)
    return 1e6 * min(found) / CALLS


def measure_blocking(name, bench_tasks):
    """Microseconds of a function, and of the slot's thread, for each call of another process."""
    marks, exists = [], os.path.exists
    with Clock(name) as clock:

        def mark(path):
            if path == "/mark":
                marks.append((clock.seconds, time.thread_time()))
            return exists(path)

        os.path.exists = mark
        runner = bench_tasks.app.make_runner(kind="thread", concurrency=1)
        thread = threading.Thread(target=runner.run)
        thread.start()
        caller = CALLER.format(calls=100 + BLOCKING_CALLS)
        subprocess.run([sys.executable, "-c", caller], cwd=HERE, check=True)
        runner.stop_runner_loop()
        thread.join()
        os.path.exists = exists
    return [1e6 * (after - before) / BLOCKING_CALLS for before, after in zip(*marks, strict=True)]


def least(action, times=1000, rounds=10):
    """Least microseconds of an action."""
    found = []
    for _ in range(rounds):
        began = time.thread_time()
        for _ in range(times):
            action()
        found.append(time.thread_time() - began)
    return 1e6 * min(found) / times


def system_calls(folder):
    """Microseconds of the system calls of one call: of publishing, running and collecting it."""
    data, new, old = b"x" * 400, f"{folder}/new", f"{folder}/old"

    def write(path):
        number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        os.fstat(number)
        os.write(number, data)
        os.close(number)

    def read(path):
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        os.fstat(number)
        os.read(number, 500)
        os.close(number)

    def call():
        write(new)
        os.rename(new, old)  # published
        os.utime(folder)
        os.rename(old, new)  # claimed
        read(new)
        write(f"{new}.tmp")
        os.link(f"{new}.tmp", old)
        os.unlink(f"{new}.tmp")
        os.unlink(new)  # answered
        read(old)
        os.unlink(old)  # collected

    return least(call)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=machine.memory_or_disk())
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory(dir=options.root) as folder:
        os.environ["FSQUEUE__ROOT"] = f"{folder}/spool"
        import bench_tasks

        loop = started_worker(bench_tasks)
        round_of(loop, bench_tasks.later)
        for label, name, level in STEPS:
            taken = measure(name, loop, bench_tasks.later, options.rounds)
            print(f"{'  ' * level + label:38} {taken:6.1f} us")
        loop._worker.deregister()
        print(f"{'system calls alone, of all three':38} {system_calls(folder):6.1f} us")
        print("one call of another process after another, of the time of the slot's thread:")
        for label, name, level in BLOCKING_STEPS:
            found = [measure_blocking(name, bench_tasks) for _ in range(3)]
            taken, whole = min(found, key=itemgetter(1))
            print(f"{'  ' * level + label:38} {taken:6.1f} of {whole:.1f} us")
        bench_tasks.app.close()


if __name__ == "__main__":
    main()
