"""The operations on one call, for the sweep of every call.

After a fault the process lives on and does what the runner does about an error; then others
recover, and the spool is walked.
"""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dying import in_child
from every_call import CHANGES, FAULTS, Swept, calls_of, states
from gone_caller_operations import GONE_CALLERS
from parked_operations import PARKED
from stop_operations import STOPS
from sweep import EMPTY, LOCAL, NO_LINKS, REMOTE, Stage
from sweep_checks import (
    check_at_once,
    check_in_the_end,
    finish_what_is_held,
    recover,
    run_with_fault,
)
from sweep_operations import OPERATIONS

from fsqueue.testing import CRASH_STATUS, Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sweep import Mount
    from sweep_operations import Operation

    from fsqueue.testing import Operation as Step

PAIRS = 12


class _Or:
    def __init__(self, *containers: object) -> None:
        self._containers = containers

    def __contains__(self, content: bytes) -> bool:
        return any(content in container for container in self._containers)


@dataclass
class Moving:
    """A move on its stage, and what is known of its end."""

    stage: Stage
    operation: Operation
    accepted: bool
    """The call is in the spool."""
    dead: bool = False
    """The process dies of the error, as a reaper finds."""
    faults: int = 1


@dataclass(frozen=True)
class Move(Swept):
    operation: Operation
    mounts: tuple[Mount, ...] = (LOCAL, REMOTE, NO_LINKS)
    dies_here = True

    def __str__(self) -> str:
        return self.operation.name

    def faults(self, mount: Mount) -> frozenset[str]:
        return frozenset(FAULTS) if mount == LOCAL else frozenset({"EIO", "lost"})

    def strikes(self, fault: str, step: Step) -> bool:
        """What was done and failed is what a "soft" mount says that has waited long enough."""
        return not fault.startswith("done-and-") or step.verb in CHANGES

    def differs(self, folder: str, mount: Mount) -> bool:
        here, there = (
            [(step.verb, step.path.count("/")) for step in calls_of(f"{folder}/{at}", self, at)]
            for at in (LOCAL, mount)
        )
        return here != there

    def begin(self, root: str, mount: Mount) -> Moving:
        stage = Stage(root, mount)
        self.operation.prepare(stage)
        return Moving(stage, self.operation, self.operation.accepted)

    def run(self, state: Moving, *faults: Fault) -> Sequence[Step]:
        state.stage.inject(*faults)
        self.operation.run(state.stage)
        return list(state.stage.fs.trace)

    def survive(self, state: Moving, fault: Fault, step: Step) -> None:
        del step
        if fault.code == errno.EACCES:  # what may not be read is quarantined, and its caller told
            contents = _Or(EMPTY, self.operation.contents)
            state.operation = replace(self.operation, contents=contents)
        self.survive_all(state, fault)

    def survive_all(self, state: Moving, *faults: Fault) -> None:
        """Several faults in a row."""
        stage, state.faults = state.stage, len(faults)
        stage.inject(*faults)
        tries = len(faults) + 1
        state.accepted, state.dead = run_with_fault(stage, state.operation, tries=tries)
        stage.inject()
        check_at_once(stage, state.operation, accepted=state.accepted)
        finish_what_is_held(stage, state.operation)

    def finish(self, state: Moving, *, dead: bool) -> None:
        stage, operation = state.stage, state.operation
        if dead:
            check_at_once(stage, operation, accepted=operation.accepted)
        recover(stage, dead=dead or state.dead)
        check_in_the_end(stage, operation, accepted=state.accepted, temporaries=state.faults)

    def leaves_as_new(self, state: Moving) -> bool:
        state.stage.close()
        return state.stage.is_as_new()


MOVES = tuple(map(Move, (*OPERATIONS, *PARKED, *GONE_CALLERS, *STOPS)))


def sampled_pairs(folder: str, move: Move) -> list[tuple[Fault, Fault]]:
    """Two faults in one run, chosen once for all: the same for every run of the tests."""
    count = len(calls_of(f"{folder}/calls", move))
    choice = random.Random(str(move))
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


def fail_twice(folder: str, move: Move) -> None:
    for pair, state in zip(sampled_pairs(folder, move), states(folder, move), strict=False):
        move.survive_all(state, *pair)
        move.finish(state, dead=False)


def fail_and_die(folder: str, move: Move) -> None:
    pairs = enumerate(sampled_pairs(folder, move))
    for (number, (first, second)), state in zip(pairs, states(folder, move), strict=False):
        state.faults = 2
        state.stage.inject(first, Fault.crash(after=bool(number % 2), at=second.at))
        status = in_child(lambda: run_with_fault(state.stage, move.operation))  # noqa: B023
        assert status in {0, CRASH_STATUS}
        move.finish(state, dead=True)
