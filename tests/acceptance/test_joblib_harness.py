"""joblib's own tests of its backends, run against ours where a runner for them is available.

``FSQUEUE_HARNESS`` names the folder with ``joblib/run.py``, which reads the tests of the installed
joblib and puts the name of our backend into their parameters.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

joblib = pytest.importorskip("joblib")

HARNESS = os.environ.get("FSQUEUE_HARNESS")
GROUPS = "core,batching,generator,nesting,context,interactive,threads"
# It compares with what ``n_jobs=-2`` means on this machine, so the worker must have its CPUs.
AS_MANY_AS_CPUS = "threadpool_limitation_in_child_loky"
EXPECTED = Path(__file__).parent.parent / "data" / "joblib_expected_failures.txt"


def expected_failures():
    """Parts of the names of tests, each with the reason why it cannot pass."""
    lines = [line for line in EXPECTED.read_text("utf-8").splitlines() if line]
    return [line.partition("  # ")[0] for line in lines if not line.startswith("#")]


def test_each_expected_failure_has_a_reason():
    for line in EXPECTED.read_text("utf-8").splitlines():
        assert not line or line.startswith("#") or "  # " in line


@pytest.mark.timeout(1800)
@pytest.mark.leaves_strays
@pytest.mark.skipif(HARNESS is None, reason="FSQUEUE_HARNESS names no folder")
@pytest.mark.parametrize(
    ("slots", "selected", "fewest"),
    [(6, f"not {AS_MANY_AS_CPUS}", 150), (joblib.cpu_count(), AS_MANY_AS_CPUS, 4)],
    ids=["all others", "as many slots as CPUs"],
)
def test_joblibs_own_tests(spool, tmp_path, slots, selected, fewest):
    runner = Path(str(HARNESS), "joblib", "run.py")
    environment = {
        **os.environ,
        "FSQUEUE__ROOT": spool,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)]),
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "fsqueue", "worker", "--root", spool, "--concurrency", str(slots)],
        env=environment,
    )
    try:
        done = subprocess.run(
            [
                *(sys.executable, str(runner), "--backend", "fsqueue", "--keep", str(tmp_path)),
                *("--import", "fsqueue.integrations.joblib", "--groups", GROUPS, "-k", selected),
                *("--timeout", "120", "--pytest", "-rf -p no:randomly"),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1700,
            check=False,
        )
    finally:
        worker.terminate()
        worker.wait(60)
    failed = re.findall(r"^FAILED \S+?::(\S+)", done.stdout, re.MULTILINE)
    allowed = expected_failures()
    assert [name for name in failed if not any(part in name for part in allowed)] == []
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[1]) >= fewest
