"""Folders for fleets, in memory where that is possible."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# For a search by hand: `pytest tests/launch/test_fleet_machine.py --timeout=0` with
# FSQUEUE_FLEET_RUNS=2000 in the environment.
settings.register_profile("fleet", deadline=None, print_blob=True)


@pytest.fixture
def folder() -> Iterator[str]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = tempfile.mkdtemp(prefix="fsqueue-fleet-", dir=base)
    yield path
    shutil.rmtree(path)
