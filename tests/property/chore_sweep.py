"""Coming, going and cleaning up, for the sweep of every call.

What these leave behind is no call, so the question is another one: the process works on after an
error, and once everybody is dead the next clean-up leaves nothing.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from every_call import Swept
from fact_operations import FACTS
from gone_caller_operations import clear_up, late_result, with_uncollected_result
from sweep import (
    ARGUMENTS,
    CLIENT,
    ID,
    LATE,
    LOCAL,
    QUEUE,
    REMOTE,
    RESULT_TTL,
    Stage,
    work,
    worker_of,
)
from sweep_operations import Operation
from sweep_steps import KEY, present_client, publish_by_client, with_another

from fsqueue.spool.features.body_reports import Progress, drop_progress, write_progress
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.spool.worker.expiry import expire, remove_gone_clients
from fsqueue.spool.worker.reaper import reap
from fsqueue.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from sweep import Mount

    from fsqueue.testing import Operation as Call

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
    stage.worker.forget(stage.claim)


def folders_gone(stage: Stage) -> None:
    """As when the root comes back without them: the worker registers again, after `check_spool`."""
    shutil.rmtree(stage.layout.running_folder)


def workers_gone(stage: Stage) -> None:
    shutil.rmtree(stage.layout.workers_folder)
    shutil.rmtree(stage.layout.tmp_folder)


def much_to_clean_up(stage: Stage) -> None:
    stage.publish_outcome(1, LATE)
    assert stage.healthy.withdraw(
        stage.healthy.deduplication.publish(KEY, stage.call, [ARGUMENTS]).path
    )
    os.utime(stage.layout.once_entry(KEY.name, 1), (OLD, OLD), follow_symlinks=False)
    for path in (
        *("failed/client0001-7.1", "quarantine/x", "quarantine/x.reason", "tmp/gone.7"),
        *("output/client0001-7.1", "progress/client0001-7.1"),
    ):
        leave_file(f"{stage.root}/{path}")
    old_hour = "journal/2001-01-01T00"
    os.mkdir(f"{stage.root}/{old_hour}")
    for path in (
        *(f"clients/{CLIENT}.lock", f"clients/{CLIENT}.json", f"bell/{CLIENT}"),
        *("journal/latest.json", f"{old_hour}/w.gauges", f"{old_hour}/w.sums"),
    ):
        leave_file(f"{stage.root}/{path}")
    stage.fs.make_folders(stage.layout.kept_mailbox(CLIENT))
    os.utime(stage.layout.done(ID), (OLD, OLD), follow_symlinks=False)


def leave_file(path: str) -> None:
    with open(path, "w", encoding="ascii"):
        pass
    os.utime(path, (OLD, OLD), follow_symlinks=False)


def empty_slot(stage: Stage) -> None:
    stage.publish(age=60.0)
    assert stage.store.withdraw(stage.origin)


def report_once(stage: Stage) -> None:
    say(stage, 1)


def report_again(stage: Stage) -> None:
    say(stage, 2)
    drop_progress(stage.store.files, AttemptName(ID, 1))


def say(stage: Stage, done: int) -> None:
    """As a body's worker does it: each step can be repeated."""
    name = AttemptName(ID, 1)
    write_progress(stage.store.files, name, Progress(done, 2))
    for start in range(done):
        stage.fs.extend(stage.layout.output(name), 5 * start, b"line\n")


def check_presence(stage: Stage, _: Container[bytes]) -> None:
    assert stage.client._lock is not None, "others will take it for gone"


OPERATIONS = (
    Operation("register", lambda _: None, register),
    Operation("register-afresh", taken_for_dead, lambda stage: stage.worker.keep_alive()),
    Operation("register-without-folders", folders_gone, lambda stage: stage.worker.keep_alive()),
    Operation("enlist-again", with_another(workers_gone), lambda stage: stage.worker.keep_alive()),
    Operation("beat", lambda _: None, lambda stage: stage.worker.keep_alive()),
    Operation("leave", lambda _: None, lambda stage: stage.worker.deregister()),
    Operation("appear", lambda _: None, present_client, check=check_presence),
    Operation("close", present_client, lambda stage: stage.client.close()),
    Operation("close-with-late-result", late_result, lambda stage: stage.client.close()),
    Operation("sync-clock", lambda _: None, lambda stage: stage.store.files.sync_clock()),
    Operation(
        "expire",
        with_another(much_to_clean_up),
        lambda stage: expire(stage.store, result_ttl=RESULT_TTL),
    ),
    Operation("report", report_once, report_again),
    Operation("clear-up-after-gone-caller", with_uncollected_result, clear_up),
    Operation("remove-slot", empty_slot, lambda stage: FolderBacklog(stage.store, QUEUE).next()),
)


@dataclass(frozen=True)
class Chore(Swept):
    operation: Operation
    mounts: tuple[Mount, ...] = (LOCAL, REMOTE)

    def __str__(self) -> str:
        return self.operation.name

    def begin(self, root: str, mount: Mount) -> Stage:
        stage = Stage(root, mount)
        self.operation.prepare(stage)
        return stage

    def run(self, state: Stage, *faults: Fault) -> Sequence[Call]:
        state.inject(*faults)
        self.operation.run(state)
        return list(state.fs.trace)

    def survive(self, state: Stage, fault: Fault, step: Call) -> None:
        """Upkeep does what failed once more at its next round."""
        state.inject(fault)
        for _ in range(2):
            try:
                self.operation.run(state)
            except OSError:
                continue
            if step.verb != "lock":  # one that cannot be had is done without
                self.operation.check(state, self.operation.contents)
            return
        pytest.fail(f"it fails without a fault: {state.fs.trace}")

    def finish(self, state: Stage, *, dead: bool) -> None:
        if not dead:
            state.inject()
            if self.operation.name not in {
                "leave",
                "close",
                "close-with-late-result",
                "close-after-cancelling",
                "close-after-sleep",
            }:
                check_that_it_works_on(state)
        assert state.forsake() == []

    def leaves_as_new(self, state: Stage) -> bool:
        return state.is_as_new()


def check_that_it_works_on(stage: Stage) -> None:
    publish_by_client(stage)
    stage.worker.keep_alive()
    if stage.client._lock is not None:
        remove_gone_clients(stage.healthy)
        assert os.path.isdir(stage.layout.mailbox(CLIENT)), "a living client was taken for gone"
    work(stage.store, stage.worker)
    assert stage.places() == []
    assert stage.store.outcomes.collect(ID, keep=True) is not None


CHORES = tuple(map(Chore, (*OPERATIONS, *FACTS)))
