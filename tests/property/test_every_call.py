"""Operations of all kinds, ended and failed at every one of their filesystem calls.

The process dies before a call or after it. Or it lives, and the call fails and has done nothing,
or it is done and its answer lost.
"""

from __future__ import annotations

import pytest
from chore_sweep import CHORES
from every_call import die_at_every_call, fail_at_every_call
from fleet_sweep import FLEETS, MEMBERS
from limit_sweep import LIMITS
from move_sweep import MOVES, fail_and_die, fail_twice
from retry_sweep import RETRIES
from slim import in_slim_process
from token_operations import TOKENS
from trigger_sweep import TRIGGERS

SWEPT = [*MOVES, *RETRIES, *LIMITS, *TRIGGERS, *CHORES, *TOKENS, *FLEETS, *MEMBERS]


@pytest.mark.parametrize(
    ("swept", "mount"), [(each, mount) for each in SWEPT for mount in each.mounts], ids=str
)
@in_slim_process
def test_its_process_dies_at_every_call(folder, swept, mount):
    die_at_every_call(folder, swept, mount)


@pytest.mark.parametrize(
    ("swept", "mount"),
    [(each, mount) for each in SWEPT for mount in each.mounts if each.faults(mount)],
    ids=str,
)
def test_a_fault_strikes_every_call(folder, swept, mount):
    fail_at_every_call(folder, swept, mount)


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_two_faults_in_a_row(folder, move):
    fail_twice(folder, move)


@pytest.mark.parametrize("move", MOVES, ids=str)
@in_slim_process
def test_a_fault_and_then_death(folder, move):
    fail_and_die(folder, move)
