"""The operations on a direct call whose caller is gone; `sweep_operations` has the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs
from support import publish_call
from sweep import (
    ARGUMENTS,
    BODY,
    CLIENT,
    ID,
    MAX_ATTEMPTS,
    QUEUE,
    Stage,
    call_of,
    outcome_of,
    work,
    worker_of,
)
from sweep_operations import Operation
from sweep_steps import check_nothing_left, reap_other, run_body

from fsqueue.spool.disk.identity import this_process
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.worker.distant_callers import DistantCallers
from fsqueue.spool.worker.gone_callers import clear_up_after

if TYPE_CHECKING:
    from collections.abc import Callable

# Another process has its number by now.
GONE = this_process()._replace(start="0")


def publish(stage: Stage, *, attempt: int = 1) -> None:
    stage.call = structs.replace(call_of(stage.store, keep=False), caller=GONE)
    path = stage.healthy.publish(stage.call, [ARGUMENTS])
    stage.origin = path.removesuffix(".1") + f".{attempt}"
    stage.healthy.fs.rename(path, stage.origin)


def claimed(stage: Stage) -> None:
    publish(stage)
    stage.claim = stage.worker.claim(stage.origin)


def held_by_dead_worker(attempt: int) -> Callable[[Stage], object]:
    def prepare(stage: Stage) -> None:
        stage.others.append(worker_of(stage.healthy))
        publish(stage, attempt=attempt)
        assert stage.others[-1].claim(stage.origin) is not None

    return prepare


def held_unknowingly(stage: Stage) -> None:
    publish(stage)
    held = f"{stage.layout.running(stage.worker.name)}/{ID}.1"
    stage.healthy.fs.rename(stage.origin, held)


def with_uncollected_result(stage: Stage) -> None:
    stage.healthy.fs.make_folders(stage.layout.kept_mailbox(CLIENT))
    outcome = structs.replace(outcome_of(stage.healthy, AttemptName(ID, 1)), caller=GONE)
    assert stage.healthy.outcomes.publish(outcome, [b"nobody can receive it"])


def late_result(stage: Stage) -> None:
    """A call of a living caller has ended again, after the first outcome was collected."""
    publish_call(
        stage.client, ID, "tasks.f", QUEUE, [ARGUMENTS], max_attempts=MAX_ATTEMPTS, keep=False
    )
    work(stage.healthy, stage.worker)
    assert stage.healthy.outcomes.collect(ID, keep=False) is not None
    outcome = structs.replace(outcome_of(stage.healthy, AttemptName(ID, 1)), caller=this_process())
    assert stage.healthy.outcomes.publish(outcome, [b"late"])


def distant(stage: Stage) -> None:
    stage.call = structs.replace(
        call_of(stage.store, keep=False), caller=GONE._replace(boot="another host")
    )
    stage.origin = stage.healthy.publish(stage.call, [ARGUMENTS])
    stage.healthy.fs.make_folders(stage.layout.kept_mailbox(CLIENT))


def withdraw_distant(stage: Stage) -> None:
    observer = DistantCallers(stage.store, lease=0.0)
    lock = stage.healthy.fs.lock(stage.layout.client_lock(CLIENT))
    assert lock is not None
    try:
        observer.round()
    finally:
        lock.release()
    observer.round()


def never_run(a: int, b: int) -> None:
    raise AssertionError(f"the body runs with {a} and {b}, and nobody can receive its result")


def clear_up(stage: Stage) -> None:
    clear_up_after(stage.store, CLIENT)


_NO_OUTCOME: dict[str, object] = {"contents": frozenset(), "consumes": True}
GONE_CALLERS = (
    Operation(
        "withdraw-of-gone-caller",
        claimed,
        run_body(never_run),
        check=check_nothing_left,
        **_NO_OUTCOME,
    ),
    Operation(
        "reap-of-gone-caller",
        held_by_dead_worker(1),
        reap_other,
        check=check_nothing_left,
        **_NO_OUTCOME,
    ),
    Operation(
        "lose-of-gone-caller",
        held_by_dead_worker(MAX_ATTEMPTS),
        reap_other,
        attempts=MAX_ATTEMPTS,
        check=check_nothing_left,
        **_NO_OUTCOME,
    ),
    Operation(
        "return-stray-of-gone-caller",
        held_unknowingly,
        lambda stage: stage.worker.keep_alive(),
        **_NO_OUTCOME,
    ),
    Operation(
        "withdraw-of-distant-caller",
        distant,
        withdraw_distant,
        contents=frozenset({b"", BODY}),
    ),
)
