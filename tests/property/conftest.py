"""Folders for many spools, in memory where that is possible."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
from sweep import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder() -> Iterator[str]:
    """Parent of many spools."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = tempfile.mkdtemp(prefix="fsqueue-sweep-", dir=base)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def stage(folder: str) -> Iterator[Stage]:
    stage = Stage(f"{folder}/spool")
    yield stage
    stage.close()
