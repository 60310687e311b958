"""What holds right after a fault, and what holds in the end, whatever the operation was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import read_record
from sweep import BODY, CLIENT, ID, Stage, outcome_of, work

from fsqueue.spool.worker.reaper import reap

if TYPE_CHECKING:
    from sweep_operations import Operation

OUTCOMES = (f"done/{CLIENT}/{ID}", f"kept/{CLIENT}/{ID}")


def check_at_once(stage: Stage, operation: Operation, *, accepted: bool) -> None:
    """Right after the fault, before anybody recovers anything."""
    places = stage.places()
    stage.seen = stage.content()
    assert len(places) <= 1, places
    if accepted and stage.seen is None and not operation.consumes:
        assert len(places) == 1, f"lost: {stage.files()}"


def run_with_fault(stage: Stage, operation: Operation, *, tries: int = 2) -> tuple[bool, bool]:
    """Run and, if it fails, do what the runner does; returns (accepted, whether it dies then)."""
    accepted = operation.accepted or operation.refuses
    for _ in range(tries):
        try:
            stage.returned = operation.run(stage)
        except FileNotFoundError:
            pytest.fail(f"it looks as if the claim was lost: {stage.fs.trace}")
        except OSError:
            check_at_once(stage, operation, accepted=operation.accepted)
            if operation.retry == "reaper":
                return operation.accepted, True
            if operation.retry == "work":
                return accepted, False
            if operation.refuses and tries == 2:
                assert stage.places() == [], "a call that was not accepted is pending"
        else:
            operation.check(stage, operation.contents)
            return accepted, False
    pytest.fail(f"it fails without a fault: {stage.fs.trace}")


def finish_what_is_held(stage: Stage, operation: Operation) -> None:
    """A runner completes the claims that it knows of."""
    if operation.retry == "work" and stage.worker.claims:
        (claim,) = stage.worker.claims
        assert stage.worker.release(claim)
        stage.store.endings.complete(claim, outcome_of(stage.store, claim.name), [BODY])
        stage.worker.forget(claim)


def recover(stage: Stage, *, dead: bool) -> None:
    """What other processes do, and this one's worker if it lives."""
    if not dead:
        stage.worker.keep_alive()
        work(stage.store, stage.worker)
        assert stage.places() == [], "a living worker holds it and does not know"
        return
    for worker in (stage.worker, *stage.others):
        reap(stage.healthy, worker.name, "killed")
    work(stage.healthy, stage.rescuer)


def check_in_the_end(
    stage: Stage, operation: Operation, *, accepted: bool, temporaries: int = 1
) -> None:
    files = stage.files()
    assert stage.places() == []
    outcomes = [path for path in files if path.startswith(("done/", "kept/"))]
    if not operation.keeps:
        assert [path for path in outcomes if path.startswith("kept/")] == []
    if accepted and not operation.consumes:
        assert outcomes, "no outcome"
    if outcomes:
        # The client died between giving it a second name and removing the first.
        same = len({read_record(f"{stage.root}/{path}") for path in outcomes}) == 1
        both = [list(OUTCOMES)] if operation.late or (operation.keeps and same) else []
        assert sorted(outcomes) in ([OUTCOMES[0]], [OUTCOMES[1]], *both)
        _check_outcome(stage, operation)
    known = ("spool.json", "tmp/", "done/", "kept/", "failed/", "quarantine/", "workers/")
    known = (*known, f"clients/{CLIENT}.lock", f"cancel/{ID}", "once/", "cache/", f"cuts/{ID}")
    known = (*known, f"progress/{ID}.1", f"clients/{CLIENT}.json")
    assert [path for path in files if not path.startswith(known)] == []
    most = temporaries * operation.temporaries
    assert len([path for path in files if path.startswith("tmp/")]) <= most
    _check_quarantine(files)
    _check_workers(stage, files)
    assert stage.forsake() == [], "left for ever"


def _check_outcome(stage: Stage, operation: Operation) -> None:
    content = stage.content()
    assert content in operation.contents
    if stage.seen is not None:
        assert content == stage.seen, "the outcome was replaced"
    keep = stage.healthy.outcomes.is_kept(ID)
    data = stage.healthy.outcomes.collect(ID, keep=keep)
    assert data is not None
    outcome, payload = stage.healthy.outcomes.read(ID, data)
    assert payload.data == content
    assert outcome.attempt <= operation.attempts
    again = stage.healthy.outcomes.collect(ID, keep=keep)
    assert again == (data if keep else None), "a second outcome"


def _check_quarantine(files: list[str]) -> None:
    names = {path for path in files if path.startswith("quarantine/")}
    calls = {name for name in names if not name.endswith(".reason")}
    assert {f"{name}.reason" for name in calls} <= names, "nobody knows why it is in quarantine"


def _check_workers(stage: Stage, files: list[str]) -> None:
    alive = {worker.name for worker in stage.workers() if worker not in stage.others}
    left = {path.split("/")[1].rpartition(".")[0] for path in files if path.startswith("workers/")}
    assert left <= alive, "files of a dead worker"
