"""The operations of a worker that stops, loses its folders, or finds another one silent.

`sweep_operations` has the rest.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from sweep import ARGUMENTS, LATE, Stage
from sweep_operations import Operation
from sweep_steps import check_as_before, dead_worker, with_another

from fsqueue.runner.loop.give_back import give_all_back
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.worker.liveness import Observer
from fsqueue.spool.worker.reaper import reap

if TYPE_CHECKING:
    from collections.abc import Container

LEASE = 30.0


def several_claims(stage: Stage) -> None:
    stage.take()
    assert stage.claim is not None
    progress = stage.layout.progress(AttemptName(stage.call.id, 1))
    stage.healthy.fs.make_folders(os.path.dirname(progress))
    with open(progress, "wb"):
        pass


def stop(stage: Stage) -> None:
    """As `Stopping.leave` does it; what it cannot give back is left to a reaper.

    Raises:
        OSError: it holds the call still.
    """
    give_all_back(stage.store, stage.worker)
    stage.worker.deregister()
    if os.path.isdir(stage.layout.running(stage.worker.name)):
        raise OSError("the call is left to a reaper")


def check_order(stage: Stage, contents: Container[bytes]) -> None:
    check_as_before(stage, contents)
    stage.others.append(stage.worker)
    stage.worker = stage.rescuer
    steps = [(step.verb, step.path) for step in stage.fs.trace]
    moved = [number for number, (_, path) in enumerate(steps) if "/running/" in path]
    cleaned = [number for number, (_, path) in enumerate(steps) if "/progress/" in path]
    assert min(moved) < min(cleaned), "a call waits to be moved while reports are removed"


def reap_silent(stage: Stage) -> None:
    """Another worker of this host is silent for the lease, though its process exists."""
    observer = Observer(stage.store, heartbeat=1.0, lease=LEASE)
    victim = stage.others[-1].name
    for _ in range(4):  # a fault makes an observation worthless, not the next one
        observer.discover(but=stage.worker.name)
        silent = observer.silent_here()
        if victim in silent or observer.records.get(victim) is None:  # or removed in part
            reap(stage.store, victim, "silent")
            return
        stage.fs.clock_offset += LEASE + 1.0
    raise AssertionError("it was never found")


def without_folders(stage: Stage) -> None:
    """A folder is gone that was made when the spool was opened."""
    shutil.rmtree(stage.layout.pending_folder)


def publish_again(stage: Stage) -> None:
    """Folders are made only after `check_spool`."""
    stage.store.publish(stage.call, [ARGUMENTS])


STOPS = (
    Operation("stop", with_another(several_claims), stop, retry="reaper", check=check_order),
    Operation("requeue-of-silent", with_another(dead_worker()), reap_silent),
    Operation(
        "reap-finished-of-silent",
        with_another(dead_worker(outcome=True)),
        reap_silent,
        contents=frozenset({LATE}),
    ),
    Operation(
        "publish-without-folders",
        without_folders,
        publish_again,
        attempts=1,
        accepted=False,
        refuses=True,
    ),
)
