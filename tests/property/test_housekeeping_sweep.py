"""Coming, going and cleaning up, ended and failed at every filesystem call.

What these leave behind is no invocation, so the question is another one: the process works on
after an error, and once everybody is dead the next clean-up leaves nothing.
"""

from __future__ import annotations

import errno
import itertools
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from gone_caller_operations import clear_up, with_uncollected_result
from slim import in_slim_process
from sweep import (
    ARGUMENTS,
    CLIENT,
    ID,
    LATE,
    LOCAL,
    NO_LINKS,
    QUEUE,
    REMOTE,
    RESULT_TTL,
    Stage,
    deaths,
    in_child,
    work,
    worker_of,
)
from sweep_checks import dying_stages, stages
from sweep_operations import KEY, Operation, collect, delivered, present_client, publish_by_client

from fsqueue.errors import SpoolError
from fsqueue.spool.backlog import Backlog
from fsqueue.spool.expiry import expire, remove_gone_clients
from fsqueue.spool.liveness import Observer
from fsqueue.spool.names import AttemptName
from fsqueue.spool.opening import open_store
from fsqueue.spool.reaper import reap
from fsqueue.spool.reports import Progress, drop_progress, write_progress
from fsqueue.spool.store import Store
from fsqueue.testing import CRASH_STATUS, Fault, FaultyFilesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Container

OLD = 1.0


def register(stage: Stage) -> None:
    worker = worker_of(stage.store)
    stage.worker, former = worker, stage.worker
    stage.others.append(former)


def taken_for_dead(stage: Stage) -> None:
    stage.publish()
    stage.claim = stage.worker.claim(stage.origin)
    reap(stage.healthy, stage.worker.name, "silent")
    work(stage.healthy, stage.rescuer)
    assert stage.worker.release(stage.claim)
    stage.worker.forget(stage.claim.name)


def much_to_clean_up(stage: Stage) -> None:
    stage.publish_outcome(1, LATE)
    assert stage.healthy.withdraw(stage.healthy.publish_once(KEY, stage.call, [ARGUMENTS]).path)
    os.utime(stage.layout.once_entry(KEY.name, 1), (OLD, OLD))
    for path in (
        *("failed/client0001-7.1", "quarantine/x", "quarantine/x.reason", "tmp/gone.7"),
        *("output/client0001-7.1", "progress/client0001-7.1"),
    ):
        leave_file(f"{stage.root}/{path}")
    for path in (f"clients/{CLIENT}.lock", f"bell/{CLIENT}"):
        leave_file(f"{stage.root}/{path}")
    stage.fs.make_folders(stage.layout.kept_mailbox(CLIENT))
    os.utime(stage.layout.done(ID), (OLD, OLD))


def leave_file(path: str) -> None:
    with open(path, "w", encoding="ascii"):
        pass
    os.utime(path, (OLD, OLD))


def empty_slot(stage: Stage) -> None:
    stage.publish(age=60.0)
    assert stage.store.withdraw(stage.origin)


def report_once(stage: Stage) -> None:
    say(stage, 1)


def report_again(stage: Stage) -> None:
    say(stage, 2)
    drop_progress(stage.store, AttemptName(ID, 1))


def say(stage: Stage, done: int) -> None:
    """As a body's worker does it: each step can be repeated."""
    name = AttemptName(ID, 1)
    write_progress(stage.store, name, Progress(done, 2))
    for start in range(done):
        stage.fs.extend(stage.layout.output(name), 5 * start, b"line\n")


def check_presence(stage: Stage, _: Container[bytes]) -> None:
    assert stage.client._lock is not None, "others will take it for gone"


CHORES = (
    Operation("register", lambda _: None, register),
    Operation("register-afresh", taken_for_dead, lambda stage: stage.worker.keep_alive()),
    Operation("beat", lambda _: None, lambda stage: stage.worker.keep_alive()),
    Operation("leave", lambda _: None, lambda stage: stage.worker.deregister()),
    Operation("appear", lambda _: None, present_client, check=check_presence),
    Operation("close", present_client, lambda stage: stage.client.close()),
    Operation("sync-clock", lambda _: None, lambda stage: stage.store.sync_clock()),
    Operation("expire", much_to_clean_up, lambda stage: expire(stage.store, result_ttl=RESULT_TTL)),
    Operation("report", report_once, report_again),
    Operation("clear-up-after-gone-caller", with_uncollected_result, clear_up),
    Operation("remove-slot", empty_slot, lambda stage: Backlog(stage.store, QUEUE).next()),
)


@pytest.mark.parametrize("mount", [LOCAL, REMOTE], ids=str)
@pytest.mark.parametrize("chore", CHORES, ids=str)
@in_slim_process
def test_the_process_dies_at_every_call_of_a_chore(folder, chore, mount):
    for death, stage in dying_stages(folder, chore, mount):
        assert in_child(lambda: chore.run(stage)) == CRASH_STATUS, death  # noqa: B023
        assert stage.forsake() == [], death


FAULTS = {
    **{
        errno.errorcode[code]: lambda number, code=code: Fault.fail(code, at=number)
        for code in (errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EACCES)
    },
    "lost": lambda number: Fault.lost_reply(at=number),
    "done-and-EIO": lambda number: Fault.lost_reply(at=number, code=errno.EIO),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("chore", CHORES, ids=str)
def test_every_call_of_a_chore_fails_once(folder, chore, fault):
    for number, step, stage in stages(folder, chore):
        stage.inject(fault(number))
        # A lock that cannot be had is done without.
        repeat(replace(chore, check=lambda *_: None) if step.verb == "lock" else chore, stage)
        stage.inject()
        if chore.name not in {"leave", "close"}:
            check_that_it_works_on(stage)
        assert stage.forsake() == [], (number, step)


def repeat(chore: Operation, stage: Stage) -> None:
    """Upkeep does what failed once more at its next round."""
    for _ in range(2):
        try:
            chore.run(stage)
        except OSError:
            continue
        chore.check(stage, chore.contents)
        return
    pytest.fail(f"it fails without a fault: {stage.fs.trace}")


def check_that_it_works_on(stage: Stage) -> None:
    publish_by_client(stage)
    stage.worker.keep_alive()
    if stage.client._lock is not None:
        remove_gone_clients(stage.healthy)
        assert os.path.isdir(stage.layout.mailbox(CLIENT)), "a living client was taken for gone"
    work(stage.store, stage.worker)
    assert stage.places() == []
    assert stage.store.collect(ID, keep=True) is not None


# -- a new spool ------------------------------------------------------------------------------


def opening_calls(folder: str, habits: tuple[Fault, ...]) -> int:
    fs = FaultyFilesystem(habits)
    open_store(f"{folder}/dry", fs)
    return len(fs.trace)


def check_opened(root: str) -> None:
    """Whoever comes next finds one spool, which works, and nothing that stays."""
    info = open_store(root).info
    stage = Stage(root)
    assert stage.store.info == info
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
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_every_call_that_opens_a_spool_fails_once(folder, fault, mount):
    for number in range(1, opening_calls(folder, mount.habits) + 1):
        root = f"{folder}/{number}"
        fs = FaultyFilesystem((fault(number), *mount.habits))
        try:
            info = open_store(root, fs).info
        except SpoolError:
            info = open_store(root, fs).info
        assert open_store(root).info == info
        check_opened(root)


# -- how the dead are found -------------------------------------------------------------------


def calls_of(run: Callable[[], object], fs: FaultyFilesystem) -> int:
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

    for death in deaths(calls_of(come_and_go, fs)):
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
    patient = Observer(Store(fs, store.layout, store.info), heartbeat=1.0, lease=30.0)
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
        for path in ("clients/client0001.lock", "bell/client0001", "failed/client0001-7.1"):
            with open(f"{root}/{path}", "w", encoding="ascii"):
                pass
        for path in (f"done/{CLIENT}/{ID}", "failed/client0001-7.1"):
            os.utime(f"{root}/{path}", (1.0, 1.0))
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
    operation = Operation("collect", delivered, collect(keep=keep))
    for death, stage in dying_stages(folder, operation):
        assert in_child(lambda: operation.run(stage)) == CRASH_STATUS, death  # noqa: B023
        kept = [path for path in stage.files() if path.startswith(("done/", "kept/"))]
        assert len(kept) == 1 or (not keep and not kept)
        assert stage.content() == (LATE if kept else None)
