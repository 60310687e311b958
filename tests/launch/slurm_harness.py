"""Jobs in a real Slurm on this machine; the fixtures `lab` and `place` are in `conftest.py`.

The lab is a folder with `up.sh` and `down.sh`, which start and end a Slurm of four nodes: beside
the checkout in `shared/labs/slurm`, or where FSQUEUE_SLURM_LAB says.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fsqueue.launch.batch import Request, batch_system, list_jobs
from fsqueue.launch.profiles import Profile

LAB = Path(
    os.environ.get("FSQUEUE_SLURM_LAB") or Path(__file__).parents[3] / "shared" / "labs" / "slurm"
)
NEEDS_LAB = [
    pytest.mark.skipif(
        not (LAB / "up.sh").exists(), reason="FSQUEUE_SLURM_LAB names no folder with up.sh"
    ),
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("slurm"),
]
USER = os.environ.get("USER") or "root"
BATCH = batch_system("slurm")


def live() -> list:
    return [job for job in list_jobs(BATCH, USER) if job.state != "ended"]


def request_of(place: Path, token: str, count: int = 1, **keys: object) -> Request:
    profile = Profile(
        **{"system": "slurm", "walltime": 600.0, "cores": 2, "memory": 100 << 20} | keys
    )
    return Request(
        profile=profile,
        fleet="cpu",
        application="tasks:app",
        root=str(place / "spool"),
        folder=str(place),
        token=token,
        count=count,
        # Slurm's KillWait is 10 s here.
        stop_grace=5.0,
        python=sys.executable,
    )


def prepare_logs(place: Path) -> None:
    (place / "spool/fleet/cpu/logs").mkdir(parents=True, exist_ok=True)


def logs(place: Path) -> str:
    return "".join(path.read_text() for path in (place / "spool/fleet/cpu/logs").iterdir())
