"""Operations of all kinds, ended and failed at every one of their filesystem calls."""

from __future__ import annotations

import pytest
from chore_sweep import CHORES
from every_call import FAULTS, die_at_every_call, fail_at_every_call
from fleet_sweep import FLEETS
from limit_sweep import LIMITS
from retry_sweep import RETRIES
from slim import in_slim_process
from trigger_sweep import TRIGGERS

SWEPT = [*RETRIES, *LIMITS, *TRIGGERS, *CHORES, *FLEETS]


@pytest.mark.parametrize(
    ("swept", "mount"), [(each, mount) for each in SWEPT for mount in each.mounts], ids=str
)
@in_slim_process
def test_its_process_dies_at_every_call(folder, swept, mount):
    die_at_every_call(folder, swept, mount)


@pytest.mark.parametrize(
    ("swept", "fault"),
    [
        pytest.param(each, FAULTS[fault], id=f"{each}-{fault}")
        for each in SWEPT
        for fault in FAULTS
        if fault not in each.without
    ],
)
def test_a_fault_strikes_every_call(folder, swept, fault):
    fail_at_every_call(folder, swept, fault)
