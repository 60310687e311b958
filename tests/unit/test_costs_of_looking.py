"""A look costs the same with any backlog and number of workers, and writes nothing (P10, P12)."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile

import msgspec
import pytest
from crowd import add_calls, add_workers, write_ahead
from spool_pair import opened_pair

from fsqueue.config import load_config
from fsqueue.runner.loop.lookout import Lookout
from fsqueue.spool.admin.census import ONE_LOOK
from fsqueue.spool.admin.glance import Glance, Looks
from fsqueue.spool.admin.listing import call_details
from fsqueue.spool.format.names import Slot
from fsqueue.spool.format.states import State
from fsqueue.spool.store.open_spool import open_store
from fsqueue.testing import FaultyFilesystem

MOST = 80
PER_WORKER = 4
READING = {"read", "listdir", "stat", "fstat", "statvfs"}


class Million(FaultyFilesystem):
    """Shows a thousand names in each slot that holds one: ten to a hundred files stand for all."""

    def names(self, path, **options):
        found = super().names(path, **options)
        if found and Slot.parse(os.path.basename(path)):
            client, _, number = found[0].partition(".")[0].rpartition("-")
            return [f"{client}-{int(number) + each}.1" for each in range(1000)]
        return found


BACKLOGS = {100: (1, 100), 10**4: (10, 1), 10**6: (1000, 1)}
SIZES = list(itertools.product(BACKLOGS, (1, 200)))


@pytest.fixture(scope="module", params=["counted by a worker", "no worker counts"])
def spools(request):
    """A spool of each size; a file system that shows it, and whether a worker has counted it."""
    found = {}
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    watched = request.param == "counted by a worker"
    for pending, workers in SIZES:
        root = f"{folder}/{pending}-{workers}"
        with opened_pair(root) as pair:
            add_workers(pair.store, workers)
            add_calls(pair.store, *BACKLOGS[pending])
            fs = Million() if pending > 100 else FaultyFilesystem()
            if watched:
                store = open_store(root, fs)
                store.files.sync_clock()
                lookout = Lookout(store, pair.worker, load_config({"root": root}))
                for _ in range(6 + BACKLOGS[pending][0] // 50):  # some of it each time
                    lookout.watch()
                    fs.clock_offset += 100
                fs.clock_offset = 0.0
                latest = msgspec.json.decode(fs.read(store.layout.latest), type=Glance)
                write_ahead(store, latest)
        found[pending, workers] = root, fs
    yield found, watched
    shutil.rmtree(folder)


def looking(root, fs):
    fs.inject()
    store = open_store(root, fs, look=True)
    return store, Looks(store, heartbeat=2.0, result_ttl=1e6)


def cost(fs):
    assert {operation.verb for operation in fs.trace} <= READING
    return fs.count()


def test_status_costs_at_most_80_operations(spools):
    found, watched = spools
    costs = {}
    for (pending, workers), (root, fs) in found.items():
        _, looks = looking(root, fs)
        glance = looks.look()
        costs[pending, workers] = cost(fs)
        assert len(glance.snapshot.workers) >= workers
        (queue,) = glance.snapshot.queues
        assert queue.exact or not watched
        assert queue.due == pending
    assert max(costs.values()) <= MOST, costs
    if watched:
        assert len(set(costs.values())) == 1, costs
    else:  # a listing for each slot and a few steps for each worker, up to the bounds of a look
        least = costs[100, 1]
        for (pending, workers), made in costs.items():
            slots = min(BACKLOGS[pending][0], ONE_LOOK.slots)
            rows = min(workers, ONE_LOOK.workers)
            assert made == least + (slots - 1) + PER_WORKER * (rows - 1), (pending, workers, costs)


@pytest.mark.parametrize("where", ["pending", "running"])
def test_show_costs_at_most_80_operations(spools, where):
    found, watched = spools
    costs = {}
    for (pending, workers), (root, fs) in found.items():
        slots = BACKLOGS[pending][0]
        # In the middle. Without a worker that counts, a call that runs is found among few workers.
        number = slots * 7 // 10 * 1000
        wanted = f"abcd-{number}" if where == "pending" else f"efgh-{watched * workers // 2}"
        store, looks = looking(root, fs)
        details = call_details(store, wanted, glance=looks.look())
        assert details.state is (State.PENDING if where == "pending" else State.RUNNING)
        assert details.path.endswith(f"{wanted}.1")
        costs[pending, workers] = cost(fs)
    assert max(costs.values()) <= MOST, costs
    if watched:
        assert max(costs.values()) <= 1.1 * min(costs.values()), costs


def test_each_look_of_one_process_costs_at_most_80_operations(spools):
    """For `top`: looks again and again, and learns more each time."""
    found, watched = spools
    costs = {}
    for size, (root, fs) in found.items():
        store, looks = looking(root, fs)
        for number in range(6):
            before = fs.count()
            store.fs.clock_offset += 2.5  # folders that have just changed are settled then
            looks.look()
            costs[*size, number] = fs.count() - before
        fs.clock_offset = 0.0
    assert max(costs.values()) <= MOST, costs
    if watched:
        assert max(costs.values()) <= 1.1 * min(costs.values()), costs
