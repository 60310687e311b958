"""Folders for many spools, and applications with workers in threads of the test's own process."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hostile_files import Outside
from integration.conftest import make_app
from sweep import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["make_app"]


@pytest.fixture
def folder() -> Iterator[str]:
    """Parent of many spools, in memory where that is possible."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = tempfile.mkdtemp(prefix="fsqueue-sweep-", dir=base)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def stage(folder: str) -> Iterator[Stage]:
    stage = Stage(f"{folder}/spool")
    yield stage
    stage.close()


@pytest.fixture
def app(make_app):
    """An app whose workers notice a death soon."""
    return make_app(heartbeat=0.2, lease=1.0)


@pytest.fixture
def outside(spool, spool_roots):
    """A folder out of the spool, on the same filesystem, that nobody may touch."""
    root = f"{spool}-outside"
    spool_roots.append(root)  # to be removed
    outside = Outside(Path(root))
    yield outside
    assert outside.is_untouched()
