"""Fixtures for all tests: an isolated process, a spool, and a look at what was left in it."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import secrets
import shutil
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from support import RECORDS, strays

import fsqueue
from examples import THOROUGH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MEMORY = "/dev/shm"
# Modules whose import registers something, or makes the process a fork server.
_CHANGE_THE_PROCESS = ("fsqueue.integrations.", "fsqueue.runner.slots.forkserver")
# How often each test runs that is marked as concurrent; `.ci/run --full` sets it.
_REPEAT = "FSQUEUE_TESTS_REPEAT"
# Files whose tests take longest, most of it waiting; the longest first.
_LONG = (
    *("test_slurm_workers", "test_docs", "test_browser", "test_acceptance_walltime"),
    *("test_acceptance_interrupts", "test_batch_worker", "test_restarting", "test_joblib_backend"),
    *("test_state_machine", "test_slurm_site", "test_doctor", "test_up", "test_screenshots"),
    *("test_process_limits", "test_no_room", "test_extreme_numbers", "test_hostile_texts"),
    *("test_other_systems", "test_fleet_machine", "test_shell_completion", "test_hostile_fields"),
    *("test_typing", "test_chaos", "test_fleet_races", "test_executor_processes"),
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "leaves_strays: the test leaves files of clients or workers in its spool"
    )
    config.addinivalue_line(
        "markers", f"concurrent: depends on who is first; runs {_REPEAT} times where that is set"
    )
    from hypothesis import settings

    # No deadline: a busy machine is no failure.
    if THOROUGH:
        settings.register_profile("fsqueue", max_examples=int(THOROUGH), deadline=None)
    else:
        settings.register_profile("fsqueue", deadline=None)
    settings.load_profile("fsqueue")
    # A shell starts what is to run in the background deaf to Ctrl-C, and its children inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Import the whole package while there is one thread.

    pytest parses the source of each module at its import. In Python 3.11 that can raise SystemError
    in a process with other threads: https://github.com/python/cpython/issues/106905
    """
    runs_tests = hasattr(session.config, "workerinput") or not session.config.getoption("-n", 0)
    if sys.version_info < (3, 12) and runs_tests:
        for module in pkgutil.walk_packages(fsqueue.__path__, "fsqueue."):
            if not module.name.startswith(_CHANGE_THE_PROCESS):
                with contextlib.suppress(ImportError):  # it needs an extra that is not installed
                    importlib.import_module(module.name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    times = int(os.environ.get(_REPEAT, "1"))
    if times > 1 and metafunc.definition.get_closest_marker("concurrent"):
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(times))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each process of pytest-xdist begins with long tests: at the end they would run alone."""
    nodes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    files: dict[str, list[pytest.Item]] = {name: [] for name in _LONG}
    rest = []
    for item in items:
        files.get(item.path.stem, rest).append(item)
    begins = [
        [item for name in _LONG[node::nodes] for item in files[name]] for node in range(nodes)
    ]
    total, done = len(items), 0
    items.clear()
    # As its scheduler cuts them.
    for node, begin in enumerate(begins):
        share = (total - len(items)) // (nodes - node)
        more = max(0, share - len(begin))
        items += begin + rest[done : done + more]
        done += more
    items += rest[done:]


def pytest_collection_finish() -> None:
    """What is collected stays: the garbage collector need not look at thousands of tests again."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two more than there are processors: many tests wait for a start, or for a lease to end."""
    return len(os.sched_getaffinity(0)) + 2


@pytest.fixture(scope="session")
def empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cwd")


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, empty_folder: Path) -> None:
    """No setting of the machine or of the project's folder reaches a test."""
    for name in [name for name in os.environ if name.startswith("FSQUEUE__")]:
        monkeypatch.delenv(name)
    if RECORDS != "files":
        monkeypatch.setenv("FSQUEUE__RECORDS", RECORDS)
    monkeypatch.chdir(empty_folder)


@pytest.fixture(autouse=True)
def spool_roots(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Roots of which nothing but results may be left after the test; see `support.strays`."""
    roots: list[str] = []
    yield roots
    found = [f"{root}/{stray}" for root in roots for stray in strays(root)]
    for root in roots:
        shutil.rmtree(root, ignore_errors=True)
    if request.node.get_closest_marker("leaves_strays") is None:
        assert not found, "left in the spool: " + ", ".join(found)


@pytest.fixture
def spool(spool_roots: list[str], tmp_path: Path) -> str:
    """Root of a spool that is not there yet; in memory, where that is possible."""
    in_memory = os.access(_MEMORY, os.W_OK)
    root = os.path.join(_MEMORY if in_memory else tmp_path, f"fsqueue-test-{secrets.token_hex(8)}")
    spool_roots.append(root)
    return root
