"""Calls that take turns, while their workers are killed."""

from __future__ import annotations

import os
import random
import signal

from acceptance_harness import wait_until

CALLS = 200
LIMIT = 2
KILLS = 4


def test_no_more_than_the_limit_run_and_all_run_while_workers_are_killed(site, kind):
    marks = site.folder("visits")
    workers = [site.worker(kind, 3, FSQUEUE__HEARTBEAT="0.2") for _ in range(2)]
    for worker in workers:
        worker.wait_for_start()
    group = site.tasks.visit.parallelize([(marks.folder, n) for n in range(CALLS)])

    choice = random.Random(kind)
    for number in range(1, KILLS + 1):
        wait_until(
            lambda n=number: len(site.files("done")) >= n * CALLS // (2 * KILLS), "calls are done"
        )
        victim = workers.pop(choice.randrange(2))
        victim.signal(signal.SIGKILL)
        workers.append(site.worker(kind, 3, FSQUEUE__HEARTBEAT="0.2"))
        workers[-1].wait_for_start()

    inside = group.get(timeout=60)
    assert len(inside) == CALLS
    assert max(inside) <= LIMIT
    wait_until(lambda: os.listdir(site.root / "lanes") == [], "no place is held, no call waits")
