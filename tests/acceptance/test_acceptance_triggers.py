"""Triggers with workers in processes of their own, some of which are killed."""

import json
import os
import signal
import sys
import time

from acceptance_harness import wait_until


def test_each_tick_once_while_workers_are_killed(site):
    marks = site.folder("ticks")

    def worker(kind):
        command = (sys.executable, "-m", "fsqueue", "worker", "timed:app", "--runner", kind)
        return site.start(*command, "--concurrency", "1", MARKS=marks.folder)

    def ticks():
        return sorted(int(name.partition(".")[0]) for name in os.listdir(marks.folder))

    workers = [worker("thread"), worker("process"), worker("thread")]
    for each in workers:
        each.wait_for_start()
    for each in workers[:2]:
        count = len(ticks())
        wait_until(lambda count=count: len(ticks()) >= count + 2, "two more ticks")
        each.signal(signal.SIGKILL)
        each.wait()
    count = len(ticks())
    wait_until(lambda: len(ticks()) >= count + 2, "two more ticks")

    def left_out():
        found = ticks()
        return set(range(found[0], found[-1])) - set(found)

    wait_until(lambda: not left_out(), lambda: f"those of killed workers: {left_out()}")
    workers[2].signal(signal.SIGTERM)
    assert workers[2].wait() == 0
    found = ticks()
    # A body that was killed has run again, as the same call. The last one may still be pending.
    assert len(found) == len(set(found))
    assert set(range(found[0], found[-1] + 1)) - set(found) <= set(found[-1:])


def test_commands(site):
    before = time.time()
    done = site.fsqueue("triggers", "--app", "timed:app", "--json")
    (row,) = json.loads(done.stdout)
    assert (row["task"], row["handled"]) == ("timed.tick", None)
    assert before <= row["next"] <= time.time() + 1
    done = site.fsqueue("emit", "paid", "--kwarg", "order=7", "--app", "timed:app")
    assert (done.returncode, done.stderr) == (0, "")
    assert site.files("events") == [f"paid.{done.stdout.strip()}"]
    for arguments in (("a b",), ("a", "--payload", "{"), ("a", "--app", "plain")):
        assert site.fsqueue("emit", "--app", "timed:app", *arguments).returncode == 2


def test_a_worker_leaves_whose_trigger_never_ends(site):
    marks = site.folder("marks")
    settings = {"MARKS": marks.folder, "FSQUEUE__STOP_GRACE": "0.2"}
    worker = site.start(sys.executable, "-m", "fsqueue", "worker", "stuck:app", **settings)
    worker.wait_for_start()
    site.fsqueue("emit", "paid", "--app", "stuck:app")
    wait_until(lambda: os.listdir(marks.folder) == ["begun"], "the predicate begins")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert site.names("workers") == []
    assert len(site.files("events")) == 1, "it waits for another one"
