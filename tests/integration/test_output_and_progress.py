"""What bodies print and how far they say they are, from the body to its caller."""

import asyncio
import logging
import os
import subprocess
import sys
import threading

import pytest
from support import wait_until

from fsqueue import RetryError, State, current_invocation
from fsqueue.spool.features.body_reports import Progress
from integration import sample_tasks
from integration.conftest import working

log = logging.getLogger("bodies")


def talk(name, gate=None, count=3):
    for number in range(count):
        print(f"{name} {number}")
        sys.stderr.write(f"{name} error {number}\n")
        log.warning("%s logs %d", name, number)
        if gate is not None:
            sample_tasks.gates[gate].wait(60)
    return name


def spoken(name, count=3):
    return "".join(
        f"{name} {n}\n{name} error {n}\nWARNING bodies: {name} logs {n}\n" for n in range(count)
    )


async def talk_later(name):
    print(f"{name} begins")
    await asyncio.gather(_part(name, 1), asyncio.to_thread(_say, f"{name} in a thread"))
    return name


async def _part(name, number):
    await asyncio.sleep(0)
    _say(f"{name} part {number}")


def _say(line):
    """In one piece: `print` writes the end of a line by itself, between which others may write."""
    sys.stdout.write(f"{line}\n")


PRINTING = """
import threading
from fsqueue.runner.output.capture import capturing

class Sink:
    def say(self, text): ...

def talk():
    while not ended.is_set():
        print("in", "pieces")

ended = threading.Event()
threads = [threading.Thread(target=talk) for _ in range(4)]
for each in threads:
    each.start()
for _ in range(100_000):
    with capturing(Sink()):
        pass
ended.set()
"""


def test_printing_while_a_capture_ends_does_not_crash_the_process():
    printing = [sys.executable, "-u", "-c", PRINTING]
    assert subprocess.run(printing, stdout=subprocess.DEVNULL, check=False).returncode == 0


def report(gate, *steps):
    for step in steps:
        current_invocation().progress(*step)
    sample_tasks.gates[gate].wait(60)


def fail_once():
    here = current_invocation()
    print(f"attempt {here.attempt}")
    here.progress(here.attempt, 2)
    if here.attempt == 1:
        raise RetryError("again", delay=0.0)


def shout_then_fail():
    print("last words")
    raise LookupError("so it goes")


def print_and_say(text):
    print(text)
    here = current_invocation()
    here.progress(1, 2, text)
    return here.id, here.task.rpartition(".")[2], here.attempt, here.cancelled, here.remaining


async def say_later(text):
    return print_and_say(text)


@pytest.fixture
def quiet(monkeypatch):
    """A handler at the root, as applications have one: nothing goes to the last resort."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)


# -- output -------------------------------------------------------------------------------


def test_each_call_has_the_output_of_its_own_body(worked, quiet, gate):
    task = worked.task(capture_output=True)(talk)
    gates = [gate() for _ in range(4)]
    calls = [task(f"body{index}", name) for index, (_, name) in enumerate(gates)]
    for event, _ in gates:
        event.set()
    for index, call in enumerate(calls):
        assert call.get(timeout=60) == f"body{index}"
        assert call.output == spoken(f"body{index}")


def test_captured_output_is_shown_as_well(worked, quiet, capsys):
    assert worked.task(capture_output=True)(talk)("loud", count=1).get(timeout=60)
    printed = capsys.readouterr()
    assert "loud 0\n" in printed.out
    assert "loud error 0\n" in printed.err


def test_without_the_option_nothing_is_kept(worked, quiet):
    quiet_call, kept = worked.task(talk)("a"), worked.task(capture_output=True)(talk)("b")
    assert kept.get(timeout=60) == "b"
    assert quiet_call.get(timeout=60) == "a"
    assert (quiet_call.output, kept.output) == ("", spoken("b"))
    assert os.listdir(worked.store.layout.output_folder) == [f"{kept.id}.1"]


def test_output_can_be_read_while_the_body_runs(worked, quiet, gate):
    event, name = gate()
    call = worked.task(capture_output=True)(talk)("slow", name)
    assert spoken("slow", 1).startswith(worked.invocation(call.id).output)
    wait_until(lambda: call.output == spoken("slow", 1))
    assert not call.done()
    event.set()
    call.get(timeout=60)
    assert call.output == spoken("slow")


def test_output_of_async_bodies_and_their_threads(worked):
    call = worked.task(capture_output=True)(talk_later)("async")
    call.get(timeout=60)
    assert sorted(call.output.splitlines()) == [
        "async begins",
        "async in a thread",
        "async part 1",
    ]


def test_a_failed_body_has_output_too(worked):
    call = worked.task(capture_output=True)(shout_then_fail)()
    with pytest.raises(LookupError):
        call.get(timeout=60)
    assert call.output == "last words\n"


def test_each_attempt_has_its_own_output(worked):
    call = worked.task(capture_output=True)(fail_once)()
    call.get(timeout=60)
    assert call.output == "attempt 2\n"
    assert sorted(os.listdir(worked.store.layout.output_folder)) == [
        f"{call.id}.1",
        f"{call.id}.2",
    ]
    assert os.listdir(worked.store.layout.progress_folder) == []


def test_the_calls_of_a_batch_share_their_output(worked, quiet):
    task = worked.task(capture_output=True, parallel_batch_size=3)(talk)
    group = task.parallelize([("a",), ("b",), ("c",)])
    assert group.get(timeout=60) == ["a", "b", "c"]
    assert {each.output for each in group} == {spoken("a") + spoken("b") + spoken("c")}


def test_by_configuration_and_for_single_calls(make_app, monkeypatch, quiet):
    monkeypatch.setenv("FSQUEUE__TASK__CAPTURE_OUTPUT", "yes")
    app = make_app()
    with working(app):
        task = app.task(talk)
        first, second = task("a"), task.options(capture_output=False)("b")
        assert [first.get(timeout=60), second.get(timeout=60)] == ["a", "b"]
    assert (first.output, second.output) == (spoken("a"), "")
    with pytest.raises(ValueError, match="capture_output = 'maybe', expected true or false"):
        task.options(capture_output="maybe")
    monkeypatch.setenv("FSQUEUE__TASK__CAPTURE_OUTPUT", "maybe")
    with pytest.raises(
        ValueError, match=r"FSQUEUE__TASK__CAPTURE_OUTPUT: capture_output = 'maybe'"
    ):
        make_app()


def test_the_streams_are_as_before_when_all_have_ended(worked, quiet):
    before = sys.stdout, sys.stderr, list(logging.getLogger().handlers)
    calls = [worked.task(capture_output=True)(talk)(f"{n}") for n in range(5)]
    for call in calls:
        call.get(timeout=60)
    wait_until(lambda: (sys.stdout, sys.stderr, logging.getLogger().handlers) == before)


def test_a_handler_that_the_body_makes_does_not_double_its_records(worked):
    call = worked.task(capture_output=True)(log_by_own_handler)()
    call.get(timeout=60)
    assert call.output == "own: hello\n"


def log_by_own_handler():
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("own: %(message)s"))
    log.addHandler(handler)
    try:
        log.warning("hello")
    finally:
        log.removeHandler(handler)


def test_output_that_bypasses_python_is_not_kept(worked, capfd):
    call = worked.task(capture_output=True)(run_program)()
    call.get(timeout=60)
    assert call.output == "before\n"
    assert "by a program" in capfd.readouterr().out


def run_program():
    print("before")
    subprocess.run(["echo", "by a program"], check=True)


def test_a_call_that_a_body_runs_while_it_waits_has_its_own_output(nested):
    with working(nested.app, nested.app.make_runner(concurrency=1)):
        call = nested.conversation()
        kept, lost, words = call.get(timeout=60)
        assert words == ["answer", "aside"]
        assert call.output == "question\nthanks\n"
        assert nested.app.invocation(kept).output == "answer\n"
        assert nested.app.invocation(lost).output == ""


def test_output_in_a_signed_spool(make_app, tmp_path, gate):
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes(b"this is the key of the spool")
    app = make_app(signing_key_file=key)
    event, name = gate()
    with working(app):
        call = app.task(capture_output=True)(talk)("signed", name)
        wait_until(lambda: "signed 0" in call.output)
        event.set()
        call.get(timeout=60)
        assert "signed 2" in call.output


# -- progress ---------------------------------------------------------------------------------


def test_the_latest_report_comes_while_the_body_runs(worked, gate):
    event, name = gate()
    call = worked.task(report)(name, (1, 10), (2, 10, "first"), (3, 10, "second"))
    latest = Progress(3, 10, "second")
    wait_until(lambda: call.reported == latest, what="not the first ones, of which it may be told")
    assert worked.invocation(call.id).reported == latest
    event.set()
    call.get(timeout=60)
    assert call.reported is None
    assert os.listdir(worked.store.layout.progress_folder) == []


def test_a_loop_that_reports_at_each_step_writes_rarely(worked, gate):
    event, name = gate()
    steps = [(number, 20_000) for number in range(20_001)]
    call = worked.task(report)(name, *steps)
    wait_until(lambda: call.reported == Progress(20_000, 20_000))
    event.set()
    call.get(timeout=60)


def test_a_bad_report_is_the_bodys_error(worked, gate):
    _, name = gate()
    with pytest.raises(ValueError, match="expected a finite number >= 0"):
        worked.task(report)(name, (-1,)).get(timeout=60)


def test_there_is_no_report_outside_of_a_body():
    assert current_invocation() is None


def test_a_full_disk_costs_the_report_and_not_the_call(app, gate, caplog):
    from support import open_store

    from fsqueue.testing import Fault, FaultyFilesystem

    fs = FaultyFilesystem()
    app._session._store = open_store(app._session.root, fs)
    layout = app.store.layout
    event, name = gate()
    with working(app):
        fs.inject(
            Fault.fail(28, at=None, verb="create", path=layout.output_folder),
            Fault.fail(28, at=None, verb="rename", path=layout.progress_folder),
        )
        call = app.task(capture_output=True)(report)(name, (1, 2))
        kept = app.task(capture_output=True)(print_and_say)("lost")
        assert kept.get(timeout=60)
        event.set()
        call.get(timeout=60)
        assert kept.output == ""
        assert "cannot be written" in caplog.text
        fs.inject()


# -- run where it is called -------------------------------------------------------------------


@pytest.fixture
def inline(make_app, spool):
    before = set(threading.enumerate())
    yield make_app(dev_mode_force_sync_tasks=True)
    assert not os.path.exists(spool)
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize("body", [print_and_say, say_later])
def test_inline_calls_have_it_in_memory(inline, body, capsys):
    task = inline.task(capture_output=True)(body)
    call = task("here")
    assert call.result == (
        call.id,
        body.__name__ if body is print_and_say else "say_later",
        1,
        False,
        None,
    )
    assert (call.output, call.reported) == ("here\n", Progress(1, 2, "here"))
    assert call.output == "here\n"
    assert capsys.readouterr().out == "here\n"
    assert task.options(capture_output=False)("x").output == ""
    group = task.parallelize([("a",), ("b",)])
    assert [each.output for each in group.progress()] == ["a\n", "b\n"]
    assert len(list(inline.track(group))) == 2
    assert current_invocation() is None


async def test_inline_direct_tasks_may_report(inline):
    assert inline.direct_task(print_and_say)("x")[1] == "print_and_say"
    assert (await inline.direct_task(say_later)("x"))[1] == "say_later"
    fan_out = inline.direct_task(
        parallel_func=lambda _: [("a",), ("b",)], aggregate_func=len, progress=True
    )
    assert fan_out(print_and_say)("x") == 2
    assert await fan_out(say_later)("x") == 2


# -- waiting for many ---------------------------------------------------------------------------


def test_without_a_terminal_there_is_no_bar(worked, capsys):
    group = worked.task(sample_tasks.add).parallelize([(1,), (2,)])
    assert group.progress("adding") is group
    assert list(worked.track(group, "adding")) == [2, 3]
    assert list(worked.track(iter(group))) == [2, 3]
    assert capsys.readouterr() == ("", "")


def test_waiting_with_a_bar_leaves_failures_to_the_results(worked):
    group = worked.task(sample_tasks.divide).parallelize([(1, 0), (4, 2)])
    assert [each.status for each in group.progress()] == [State.FAILED, State.SUCCEEDED]
    with pytest.raises(ZeroDivisionError) as caught:
        list(worked.track(group))
    assert "item 0" in "".join(caught.value.__notes__)


def test_a_direct_fan_out_with_progress(worked):
    total = worked.direct_task(
        parallel_func=lambda _: [(n,) for n in range(5)], aggregate_func=sum, progress=True
    )
    assert total(sample_tasks.add)(0) == 15
    with pytest.raises(ValueError, match="needs a parallel_func"):
        worked.direct_task(progress=True)
