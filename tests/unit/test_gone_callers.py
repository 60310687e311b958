"""Which callers count as gone, and how their calls and results are removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from msgspec import structs
from spool_pair import opened_pair
from support import execute_claim

from fsqueue.codec import encode
from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.attempt.context import Body, WorkerContext
from fsqueue.spool.disk.identity import (
    Process,
    boot_id,
    is_gone,
    is_marked_gone,
    mark_of,
    this_process,
)
from fsqueue.spool.worker.gone_callers import clear_up_after

if TYPE_CHECKING:
    from collections.abc import Callable

ME = this_process()
GONE = ME._replace(start="0")
"""Another process has its number by now."""
ARGUMENTS = encode(((), {}), "the arguments")


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        yield pair


def claimed(pair, caller: Process | None, *, keep: bool = False):
    """A claimed call that names a caller."""
    receipt = pair.publish(keep=keep)
    claim = pair.worker.claim(receipt.path)
    call, _ = pair.store.calls.read_claimed(claim)
    assert (call.caller is None) is keep
    call = structs.replace(call, caller=caller, segments=(len(ARGUMENTS),))
    pair.fs.unlink(claim.path)
    path = pair.store.publish(call, [ARGUMENTS])
    pair.fs.rename(path, claim.path)
    return claim


def run(pair, claim, body: Callable[[], object]) -> Ending:
    context = WorkerContext(
        store=pair.store,
        worker=lambda: pair.worker,
        resolve=lambda _: Body(body),
        app_id="t",
        exclusive=False,
    )
    try:
        return execute_claim(context, claim, pair.worker)
    finally:
        pair.worker.forget(claim)


def test_a_call_of_a_living_caller_costs_no_extra_request(pair):
    """The check only reads /proc."""
    costs = []
    for caller in (None, ME):
        claim = claimed(pair, caller)
        pair.fs.inject()
        assert run(pair, claim, lambda: None) is Ending.FINISHED
        costs.append([operation.verb for operation in pair.fs.trace])
        assert pair.store.outcomes.collect(claim.name.invocation_id, keep=False)
    assert costs[0] == costs[1]


def test_a_call_of_a_caller_that_is_gone_costs_a_check_for_dependents_and_a_removal(pair):
    claim = claimed(pair, GONE)
    pair.store.dependencies.watch()
    pair.fs.inject()
    assert run(pair, claim, lambda: pytest.fail("the body runs")) is Ending.UNWANTED
    assert [operation.verb for operation in pair.fs.trace] == ["read", "listdir", "unlink"]


@pytest.mark.parametrize(
    "caller",
    [None, ME, GONE._replace(boot="another boot"), GONE._replace(boot=f"{boot_id()}1")],
    ids=["older writer", "this process", "another host", "another PID namespace"],
)
def test_a_call_runs_unless_its_caller_is_certainly_gone(pair, caller):
    claim = claimed(pair, caller)
    ran = []
    assert run(pair, claim, lambda: ran.append(1)) is Ending.FINISHED
    assert ran
    assert pair.store.outcomes.collect(claim.name.invocation_id, keep=False)


def test_a_kept_call_runs_with_any_header(pair):
    claim = claimed(pair, GONE, keep=True)
    ran = []
    assert run(pair, claim, lambda: ran.append(1)) is Ending.FINISHED
    assert ran
    assert pair.store.outcomes.collect(claim.name.invocation_id, keep=False)


def test_only_results_that_no_process_can_receive_are_removed(pair):
    claims = [claimed(pair, GONE), claimed(pair, ME), claimed(pair, GONE, keep=True)]
    for claim, caller in zip(claims, (GONE, ME, None), strict=True):
        assert pair.worker.release(claim)
        pair.store.endings.complete(
            claim, structs.replace(pair.outcome(claim), caller=caller), [b"x"]
        )
        pair.worker.forget(claim)
    clear_up_after(pair.store, pair.client.name)
    left = [pair.store.outcomes.exists(claim.name.invocation_id) for claim in claims]
    assert left == [False, True, True]
    for claim in claims[1:]:
        assert pair.store.outcomes.collect(claim.name.invocation_id, keep=False)


def end(pair, claim, caller: Process | None) -> None:
    outcome = structs.replace(pair.outcome(claim), caller=caller)
    assert pair.store.endings.complete(claim, outcome, [b"x"])


def test_a_caller_that_leaves_removes_late_results_that_only_it_could_receive(pair):
    """Its direct call has ended again after it had collected the first outcome."""
    direct, kept = claimed(pair, ME), claimed(pair, None, keep=True)
    end(pair, direct, ME)
    assert pair.store.outcomes.collect(direct.name.invocation_id, keep=False)
    for claim, caller in ((direct, ME), (kept, None)):
        end(pair, claim, caller)
        assert pair.worker.release(claim)
        pair.worker.forget(claim)
    pair.client.close()
    left = [pair.store.outcomes.exists(claim.name.invocation_id) for claim in (direct, kept)]
    assert left == [False, True]
    collect_after_leaving(pair, kept)


def test_a_caller_that_leaves_only_results_for_others_reads_none_of_them(pair):
    claim = claimed(pair, None, keep=True)
    pair.complete(claim)
    pair.fs.inject()
    pair.client.close()
    assert "read" not in [operation.verb for operation in pair.fs.trace]
    collect_after_leaving(pair, claim)


def collect_after_leaving(pair, claim) -> None:
    assert pair.store.outcomes.collect(claim.name.invocation_id, keep=False)
    assert pair.store.fs.rmdir(pair.store.layout.mailbox(pair.client.name))


# -- processes that cannot be seen ------------------------------------------------------------


def unshared(*options: str, script: str) -> str:
    """The output of a script in separate namespaces."""
    if sys.platform != "linux" or os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root on Linux")
    done = subprocess.run(
        ["unshare", *options, sys.executable, "-c", script, *ME[:1], str(ME.pid), ME.start],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "unshare: " in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IMPORTS = """
import os, subprocess, sys
from fsqueue.spool.disk.identity import Process, is_gone, is_marked_gone, mark_of, this_process
observed = Process(sys.argv[1], int(sys.argv[2]), sys.argv[3])
"""


def test_a_process_that_hidepid_hides_is_not_gone():
    script = f"""{IMPORTS}
mark = mark_of(observed.pid)
assert not is_gone(observed)  # also imports what the other user may not read
subprocess.run(["mount", "-t", "proc", "-o", "hidepid=2", "proc", "/proc"], check=True)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
assert not os.path.exists(f"/proc/{{observed.pid}}"), "it is not hidden"
print(is_gone(observed), is_marked_gone(mark))
"""
    assert unshared("--mount", script=script) == "False False"


def test_a_process_in_a_pid_namespace_without_its_own_proc_is_not_gone():
    """There /proc shows other processes under the numbers of those of this namespace."""
    script = f"""{IMPORTS}
parent = this_process()
ended = subprocess.Popen(["true"])
gone = parent._replace(pid=ended.pid)
ended.wait()
sys.stdout.flush()
if os.fork() == 0:
    print(is_gone(parent), is_gone(gone), is_gone(observed), flush=True)
    os._exit(0)
os.wait()
"""
    assert unshared("--pid", "--fork", script=script) == "False True False"


def test_marks_of_impossible_processes():
    assert is_marked_gone("9999999999-1")
    assert is_marked_gone("0-1")
    assert not is_marked_gone(mark_of(os.getpid()))


def test_a_process_whose_pid_was_reused_is_gone():
    assert is_gone(GONE)
    assert not is_gone(ME)
