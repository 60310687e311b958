"""Folders for fleets, in memory where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from slurm_harness import LAB, USER, live
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder() -> Iterator[str]:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = tempfile.mkdtemp(prefix="fsqueue-fleet-", dir=base)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def lab() -> Iterator[str]:
    """A Slurm of four nodes; the path of its configuration."""
    home = tempfile.mkdtemp(prefix="fsqueue-slurmlab-")
    os.chmod(home, 0o755)  # munge wants all to have access
    port = str(20_000 + os.getpid() % 2_500 * 8)
    environ = {**os.environ, "SLURMLAB": home, "SLURMLAB_PORT": port}
    up = subprocess.run(
        ["bash", LAB / "up.sh"], env=environ, capture_output=True, text=True, check=False
    )
    assert up.returncode == 0, up.stderr
    (line,) = up.stdout.splitlines()
    with pytest.MonkeyPatch.context() as patch:
        conf = line.partition("=")[2]
        patch.setenv("SLURM_CONF", conf)
        yield conf
    subprocess.run(["bash", LAB / "down.sh"], env=environ, check=False, capture_output=True)
    shutil.rmtree(home)


@pytest.fixture
def place(lab) -> Iterator[Path]:
    """A folder for an application, a spool and logs; no job is left when the test has ended."""
    folder = Path(tempfile.mkdtemp(prefix="fsqueue-slurm-"))
    yield folder
    subprocess.run(["scancel", "-u", USER], check=False)
    wait_until(lambda: not live(), what="all jobs have ended", pause=0.2)
    shutil.rmtree(folder)
