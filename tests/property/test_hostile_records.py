"""Spoiled records, beats, locks, bells and stamps: upkeep goes on, and nobody is misled."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys

import pytest
from hostile_files import (
    NO_FILES,
    SECRET,
    SPOILS,
    damaged,
    echo,
    named,
    pending_file,
    read,
    rewrite,
    write_record,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integration.conftest import working
from msgspec import structs
from support import open_store, wait_until
from sweep import ARGUMENTS, call_of

from examples import examples
from fsqueue.errors import InvocationCorruptError, SpoolError, SpoolVersionError
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.worker.expiry import remove_gone_clients
from fsqueue.spool.worker.liveness import Observer
from fsqueue.spool.worker.reaper import reap

DEAD, HOSTILE = "dead-1-aaaaaa", "hostile-1-aaaaaa"


def spoil_or_make(path: str, spoil, outside) -> None:
    """Spoil a file, which is made if it is not there."""
    if not os.path.lexists(path):
        rewrite(path, b"content that fsqueue has not written")
    spoil(path, outside)


def remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        for name in os.listdir(path):
            os.rmdir(f"{path}/{name}")
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


# -- what a worker leaves of itself ---------------------------------------------------------------


@pytest.mark.parametrize("spoil", SPOILS, ids=named)
@pytest.mark.parametrize("which", ["record", "beat", "lock"])
def test_a_hostile_worker_keeps_nobody_from_reaping_a_dead_one(app, outside, caplog, which, spoil):
    layout = app.store.layout
    caplog.set_level(logging.ERROR)
    paths = {
        "record": layout.worker_record(HOSTILE),
        "beat": layout.worker_beat(HOSTILE),
        "lock": layout.worker_lock(HOSTILE),
    }
    write_record(app, HOSTILE, boot="another machine")
    spoil_or_make(paths[which], spoil, outside)
    # Known by its folder and silence alone, so the observer has to look at beats and locks.
    invocation = app.task(echo)("value")
    os.mkdir(layout.running(DEAD))
    os.rename(pending_file(app, invocation.id), f"{layout.running(DEAD)}/{invocation.id}.1")
    observer = Observer(app.store, heartbeat=0.01, lease=0.02)
    observer.discover()
    wait_until(lambda: DEAD in observer.dead_elsewhere())
    observer.dead_here()
    assert reap(app.store, DEAD, "silent") == 1
    with working(app):
        assert invocation.get(60) == "value"
    assert SECRET not in caplog.text
    assert "Traceback" not in caplog.text
    for path in [*paths.values(), layout.worker_lock(DEAD)]:
        remove(path)


@pytest.mark.parametrize("spoil", NO_FILES, ids=named)
@pytest.mark.parametrize("which", ["upkeep", "bell of the queue", "bell of the client"])
def test_stamps_and_bells_that_are_none(app, outside, which, spoil):
    task = app.task(echo)
    first = task("value")
    layout = app.store.layout
    path = {
        "upkeep": layout.upkeep_stamp,
        "bell of the queue": layout.bell("t.default"),
        "bell of the client": layout.bell(app._session.client.name),
    }[which]
    spoil_or_make(path, spoil, outside)
    with working(app):
        assert first.get(60) == "value"
        for number in range(5):
            assert task(number).get(60) == number
    remove(path)


@pytest.mark.leaves_strays
@pytest.mark.parametrize("spoil", SPOILS, ids=named)
def test_a_spoiled_lock_of_a_client_keeps_no_other_from_being_collected(app, outside, spoil):
    layout = app.store.layout
    for client in ("abcdefgh", "gone1234"):
        os.mkdir(layout.mailbox(client))
        rewrite(layout.client_lock(client), b"content that fsqueue has not written")
    spoil(layout.client_lock("abcdefgh"), outside)
    remove_gone_clients(app.store)
    assert not os.path.lexists(layout.mailbox("gone1234"))
    remove(layout.client_lock("abcdefgh"))
    remove(layout.mailbox("abcdefgh"))


def test_records_with_numbers_that_no_process_has(app):
    for number, pid in enumerate([-1, 0, 2**31, 10**400, 1.5, "7", None, [], {}]):
        write_record(app, f"hostile-{number}-aaaaaa", pid=pid)
    write_record(app, "hostile-x-aaaaaa", name="../../outside")
    observer = Observer(app.store, heartbeat=1.0, lease=3.0)
    observer.discover()
    assert observer.dead_here() == {}
    assert observer.serving("t.default") == []
    for name in os.listdir(app.store.layout.workers_folder):
        os.unlink(f"{app.store.layout.workers_folder}/{name}")


def test_every_truncation_and_every_bit_of_a_record(app):
    write_record(app, HOSTILE)
    path = app.store.layout.worker_record(HOSTILE)
    whole = read(path)
    for data in damaged(whole):
        with open(path, "r+b") as file:
            file.truncate(0)
            file.write(data)
        observer = Observer(app.store, heartbeat=1.0, lease=3.0)
        observer.discover()
        assert set(observer.dead_here()) <= {HOSTILE}
    os.unlink(path)


# -- spool.json -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", SPOILS, ids=named)
def test_a_spoiled_spool_record(app, outside, spoil):
    path = app.store.layout.info
    spoil(path, outside)
    with pytest.raises(SpoolError, match=r"spool\.json") as caught:
        open_store(app.store.layout.root)
    assert SECRET not in str(caught.value)


def check_that_all_read(store, other, invocation_id):
    """How one writes its records decides for itself alone."""
    name = AttemptName(invocation_id, 1)
    for writer, reader in ((store, other), (other, store)):
        path = writer.publish(call_of(writer, invocation_id), [ARGUMENTS])
        call, payload = reader.calls.read(path, name)
        assert (call.id, bytes(payload.data)) == (invocation_id, ARGUMENTS)
        assert reader.withdraw(path)


@pytest.mark.parametrize("key", [b"", b"k" * 64], ids=["unsigned", "signed"])
def test_every_truncation_and_every_bit_of_the_spool_record(spool, key):
    store = open_store(spool, key=key, records="files")
    store.files.sync_clock()
    path, whole = store.layout.info, read(store.layout.info)
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        rewrite(path, bytes(data))
        try:
            opened = open_store(spool, key=key)
        except (SpoolError, SpoolVersionError):
            continue
        opened.files.sync_clock()
        info = opened.files.info
        # Without a key another id or a changed unknown field is not noticed here: calls from
        # before are then refused one by one, each with a message.
        assert info.format == store.files.info.format
        assert not key or structs.replace(info, longest_link=0) == store.files.info
        if info == structs.replace(store.files.info, longest_link=info.longest_link):
            check_that_all_read(store, opened, f"client0001-{bit}")
    for length in range(len(whole)):
        rewrite(path, whole[:length])
        with pytest.raises(SpoolError):
            open_store(spool, key=key)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_RECORDS = st.fixed_dictionaries(
    {},
    optional={
        name: _JSON | st.sampled_from([1, 2, "", "x", "../..", "\x00", -1, 10**30])
        for name in (
            "format", "id", "key", "name", "host", "boot", "pid", "start", "queues",
            "runner", "concurrency", "started",
        )
    },
)  # fmt: skip
_CONTENTS = st.binary(max_size=100) | _RECORDS.map(lambda value: json.dumps(value).encode())


@given(_CONTENTS)
@settings(
    max_examples=examples(50),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.leaves_strays
def test_any_content_of_the_records(spool, content):
    root = f"{spool}/{secrets.token_hex(6)}"
    store = open_store(root)
    rewrite(store.layout.worker_record(HOSTILE), content)
    observer = Observer(store, heartbeat=1.0, lease=3.0)
    observer.discover()
    observer.dead_here()
    observer.dead_elsewhere()
    rewrite(store.layout.info, content)
    try:
        info = open_store(root).files.info
    except SpoolError:
        return
    assert info.id


# -- what may not be read -------------------------------------------------------------------------

UNPRIVILEGED = """
import os, sys
sys.path[:0] = sys.argv[2:]
from fsqueue import FSQueue
from fsqueue.errors import InvocationCorruptError, SpoolError
from fsqueue.spool.worker.liveness import Observer
from hostile_files import echo, pending_file
from integration.conftest import working
# Links have no mode.
app = FSQueue("t", root=sys.argv[1], heartbeat=0.2, lease=1.0, records="files")
task = app.task(echo)
bad = task("bad")
os.chmod(pending_file(app, bad.id), 0)
layout = app.store.layout
for path in (layout.worker_record("hostile-1-aaaaaa"), layout.worker_beat("hostile-1-aaaaaa"),
             layout.worker_lock("hostile-1-aaaaaa")):
    os.close(os.open(path, os.O_CREAT, 0))
with working(app):
    try:
        bad.get(60)
    except InvocationCorruptError as error:
        print("call:", error)
    damaged = task("value")
    while not damaged.done():
        pass
    os.chmod(layout.done(damaged.id), 0)
    try:
        damaged.get(60)
    except PermissionError as error:
        print("outcome:", error)
    os.chmod(layout.done(damaged.id), 0o600)
    assert damaged.get(60) == "value"  # it was not damaged
    assert task("after").get(60) == "after"
observer = Observer(app.store, heartbeat=0.01, lease=0.02)
observer.discover()
while "hostile-1-aaaaaa" not in observer.dead_elsewhere():
    pass
app.close()
os.chmod(layout.info, 0)
try:
    FSQueue("t", root=sys.argv[1]).store
except SpoolError as error:
    print("record:", error)
"""


def without_rights() -> list[str]:
    """What makes root obey the modes of files."""
    if os.geteuid() != 0:
        return []
    found = shutil.which("setpriv")
    if found is None:
        pytest.skip("root reads what it likes, and there is no setpriv")
    return [found, "--bounding-set", "-dac_override,-dac_read_search"]


@pytest.mark.leaves_strays
def test_what_may_not_be_read(spool):
    tests = os.path.dirname(os.path.dirname(__file__))
    command = [
        *without_rights(),
        sys.executable,
        "-c",
        UNPRIVILEGED,
        spool,
        os.path.dirname(__file__),
        tests,
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    call, outcome, record = result.stdout.splitlines()
    assert call.startswith("call:")
    assert outcome.startswith("outcome:")
    assert "may not be read: Permission denied. The file lies in" in call
    assert "Permission denied" in outcome
    assert f"{spool}/done/" in outcome
    assert "spool.json" in record or "Permission denied" in record


def test_a_socket_of_a_living_process_in_the_place_of_a_call(app):
    """Nobody connects to it, and it is moved away all the same."""
    invocation = app.task(echo)("value")
    path = pending_file(app, invocation.id)
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        with working(app), pytest.raises(InvocationCorruptError, match="not a regular file"):
            invocation.get(60)
        with pytest.raises(BlockingIOError):
            listener.accept()
