"""CPython's own tests of executors, against `fsqueue.Executor`.

The runner of these tests is not part of this repository. It is used where it lies beside the
checkout, in ``shared/harness``, or where FSQUEUE_HARNESS names its folder. FSQUEUE_CPYTHON_TESTS
names a folder with ``test_concurrent_futures``, if this Python does not have it.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance_harness import FSQUEUE

BESIDE = Path(__file__).parents[2].parent / "shared" / "harness"
HARNESS = Path(os.environ.get("FSQUEUE_HARNESS", BESIDE)) / "cpython"
TESTS = os.environ.get("FSQUEUE_CPYTHON_TESTS", "")
GROUPS = [
    "executor",
    "as_completed",
    "wait",
    "shutdown",
    "exit",
    "initializer",
    "failing_initializer",
    "process",
    "crash",
]
# What stands for BrokenProcessPool.
BROKEN = "fsqueue:WorkerLostError"
EXPECTED_FAILURES = {
    # It wants the class `_RemoteTraceback` of the standard pool as the cause. Here the exception
    # has its traceback itself.
    "process": {"test_traceback"},
}

pytestmark = [
    pytest.mark.skipif(not (HARNESS / "run.py").exists(), reason=f"no harness in {HARNESS}"),
    pytest.mark.skipif(
        not TESTS and importlib.util.find_spec("test.test_concurrent_futures") is None,
        reason="this Python lacks its tests: set FSQUEUE_CPYTHON_TESTS",
    ),
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_of_cpython_s_tests(site, group):
    kwargs = json.dumps({"root": str(site.root)})
    plug = {
        "PYTHONPATH": str(HARNESS),
        "PLUG_EXECUTOR": "fsqueue:Executor",
        "PLUG_KWARGS": kwargs,
        "PLUG_BROKEN": BROKEN,
        "PLUG_TESTS": TESTS,
    }
    options = ("--root", str(site.root), "--concurrency", "5")
    # Not by the server of commands, which has imported `test` without the borrowed ones.
    site.start("env", *FSQUEUE, "worker", *options, **plug).wait_for_start()
    done = subprocess.run(
        [
            sys.executable,
            str(HARNESS / "run.py"),
            "--executor",
            "fsqueue:Executor",
            "--kwargs",
            kwargs,
            "--relay",
            "--broken",
            BROKEN,
            "--groups",
            group,
            "--json",
            *(("--tests", TESTS) if TESTS else ()),
        ],
        env=site.env,
        capture_output=True,
        text=True,
        check=False,
    )
    table = json.loads(done.stdout.splitlines()[-1])
    words = {name.partition(".")[2]: row[1] for name, row in table.items()}
    bad = {name for name, word in words.items() if word not in {"ok", "skip"}}
    assert words
    # Tests of another version lack some of them.
    assert bad == EXPECTED_FAILURES.get(group, set()) & words.keys(), done.stdout
