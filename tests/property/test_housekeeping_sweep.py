"""Making a spool, finding the dead and cleaning up, ended and failed at every filesystem call."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest
from chore_sweep import check_that_it_works_on
from dying import in_child
from every_call import FAULTS, calls_of, share_of, states
from move_sweep import Move
from slim import in_slim_process
from support import open_store
from sweep import CLIENT, ID, LATE, LOCAL, NO_LINKS, Stage, deaths, worker_of
from sweep_operations import Operation
from sweep_steps import collect, delivered

from fsqueue.errors import SpoolError
from fsqueue.spool.files.files import Files
from fsqueue.spool.store.store import Store
from fsqueue.spool.worker.expiry import expire
from fsqueue.spool.worker.liveness import Observer
from fsqueue.spool.worker.reaper import reap
from fsqueue.testing import CRASH_STATUS, Fault, FaultyFilesystem

if TYPE_CHECKING:
    from collections.abc import Callable

# -- a new spool ------------------------------------------------------------------------------


def opening_calls(folder: str, habits: tuple[Fault, ...]) -> int:
    fs = FaultyFilesystem(habits)
    open_store(f"{folder}/dry", fs)
    return len(fs.trace)


def check_opened(root: str) -> None:
    """Whoever comes next finds one spool, which works, and nothing that stays."""
    info = open_store(root).files.info
    stage = Stage(root)
    assert stage.store.files.info == info
    check_that_it_works_on(stage)
    assert stage.forsake() == []


@pytest.mark.parametrize("mount", [LOCAL, NO_LINKS], ids=str)
@in_slim_process
def test_a_creator_of_a_spool_dies_at_every_call(folder, mount):
    for number, death in enumerate(deaths(opening_calls(folder, mount.habits))):
        root = f"{folder}/{number}"
        fs = FaultyFilesystem((death, *mount.habits))
        assert in_child(lambda: open_store(root, fs)) == CRASH_STATUS  # noqa: B023
        check_opened(root)


@pytest.mark.parametrize("mount", [LOCAL, NO_LINKS], ids=str)
def test_every_call_that_opens_a_spool_fails_once(folder, mount):
    calls = range(1, opening_calls(folder, mount.habits) + 1)
    for number, fault in [(at, each) for at in calls for each in share_of(at, list(FAULTS))]:
        root = f"{folder}/{number}-{fault}"
        fs = FaultyFilesystem((FAULTS[fault](number), *mount.habits))
        try:
            info = open_store(root, fs).files.info
        except SpoolError:
            info = open_store(root, fs).files.info
        assert open_store(root).files.info == info
        check_opened(root)


# -- how the dead are found -------------------------------------------------------------------


def count_of(run: Callable[[], object], fs: FaultyFilesystem) -> int:
    fs.inject()
    run()
    return len(fs.trace)


@in_slim_process
def test_a_worker_that_dies_while_it_registers_or_leaves_is_removed(folder):
    fs = FaultyFilesystem()
    store = open_store(folder, fs)
    healthy = open_store(folder)

    def come_and_go() -> None:
        worker = worker_of(store)
        worker.deregister()

    for death in deaths(count_of(come_and_go, fs)):
        fs.inject(death)
        assert in_child(come_and_go) == CRASH_STATUS
        observer = Observer(healthy, heartbeat=1.0, lease=30.0)
        observer.discover()
        left = {*observer.dead_here(), *_advance(healthy, observer)}
        for worker in left:
            reap(healthy, worker, "killed")
        assert os.listdir(f"{folder}/workers") == [], f"{death}: {fs.trace}"
        assert os.listdir(f"{folder}/running") == []


def _advance(store: Store, observer: Observer) -> dict[str, str]:
    """Those who are silent for a lease, by an observer that has a clock to turn."""
    fs = FaultyFilesystem()
    patient = Observer(Store(Files(fs, store.layout, store.files.info)), heartbeat=1.0, lease=30.0)
    patient.discover()
    patient.dead_elsewhere()
    fs.clock_offset += 31.0
    return patient.dead_elsewhere()


@in_slim_process
def test_expiry_goes_on_where_it_died(folder):
    for number in itertools.count():
        root = f"{folder}/{number}"
        stage = Stage(root)
        stage.publish_outcome(1, LATE)
        old = ("failed/client0001-7.1", "clients/client0001.json", "journal/latest.json")
        for path in ("clients/client0001.lock", "bell/client0001", *old):
            with open(f"{root}/{path}", "w", encoding="ascii"):
                pass
        for path in (f"done/{CLIENT}/{ID}", *old):
            os.utime(f"{root}/{path}", (1.0, 1.0), follow_symlinks=False)
        stage.inject(Fault.crash(after=number > 0, at=max(1, number)))
        status = in_child(lambda: expire(stage.store, result_ttl=60.0))  # noqa: B023
        expire(stage.healthy, result_ttl=60.0)
        left = [path for path in stage.files() if not path.startswith(("workers/", "spool.json"))]
        stage.close()
        assert left == [], number
        if status == 0:
            break
        assert status == CRASH_STATUS
    assert number > 10


@pytest.mark.parametrize("keep", [False, True])
@in_slim_process
def test_a_client_that_dies_while_it_collects_leaves_one_outcome_or_none(folder, keep):
    move = Move(Operation("collect", delivered, collect(keep=keep)))
    every = deaths(len(calls_of(folder, move)))
    for death, state in zip(every, states(folder, move), strict=False):
        stage = state.stage
        assert in_child(lambda: move.run(state, death)) == CRASH_STATUS  # noqa: B023
        kept = [path for path in stage.files() if path.startswith(("done/", "kept/"))]
        assert len(kept) == 1 or (not keep and not kept)
        assert stage.content() == (LATE if kept else None)
