"""Several apps and processes on one spool, and files that do not belong there (P8)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings

import pytest
from support import files_under, rewrite, upgrade, wait_until

from fsqueue import FSQueue, SpoolError, State
from fsqueue.errors import EnvelopeError, InvocationCorruptError, SpoolVersionError
from integration import sample_tasks as sample
from integration.conftest import working


def pending_file(spool, invocation):
    (found,) = [name for name in files_under(spool) if name.endswith(f"/{invocation.id}.1")]
    assert found.startswith("pending/")
    return os.path.join(spool, found)


def read(path):
    with open(path, "rb") as file:
        return file.read()


# -- apps -------------------------------------------------------------------------------------


def test_apps_do_not_run_each_others_tasks(make_app):
    one, two = make_app("one"), make_app("two")
    calls = {app: app.task(sample.thread_name) for app in (one, two)}
    of_two = calls[two]()
    with working(one):
        for _ in range(5):
            assert calls[one]().get(60)
        assert of_two.status is State.PENDING
        with pytest.raises(TimeoutError):
            of_two.get(0.1)
    with working(two):
        assert of_two.get(60)


def test_apps_of_one_id_share_the_work(make_app):
    caller, worker = make_app(), make_app()
    worker.task(sample.add)
    with working(worker):
        assert caller.direct_task(sample.add)(1) == 2


def test_nested_call_to_another_app(make_app, monkeypatch):
    one, two = make_app("one"), make_app("two")
    inner = two.direct_task(sample.add)
    monkeypatch.setitem(sample.calls, "inner", inner)
    outer = one.direct_task(sample.call_inner)
    with working(one), working(two):
        assert outer(5) == 6


# -- processes --------------------------------------------------------------------------------

OPENER = """
import sys
from fsqueue import FSQueue
app = FSQueue("t", root=sys.argv[1])
import fsqueue.spool.store.store
print("ready", flush=True)
sys.stdin.readline()
print(app.store.files.info.id, flush=True)
"""


def test_processes_make_the_spool_at_once(spool):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, spool],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    with contextlib.ExitStack() as stack:
        for process in processes:
            stack.enter_context(process)
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        ids = {process.stdout.readline() for process in processes}
    assert ids == {json.loads(read(f"{spool}/spool.json"))["id"] + "\n"}


@pytest.mark.parametrize("turn", range(10))
def test_threads_make_the_spool_at_once(spool, turn):
    barrier = threading.Barrier(4)
    ids = []

    def make():
        app = FSQueue("t", root=spool)
        barrier.wait()
        ids.append(app.store.files.info.id)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ids) == 4
    assert len(set(ids)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_makes_its_own_calls(worked):
    """The child has a client of its own, and leaves the parent's alone."""
    direct, task = worked.direct_task(sample.add), worked.task(sample.echo)
    assert direct(1) == 2
    before = task("before")
    parent = worked._session.client.name
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that forks and threads mix badly
        child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            assert direct(2) == 3
            assert worked._session.client.name != parent
            assert worked.invocation(before.id).get(60) == "before"
            invocation = task("from the child")
            assert invocation.get(60) == "from the child"
            worked.close()
            os.write(writer, invocation.id.encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must never return into pytest
            os.write(writer, traceback.format_exc().encode())
            os._exit(1)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, said
    assert direct(3) == 4
    assert worked._session.client.name == parent
    assert before.get(60) == "before"
    assert worked.invocation(said).get(60) == "from the child"


# -- bad files ----------------------------------------------------------------------------------


def truncated(path, _):
    rewrite(path, read(path)[:-7])


def one_bit(path, _):
    data = bytearray(read(path))
    data[-3] ^= 4
    rewrite(path, bytes(data))


def header_changed(path, _):
    rewrite(path, read(path).replace(b'"max_attempts":3', b'"max_attempts":9'))


def empty(path, _):
    rewrite(path, b"")


def garbage(path, _):
    rewrite(path, os.urandom(3000))


def only_first_line(path, _):
    rewrite(path, read(path).partition(b"\n")[0] + b"\n")


def of_another_call(path, other):
    rewrite(path, read(other))


def symlink(path, other):
    os.unlink(path)
    os.symlink(other, path)


def folder(path, _):
    os.unlink(path)
    os.mkdir(path)


def pipe(path, _):
    os.unlink(path)
    os.mkfifo(path)


BAD = [
    truncated,
    one_bit,
    header_changed,
    empty,
    garbage,
    only_first_line,
    of_another_call,
    symlink,
    folder,
    pipe,
]


@pytest.mark.parametrize("spoil", BAD, ids=lambda function: function.__name__)
def test_bad_call_is_quarantined(app, spool, spoil):
    task = app.task(sample.echo)
    bad, good = task("bad"), task("good")
    spoil(pending_file(spool, bad), pending_file(spool, good))
    with working(app):
        assert good.get(60) == "good"
        with pytest.raises(InvocationCorruptError, match=bad.id) as caught:
            bad.get(60)
        assert f"{spool}/quarantine/{bad.id}.1" in str(caught.value)
        assert bad.status is State.FAILED
        reason = f"{spool}/quarantine/{bad.id}.1.reason"
        wait_until(lambda: os.path.lexists(f"{spool}/quarantine/{bad.id}.1"))
        assert read(reason).strip()
        assert task("after").get(60) == "after"


def test_call_of_another_spool_is_quarantined(app, spool, spool_roots):
    root = f"{spool}-other"
    spool_roots.append(root)
    other = FSQueue("t", root=root)
    foreign = pending_file(root, other.task(sample.echo)("foreign"))
    task = app.task(sample.echo)
    bad = task("bad")
    rewrite(pending_file(spool, bad), read(foreign))
    other.close()
    with working(app), pytest.raises(InvocationCorruptError):
        bad.get(60)


def test_bad_call_of_a_group_harms_no_other_member(app, spool):
    group = app.task(sample.echo).parallelize([(number,) for number in range(6)])
    truncated(pending_file(spool, group[3]), None)
    with working(app):
        with pytest.raises(InvocationCorruptError) as caught:
            _ = group.results
        assert any("item 3 " in note for note in caught.value.__notes__)
        assert [group[index].get(60) for index in (0, 1, 2, 4, 5)] == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("name", ["README", "core.1234", "abcdefghij-1", "x.y.z", ".hidden", "ä"])
def test_foreign_name_in_a_slot_is_quarantined(app, spool, name):
    task = app.task(sample.echo)
    invocation = task("value")
    foreign = os.path.join(os.path.dirname(pending_file(spool, invocation)), name)
    rewrite(foreign, b"not ours")
    with working(app):
        assert invocation.get(60) == "value"
        wait_until(lambda: os.path.exists(f"{spool}/quarantine/{name}"))
        assert os.path.exists(f"{spool}/quarantine/{name}.reason")
        assert read(f"{spool}/quarantine/{name}") == b"not ours"
        assert not os.path.exists(foreign)
        assert task("after").get(60) == "after"


def test_foreign_folder_in_a_slot_is_quarantined(app, spool):
    task = app.task(sample.echo)
    invocation = task("value")
    os.mkdir(os.path.join(os.path.dirname(pending_file(spool, invocation)), "somebody"))
    with working(app):
        assert invocation.get(60) == "value"
        wait_until(lambda: os.path.exists(f"{spool}/quarantine/somebody.reason"))
        assert task("after").get(60) == "after"


def test_foreign_things_elsewhere_in_pending_do_no_harm(app, spool):
    task = app.task(sample.echo)
    invocation = task("value")
    queue = os.path.dirname(os.path.dirname(pending_file(spool, invocation)))
    rewrite(f"{queue}/0.0000000000000", b"a file with the name of a slot")
    rewrite(f"{queue}/notes", b"")
    os.mkdir(f"{queue}/folder")
    with working(app):
        assert invocation.get(60) == "value"
        assert task("after").get(60) == "after"


def newer(path):
    data = read(path)
    assert data.startswith(b"fsqueue 1 call ")
    rewrite(path, data.replace(b"fsqueue 1 call ", b"fsqueue 99 call ", 1))


def test_call_of_a_newer_format_is_left_alone(app, spool, caplog):
    caplog.set_level(logging.WARNING)
    task = app.task(sample.echo)
    of_newer = task("newer")
    path = pending_file(spool, of_newer)
    newer(path)
    upgrade(spool)
    content = read(path)

    def told():
        return [r.getMessage() for r in caplog.records if "format 99" in r.getMessage()]

    with working(app):
        wait_until(told)
        for number in range(20):
            assert task(number).get(60) == number
        wait_until(lambda: of_newer.status is State.PENDING)
        with pytest.raises(TimeoutError):
            of_newer.get(1.2)  # longer than a worker remembers a listing
        assert of_newer.status is State.PENDING
        assert len(told()) == 1
    assert read(path) == content
    assert list(files_under(f"{spool}/quarantine")) == []


def test_a_call_whose_version_is_damaged_is_reported_like_other_damage(app, spool):
    """The format of the spool tells: it is changed before any file of a newer one is written."""
    damaged = app.task(sample.echo)("damaged")
    newer(pending_file(spool, damaged))
    with working(app), pytest.raises(InvocationCorruptError, match=r"its format is not that of"):
        damaged.get(60)
    assert len(list(files_under(f"{spool}/quarantine"))) == 2


def test_an_outcome_whose_version_is_damaged_is_reported_like_other_damage(app, spool):
    with working(app):
        invocation = app.task(sample.echo)("damaged")
        wait_until(invocation.done)
    path = app.store.layout.done(invocation.id)
    rewrite(path, read(path).replace(b"fsqueue 1 outcome", b"fsqueue 3 outcome", 1))
    with pytest.raises(EnvelopeError, match=r"its format is not that of"):
        invocation.get(60)
    with pytest.raises(EnvelopeError, match=r"its format is not that of"):
        app.invocation(invocation.id).get(60)


def test_spool_of_another_format(app, spool):
    os.mkdir(spool)
    rewrite(f"{spool}/spool.json", b'{"format": 99, "id": "x"}')
    with pytest.raises(SpoolVersionError, match="format 99"):
        app.direct_task(sample.add)(1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": "1"}'])
def test_damaged_spool_record(app, spool, content):
    os.mkdir(spool)
    rewrite(f"{spool}/spool.json", content)
    with pytest.raises(SpoolError, match=r"spool\.json is damaged"):
        app.direct_task(sample.add)(1)


def test_root_that_is_a_file(app, spool, spool_roots):
    spool_roots.clear()
    rewrite(spool, b"")
    try:
        with pytest.raises(SpoolError, match="cannot use"):
            app.direct_task(sample.add)(1)
    finally:
        os.unlink(spool)


def test_damaged_outcome_is_an_error_of_its_call(app, spool):
    task = app.task(sample.echo)
    with working(app):
        invocation, other = task("value"), task("other")
        wait_until(invocation.done)
        truncated(f"{spool}/done/{invocation.id.partition('-')[0]}/{invocation.id}", None)
        with pytest.raises(SpoolError, match="truncated or damaged"):
            invocation.get(60)
        assert other.get(60) == "other"
