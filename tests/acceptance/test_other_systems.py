"""Systems without /proc and inotify, such as macOS, as far as Linux can play one.

Callers and workers are processes to which `data/other_system` shows no /proc and another platform.
"""

import signal
import sys
from pathlib import Path

import pytest
from acceptance_harness import alive, wait_until

FOLDER = Path(__file__).parent.parent / "data" / "other_system"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="plays another system on Linux")


@pytest.fixture(autouse=True, params=["auto", "poll"])
def _other_system(site, request):
    site.env["PYTHONPATH"] = str(FOLDER)
    site.env["FSQUEUE__WATCH"] = request.param
    site.env["FSQUEUE__LEASE"] = "3600"


def start(site, code):
    """A caller, which prints something."""
    return site.start(sys.executable, "-c", code)


def printed(caller):
    assert caller.wait() == 0, caller.text()
    return caller.output().strip()


def test_it_looks_like_another_system(site):
    code = "import sys, os; print(sys.platform, os.path.exists('/proc/self'))"
    assert printed(start(site, code)) == "darwin False"


def test_calls_run_and_exceptions_arrive(site, kind):
    site.worker(kind, 2).wait_for_start()
    code = (
        "from tasks import describe, fail\n"
        "print(describe(1, 2, flag=False, x=3)[:4])\n"
        "try: fail('not here')\n"
        "except LookupError as error: print(error)\n"
    )
    assert printed(start(site, code)) == "(1, (2,), False, {'x': 3})\nnot here"


def test_a_killed_workers_call_runs_again(site, kind):
    marks = site.folder("marks")
    first = site.worker(kind, 1).wait_for_start()
    caller = start(site, f"from tasks import hold; print(hold({marks.folder!r}))")
    marks.wait_for_starts(1)
    site.worker(kind, 1).wait_for_start()
    first.signal(signal.SIGKILL)
    marks.wait_for_starts(2)
    marks.release()
    assert int(printed(caller)) in marks.pids("starts")


def test_in_a_process_slot_programs_end_with_their_body(site):
    marks = site.folder("marks")
    site.worker("process", 1, app="programs:app").wait_for_start()
    code = f"from programs import start; start('popen', {marks.folder!r}).get(timeout=60)"
    printed(start(site, code))
    (program,) = marks.pids("programs")
    wait_until(lambda: not alive(program), "the program ends")
