"""Callers and workers that may not have another thread, open file or watch."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
_CAPABILITIES = "+dac_override,+dac_read_search"


def python(function: str, root: Path, *args: str, module: str = "limited_tasks") -> list[str]:
    code = f"import {module}; {module}.{function}(*{args})"
    return [sys.executable, "-c", code, str(root)]


@pytest.fixture
def as_user():
    """Begins a command line that runs as an ordinary user: limits of processes exempt root."""
    if sys.platform != "linux":
        pytest.skip("the limits are those of Linux")
    if os.getuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv to become another user")
    # Nobody else's processes count, and the files of this checkout can be read.
    user = 100_000 + secrets.randbelow(1 << 20)
    return [
        *("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"),
        *(f"--inh-caps={_CAPABILITIES}", f"--ambient-caps={_CAPABILITIES}"),
    ]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def run(as_user, root, tmp_path):
    """Run a function of the script to its end; returns what it has printed and logged."""
    tmp_path.chmod(0o777)

    def run(
        function: str,
        *args: str,
        module: str = "limited_tasks",
        before: Sequence[str] = (),
        **env: str,
    ) -> str:
        done = subprocess.run(
            [*(before or as_user), *python(function, root, *args, module=module)],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
            env=os.environ | env,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def worker(as_user, root):
    """A worker without limits."""
    with started(as_user, root):
        yield


@pytest.fixture
def worker_of_this_user(root):
    with started([], root):
        yield


@contextlib.contextmanager
def started(before, root, *args):
    root.parent.chmod(0o777)
    process = subprocess.Popen(
        [*before, *python("work", root, *args)], cwd=HERE, start_new_session=True
    )
    wait_until(lambda: list(root.glob("running/*")), what="the worker has begun")
    yield process
    process.terminate()
    assert process.wait(60) == 0


@pytest.mark.usefixtures("worker")
def test_a_caller_needs_no_thread_to_wait(run):
    assert run("call_without_threads") == ""


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("function", ["await_without_threads", "await_without_another_thread"])
def test_awaited_calls_without_a_thread_block_the_event_loop_for_a_moment(run, function):
    run(function)


def test_a_worker_without_threads_for_its_slots_runs_the_calls_when_it_gets_one(run):
    assert "cannot start another thread for calls" in run("run_without_another_thread")


@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize(
    "function",
    [
        "run_in_main_thread_without_another",
        "run_in_thread_without_another",
        "run_in_thread_without_upkeep",
    ],
)
def test_a_worker_without_its_threads_leaves_and_says_why(run, function, kind):
    printed = run(function, kind)
    assert "cannot start the threads of a worker" in printed
    assert "ulimit -u" in printed


@pytest.mark.parametrize(
    "function",
    [
        "replace_a_slot_at_the_limit_of_processes",
        "replace_a_slot_at_the_limit_of_files",
        "replace_the_server_at_the_limit_of_processes",
    ],
)
def test_a_slot_that_cannot_be_replaced_costs_the_others_nothing(run, function):
    run(function, module="limited_slots")


@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize(
    "function",
    ["run_bodies_without_another_thread", "block_the_event_loop_without_another_thread"],
)
def test_a_call_waits_for_the_threads_that_its_body_needs(run, function, kind):
    run(function, kind, module="limited_slots")


@pytest.mark.usefixtures("worker")
def test_a_caller_without_descriptors_for_events_polls(run):
    assert "polling instead" in run("call_without_descriptors")


@pytest.fixture(params=["instances", "watches"])
def without_inotify(request):
    """Begins a command line that may not watch files."""
    path = f"/proc/sys/user/max_inotify_{request.param}"
    before = ["unshare", "--user", "--map-root-user", "sh", "-c", f'echo 0 > {path}; exec "$@"']
    if subprocess.run([*before, "-", "true"], capture_output=True, check=False).stderr:
        pytest.skip("no user namespaces here")
    return [*before, "-"]


@pytest.mark.usefixtures("worker_of_this_user")
def test_a_caller_without_inotify_polls(run, without_inotify):
    assert "polling instead" in run("call", before=without_inotify)


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_worker_without_inotify_polls(run, root, capfd, without_inotify, kind):
    with started(without_inotify, root, kind):
        run("call", before=["env"])
    assert "polling instead" in capfd.readouterr().err
