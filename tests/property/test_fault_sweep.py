"""Every operation of the protocol, failed at every one of its filesystem calls.

The call fails and has done nothing, or it is done and its answer lost; the process lives on and
does what the runner does about an error.
"""

from __future__ import annotations

import errno
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from gone_caller_operations import GONE_CALLERS
from parked_operations import PARKED
from slim import in_slim_process
from sweep import EMPTY, LOCAL, NO_LINKS, REMOTE, in_child
from sweep_checks import (
    check_at_once,
    check_in_the_end,
    finish_what_is_held,
    fresh_stages,
    recover,
    run_with_fault,
    stages,
    steps,
)
from sweep_operations import OPERATIONS

from fsqueue.testing import CRASH_STATUS, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from sweep import Mount, Stage
    from sweep_operations import Operation

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EACCES)
CHANGES = frozenset({"create", "write", "close", "rename", "link", "unlink", "mkdir", "rmdir"})
PAIRS = 12


class _Or:
    def __init__(self, *containers: object) -> None:
        self._containers = containers

    def __contains__(self, content: bytes) -> bool:
        return any(content in container for container in self._containers)


def sweep_of_faults(
    folder: str, operation: Operation, fault: Callable[[int], Fault], mount: Mount = LOCAL
) -> None:
    for number, _, stage in stages(folder, operation, mount):
        stage.inject(fault(number))
        check_run(stage, operation)


def check_run(stage: Stage, operation: Operation, *, tries: int = 2) -> None:
    accepted, dead = run_with_fault(stage, operation, tries=tries)
    stage.inject()
    check_at_once(stage, operation, accepted=accepted)
    finish_what_is_held(stage, operation)
    recover(stage, dead=dead)
    check_in_the_end(stage, operation, accepted=accepted, temporaries=tries - 1)


@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("operation", [*OPERATIONS, *PARKED, *GONE_CALLERS], ids=str)
def test_every_call_fails_once(folder, operation, code):
    if code == errno.EACCES:  # what may not be read goes into quarantine, and its caller knows
        operation = replace(operation, contents=_Or(EMPTY, operation.contents))
    sweep_of_faults(folder, operation, lambda number: Fault.fail(code, at=number))


@pytest.mark.parametrize("mount", [REMOTE, NO_LINKS], ids=str)
@pytest.mark.parametrize("operation", [*OPERATIONS, *PARKED, *GONE_CALLERS], ids=str)
def test_every_call_fails_once_on_another_filesystem(folder, operation, mount):
    sweep_of_faults(folder, operation, lambda number: Fault.fail(errno.EIO, at=number), mount)


@pytest.mark.parametrize("mount", [LOCAL, REMOTE, NO_LINKS], ids=str)
@pytest.mark.parametrize("operation", [*OPERATIONS, *PARKED, *GONE_CALLERS], ids=str)
def test_the_reply_of_every_call_is_lost(folder, operation, mount):
    sweep_of_faults(folder, operation, lambda number: Fault.lost_reply(at=number), mount)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
@pytest.mark.parametrize("operation", [*OPERATIONS, *PARKED, *GONE_CALLERS], ids=str)
def test_every_change_is_made_and_reported_as_an_error(folder, operation, code):
    """What a "soft" mount says that has waited long enough for a reply."""
    for number, _, stage in stages(folder, operation, verbs=CHANGES):
        stage.inject(Fault.lost_reply(at=number, code=code))
        check_run(stage, operation)


def sampled_pairs(folder: str, operation: Operation) -> list[tuple[Fault, Fault]]:
    """Two faults in one run, chosen once for all: the same for every run of the tests."""
    count = len(steps(f"{folder}/steps", operation))
    choice = random.Random(operation.name)
    kinds = (
        lambda number: Fault.fail(errno.EIO, at=number),
        lambda number: Fault.lost_reply(at=number),
        lambda number: Fault.lost_reply(at=number, code=errno.EIO),
    )
    pairs = []
    for _ in range(PAIRS):
        first = choice.randint(1, count)
        second = first + choice.randint(1, 3)  # also while it cleans up, or tries again
        pairs.append((choice.choice(kinds)(first), choice.choice(kinds)(second)))
    return pairs


@pytest.mark.parametrize("operation", [*OPERATIONS, *PARKED, *GONE_CALLERS], ids=str)
def test_two_faults_in_a_row(folder, operation):
    pairs = sampled_pairs(folder, operation)
    for faults, stage in zip(pairs, fresh_stages(folder, operation), strict=False):
        stage.inject(*faults)
        check_run(stage, operation, tries=3)


@pytest.mark.parametrize("operation", [*OPERATIONS, *PARKED, *GONE_CALLERS], ids=str)
@in_slim_process
def test_a_fault_and_then_death(folder, operation):
    pairs = enumerate(sampled_pairs(folder, operation))
    for (number, (first, second)), stage in zip(
        pairs, fresh_stages(folder, operation), strict=False
    ):
        stage.inject(first, Fault.crash(after=bool(number % 2), at=second.at))
        status = in_child(lambda: run_with_fault(stage, operation))  # noqa: B023
        assert status in {0, CRASH_STATUS}
        check_at_once(stage, operation, accepted=operation.accepted)
        recover(stage, dead=True)
        check_in_the_end(stage, operation, accepted=operation.accepted, temporaries=2)
        stage.close()
