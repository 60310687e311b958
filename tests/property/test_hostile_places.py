"""Names and folders of others in every place of a spool, and links out of it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re

import pytest
from hostile_files import (
    Outside,
    echo,
    pending_file,
    read,
    rewrite,
    write_record,
)
from integration.conftest import working
from msgspec import structs
from support import open_store, wait_until

from fsqueue.errors import EnvelopeError, SpoolError
from fsqueue.spool.format.names import AttemptName, Slot
from fsqueue.spool.worker.expiry import expire
from fsqueue.testing import Fault, FaultyFilesystem

# -- names ----------------------------------------------------------------------------------------

NFS_REMOVED = ".nfs0000000000c0ffee00000001"
FOREIGN = [
    ".DS_Store",
    "._abcdefgh-1.1",
    "abcdefgh-1.1~",
    ".abcdefgh-1.1.swp",
    "#abcdefgh-1.1#",
    "core.1234",
    "new\nline",
    "tab\tand \x1b[31mcolour",
    " ",
    "-rf",
    "*",
    "%s",
    "x" * 255,
    "ä" * 127,
    b"\xff\xfe latin".decode("utf-8", "surrogateescape"),
    "x.reason",
    "abcdefgh-1",
    "abcdefgh-1.0",
    "abcdefgh-1.01",
    "abcdefgh-1.+1",
    "abcdefgh-1.1.1",
    "abcdefgh-1.1r1",
    "abcdefgh-1.1xx",
    "abcdefgh-1.1\n",
    "abcdefgh-\u0661.1",  # an Arabic digit
    "abcdefgh-1.\u00b2",
    "ABCDEFGH-1.1",
    "abcdefgh--1.1",
    "abc-1.1",
]


def put_all(folder: str) -> None:
    for name in [*FOREIGN, NFS_REMOVED]:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"not ours")


def quarantined(app) -> dict[str, str]:
    """Content of what lies in quarantine, by its name."""
    folder = app.store.layout.quarantine_folder
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            found[name] = file.read()
    return found


def assert_all_are_set_aside(app) -> None:
    found = quarantined(app)
    kept = [name for name, text in found.items() if text == "not ours"]
    told = [text for text in found.values() if text != "not ours"]
    assert len(kept) == len(told) == len(FOREIGN)
    assert all("its name is not one of an invocation" in text for text in told)


def test_foreign_names_among_the_pending_calls(app):
    task = app.task(echo)
    invocation = task("value")
    folder = os.path.dirname(pending_file(app, invocation.id))
    put_all(folder)
    with working(app):
        assert invocation.get(60) == "value"
        wait_until(lambda: os.listdir(folder) == [NFS_REMOVED])
        assert task("after").get(60) == "after"
    assert_all_are_set_aside(app)
    os.unlink(f"{folder}/{NFS_REMOVED}")


def test_foreign_names_at_a_dead_worker(app):
    folder = app.store.layout.running("dead-1-aaaaaa")
    os.mkdir(folder)
    put_all(folder)
    write_record(app, "dead-1-aaaaaa")
    with working(app):
        wait_until(lambda: os.listdir(folder) == [NFS_REMOVED])
        assert app.task(echo)("after").get(60) == "after"
        os.unlink(f"{folder}/{NFS_REMOVED}")
        wait_until(lambda: not os.path.lexists(folder))
    assert_all_are_set_aside(app)


@pytest.mark.leaves_strays
def test_foreign_names_everywhere_else_are_left_alone(app):
    """And upkeep goes on: what a dead worker held comes back."""
    store, layout = app.store, app.store.layout
    invocation = app.task(echo)("value")
    folder = layout.running("dead-1-aaaaaa")
    os.mkdir(folder)
    os.rename(pending_file(app, invocation.id), f"{folder}/{invocation.id}.1")
    places = [
        layout.root,
        layout.pending_folder,
        layout.queue("t.default"),
        layout.running_folder,
        layout.done_folder,
        layout.kept_folder,
        layout.workers_folder,
        layout.clients_folder,
        layout.locks_folder,
        layout.bell_folder,
        layout.cancel_folder,
        layout.blobs_folder,
        layout.tmp_folder,
    ]
    for place in places:
        put_all(place)
        os.mkdir(f"{place}/lost+found")
    with working(app):
        assert invocation.get(60) == "value"  # nothing but its folder tells of the dead worker
        assert app.task(echo)("after").get(60) == "after"
        expire(store, result_ttl=3600.0)
    for place in places:
        assert set(os.listdir(place)) >= {*FOREIGN, NFS_REMOVED, "lost+found"}
    assert quarantined(app) == {}
    assert open_store(layout.root).files.info == store.files.info
    for name in [*FOREIGN, NFS_REMOVED]:
        os.unlink(f"{layout.done_folder}/{name}")


def test_two_of_one_name_are_both_kept(app):
    task = app.task(echo)
    names = ["x", "x.reason", "x.reason.reason"]
    for _ in range(2):
        invocation = task("value")
        for name in names:
            rewrite(f"{os.path.dirname(pending_file(app, invocation.id))}/{name}", b"not ours")
        with working(app):
            assert invocation.get(60) == "value"
            wait_until(lambda: not any(name in names for name in pending_names(app)))
    found = quarantined(app)
    assert sum(text == "not ours" for text in found.values()) == 6
    assert sum("its name is not" in text for text in found.values()) == 6


def pending_names(app) -> list[str]:
    return [name for _, _, names in os.walk(app.store.layout.pending_folder) for name in names]


@pytest.mark.parametrize("name", ["..", ".", "a/b", "abcdefgh-1.1/..", "", "abcdefgh-1.1\0"])
def test_names_that_lead_elsewhere_are_none_of_ours(name):
    assert AttemptName.parse(name) is None
    assert Slot.parse(name) is None


def on_faulty_files(app) -> FaultyFilesystem:
    fs = FaultyFilesystem(remote=app.store.fs.remote)
    app._session._store = open_store(app.store.layout.root, fs)
    return fs


# -- things that cannot be moved ------------------------------------------------------------------


def test_a_call_that_cannot_be_claimed_holds_up_no_other(app, caplog):
    """As in a slot whose folder is not writable: it is tried again, after all others."""
    task = app.task(echo)
    stuck = task("stuck")
    path = pending_file(app, stuck.id)
    call, payload = app.store.calls.read(path, AttemptName(stuck.id, 1))
    os.unlink(path)
    slot = str(Slot(9, 1.0))
    app.store.publish(structs.replace(call, slot=slot), [payload.data], payload.buffers)
    old = app.store.layout.slot("t.default", slot)
    fs = on_faulty_files(app)
    fs.inject(Fault.fail(errno.EACCES, at=None, verb="rename", path=old))
    with working(app):
        for number in range(20):
            assert task(number).get(60) == number
        assert not stuck.done()
        fs.inject()
        assert stuck.get(60) == "stuck"


# -- folders that are none ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "link to a folder", "link to nothing"])
@pytest.mark.parametrize("name", ["pending", "running", "done", "quarantine", "tmp", "locks"])
def test_a_spool_without_one_of_its_folders_is_refused(app, outside, kind, name):
    root = app.store.layout.root
    app.close()
    os.rmdir(f"{root}/{name}")
    put_in_place(kind, f"{root}/{name}", outside)
    try:
        with pytest.raises(SpoolError, match=re.escape(f"{root}/{name} is a file or a link")):
            open_store(root)
    finally:
        os.unlink(f"{root}/{name}")


def put_in_place(kind: str, path: str, outside: Outside) -> None:
    if kind == "file":
        rewrite(path, b"not ours")
    else:
        os.symlink(outside.folder if kind == "link to a folder" else "/nowhere/at/all", path)


def test_a_queue_that_is_a_link_is_refused_by_its_worker(app, outside):
    folder = app.store.layout.queue("t.default")
    os.symlink(outside.folder, folder)
    with pytest.raises(SpoolError, match=re.escape(f"{folder} is a file or a link")):
        app.make_runner().run()
    os.unlink(folder)


@pytest.mark.parametrize("kind", ["file", "link to a folder", "link to nothing"])
def test_a_slot_that_is_none_is_set_aside_and_not_followed(app, outside, kind):
    task = app.task(echo)
    invocation = task("value")
    slot = f"{app.store.layout.queue('t.default')}/0.0000000000000"
    put_in_place(kind, slot, outside)
    with working(app):
        assert invocation.get(60) == "value"
        wait_until(lambda: not os.path.lexists(slot))
        assert task("after").get(60) == "after"
    place = app.store.layout.quarantined("0.0000000000000")
    assert os.path.lexists(place)
    assert "stands where a folder" in read(f"{place}.reason").decode()


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_a_call_for_a_slot_that_is_none_is_not_lost(app, outside, kind):
    invocation = app.task(echo)("value")
    path = pending_file(app, invocation.id)
    held = f"{app.store.layout.tmp_folder}/held"
    os.rename(path, held)
    os.rmdir(os.path.dirname(path))
    put_in_place(kind, os.path.dirname(path), outside)
    assert app.store.files.move(held, path)
    with working(app):
        assert invocation.get(60) == "value"


@pytest.mark.parametrize("kind", ["file", "link to a folder", "link to nothing"])
def test_running_at_a_worker_whose_folder_is_a_link(app, outside, kind):
    layout = app.store.layout
    put_in_place(kind, layout.running("dead-1-aaaaaa"), outside)
    write_record(app, "dead-1-aaaaaa")
    with working(app):
        for number in range(10):
            assert app.task(echo)(number).get(60) == number
        stamp = layout.upkeep_stamp
        wait_until(lambda: os.path.lexists(stamp))
        wait_until(lambda: app.task(echo)("again").get(60) == "again")
    os.unlink(layout.running("dead-1-aaaaaa"))
    os.unlink(layout.worker_record("dead-1-aaaaaa"))


# -- mailboxes ------------------------------------------------------------------------------------


def replace_mailbox(app, kind: str, outside: Outside) -> str:
    mailbox = app.store.layout.mailbox(app._session.client.name)
    os.rmdir(mailbox)
    put_in_place(kind, mailbox, outside)
    return mailbox


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_a_worker_mends_a_mailbox_that_is_none(app, outside, kind):
    invocation = app.task(echo)("value")
    mailbox = replace_mailbox(app, kind, outside)
    with working(app):
        # Its caller may see the mailbox before the worker has mended it.
        with contextlib.suppress(SpoolError):
            assert invocation.get(60) == "value"
        assert wait_until(lambda: os.path.isdir(mailbox) and not os.path.islink(mailbox))
        assert app.task(echo)("after").get(60) == "after"
        assert invocation.get(60) == "value"
    assert (
        "stands where"
        in read(app.store.layout.quarantine_reason(os.path.basename(mailbox))).decode()
    )


async def test_a_mailbox_that_is_a_link_ends_the_wait_with_an_error(app):
    elsewhere = f"{app.store.layout.root}/elsewhere"
    os.mkdir(elsewhere)
    first, second = app.task(echo)("value"), app.task(echo)("value")
    mailbox = app.store.layout.mailbox(app._session.client.name)
    os.rmdir(mailbox)
    os.symlink(elsewhere, mailbox)
    with working(app):
        with pytest.raises(SpoolError, match=re.escape(mailbox)):
            first.get(60)
        with pytest.raises(SpoolError, match="make the calls again"):
            await second.async_result()
        app.store.fs.unlink(mailbox)
        os.mkdir(mailbox)
        assert app.task(echo)("after").get(60) == "after"


@pytest.mark.leaves_strays
def test_nothing_expires_behind_a_link(app, outside):
    layout = app.store.layout
    app.store.files.sync_clock()
    for parent in (layout.done_folder, layout.kept_folder):
        os.symlink(outside.folder, f"{parent}/abcdefgh")
    for parent in (layout.failed_folder, layout.quarantine_folder, layout.blobs_folder):
        os.symlink(outside.secret, f"{parent}/abcdefgh-1.1")
    os.symlink(outside.folder, layout.running("dead-1-aaaaaa"))
    os.symlink(outside.secret, layout.client_lock("abcdefgh"))
    os.symlink(outside.secret, layout.client_record("abcdefgi"))
    os.symlink(outside.secret, layout.latest)
    # The links are new, and what they lead to is old.
    assert expire(app.store, result_ttl=60.0) == 0


def test_a_mailbox_of_directories_is_collected_without_following(app, outside):
    """A link inside of a mailbox that has the name of an outcome."""
    invocation = app.task(echo)("value")
    os.symlink(outside.secret, app.store.layout.done(invocation.id))
    with pytest.raises(EnvelopeError, match="not a regular file"):
        invocation.get(60)
    invocation.abandon()
    with working(app):
        assert app.task(echo)("after").get(60) == "after"


# -- messages -------------------------------------------------------------------------------------


def test_what_cannot_be_listed_is_told_once(app, caplog):
    task = app.task(echo)
    closed = app.store.layout.slot("t.default", str(Slot(9, 1.0)))
    os.makedirs(closed)
    on_faulty_files(app).inject(Fault.fail(errno.EACCES, at=None, verb="listdir", path=closed))
    caplog.set_level(logging.WARNING)
    with working(app):
        for number in range(20):
            assert task(number).get(60) == number
    assert sum(closed in each.getMessage() for each in caplog.records) == 1
