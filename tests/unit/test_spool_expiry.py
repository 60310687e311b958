from __future__ import annotations

import os
import pathlib

import pytest
from support import open_store

from fsqueue.spool.format.names import Slot
from fsqueue.spool.worker.expiry import expire

pytestmark = pytest.mark.leaves_strays
TTL = 100.0
DAY = 86_400.0


@pytest.fixture
def store(spool):
    store = open_store(spool)
    store.files.sync_clock()
    return store


def put(store, path: str, *, age: float = 0.0) -> pathlib.Path:
    file = pathlib.Path(store.layout.root, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    then = store.clock.now() - age
    os.utime(file, (then, then))
    return file


@pytest.mark.parametrize(
    "path",
    [
        "done/abcd/abcd-1",
        "kept/abcd/abcd-1",
        "failed/abcd-1.1",
        "quarantine/x",
        "cancel/abcd-1",
        "blobs/0123",
    ],
)
def test_results_expire_after_their_time(store, path):
    old = put(store, path, age=TTL + 5)
    young = put(store, f"{path}2", age=TTL - 5)
    assert expire(store, result_ttl=TTL) == 1
    assert not old.exists()
    assert young.exists()


def test_a_result_that_came_after_the_collection_does_not_outlive_the_outcome(store):
    outcome = put(store, "kept/abcd/abcd-1", age=TTL - 5)
    late = put(store, "done/abcd/abcd-1")
    other = put(store, "done/abcd/abcd-2")
    assert expire(store, result_ttl=TTL) == 1
    assert outcome.exists()
    assert not late.exists()
    assert other.exists()


def test_temporary_files_are_kept_for_a_day(store):
    old, young = put(store, "tmp/a.1", age=DAY + 5), put(store, "tmp/a.2", age=DAY - 5)
    assert expire(store, result_ttl=TTL) == 1
    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize("where", ["pending", "running"])
def test_a_blob_outlives_the_calls_that_may_need_it(store, where):
    old = put(store, "blobs/0123", age=3 * TTL)
    older = put(store, "blobs/0124", age=5 * TTL)
    if where == "pending":
        slot = Slot(5, store.clock.now() - 3 * TTL)
        call = put(store, f"pending/q/{slot}/abcd-1.1")
    else:
        call = put(store, "running/w/abcd-1.1", age=3 * TTL)
    assert expire(store, result_ttl=TTL) == 1
    assert old.exists()
    assert not older.exists()
    call.unlink()
    if where == "pending":
        call.parent.rmdir()
    assert expire(store, result_ttl=TTL) == 1
    assert not old.exists()


def test_a_blob_of_a_call_that_is_due_later_has_that_time(store):
    digest = store.blobs.put(b"x" * 10)
    due = store.clock.now() + 1000.0
    assert store.blobs.touch(digest, due)
    assert store.fs.modified(store.layout.blob(digest)) == pytest.approx(due, abs=0.01)
    assert not store.blobs.touch("0" * 32)


def test_nothing_pending_or_running_expires(store):
    files = [
        put(store, "pending/default/4.0000000000001/abcd-1.1", age=10 * DAY),
        put(store, "running/w/abcd-2.1", age=10 * DAY),
    ]
    assert expire(store, result_ttl=TTL) == 0
    assert all(file.exists() for file in files)


def test_the_files_of_a_client_that_is_gone_are_removed(store):
    put(store, "done/abcd/abcd-1", age=TTL + 5)
    put(store, "clients/abcd.lock", age=TTL + 5)
    put(store, "bell/abcd", age=TTL + 5)
    expire(store, result_ttl=TTL)
    for folder in ("done", "kept", "clients", "bell"):
        assert os.listdir(f"{store.layout.root}/{folder}") == []


def test_a_living_client_keeps_its_mailbox(store):
    store.fs.make_folders(store.layout.mailbox("abcd"))
    lock = store.fs.lock(store.layout.client_lock("abcd"))
    assert lock is not None
    expire(store, result_ttl=TTL)
    assert os.path.isdir(store.layout.mailbox("abcd"))
    lock.release()
    expire(store, result_ttl=TTL)
    assert not os.path.lexists(store.layout.mailbox("abcd"))


def test_outcomes_of_a_client_that_is_gone_stay_until_they_expire(store):
    young = put(store, "done/abcd/abcd-1")
    put(store, "clients/abcd.lock")
    expire(store, result_ttl=TTL)
    assert young.exists()
    assert os.path.lexists(store.layout.client_lock("abcd"))


@pytest.mark.parametrize("folder", ["tmp", "quarantine", "failed", "done/abcd"])
@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
def test_anything_but_a_file_does_not_stop_expiry(store, folder, kind):
    """Anything can be set aside and then is in quarantine."""
    odd = pathlib.Path(store.layout.root, folder, "odd")
    odd.parent.mkdir(exist_ok=True)
    if kind == "folder":
        odd.mkdir()
        (odd / "inside").touch()
    elif kind == "fifo":
        os.mkfifo(odd)
    else:
        odd.symlink_to("/nowhere")
    os.utime(odd, (1.0, 1.0), follow_symlinks=False)
    old = put(store, "done/zzzz/zzzz-1", age=TTL + 5)
    expire(store, result_ttl=TTL)
    assert not old.exists()
