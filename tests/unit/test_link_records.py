"""Small records that are symbolic links."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat

import pytest
from spool_pair import QUEUE, opened_pair
from support import open_store

from fsqueue.errors import EnvelopeError, SpoolError, StorageError
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.disk.link_records import link_text, longest_link, make_link, read_link
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.format.records import FORMAT, LINKS_FORMAT
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import Fault, FaultyFilesystem


@pytest.fixture
def pair(spool):
    with opened_pair(spool, FaultyFilesystem(), records="links") as pair:
        yield pair


def is_link(path: str) -> bool:
    return stat.S_ISLNK(os.lstat(path).st_mode)


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 4, b"\0" * 1000])
def test_a_link_holds_any_content(tmp_path, content):
    text = link_text([content[:7], content[7:]], 4095)
    make_link(str(tmp_path / "record"), text.encode())
    assert read_link(str(tmp_path / "record")) == content


def test_content_that_is_too_long_is_no_link(tmp_path):
    longest = longest_link(str(tmp_path), "probe")
    assert longest == 4095
    assert os.listdir(tmp_path) == []
    sizes = [size for size in range(3000, 3400) if link_text([b"x" * size], longest) is not None]
    assert 3200 < sizes[-1] < 3300
    make_link(str(tmp_path / "a"), link_text([b"x" * sizes[-1]], longest).encode())
    assert link_text([b"x"], 0) is None


def test_calls_and_outcomes_are_links_and_large_ones_files(pair):
    receipt = pair.publish()
    assert is_link(receipt.path)
    claim = pair.worker.claim(receipt.path)
    pair.worker.release(claim)
    outcome, done = pair.outcome(claim), pair.store.layout.done(receipt.invocation_id)
    assert pair.store.endings.complete(claim, outcome, [b"x" * 5000])
    pair.worker.forget(claim)
    assert not is_link(done)
    assert pair.store.outcomes.collect(receipt.invocation_id, keep=False)
    assert pair.store.outcomes.publish(outcome, [b"x"])
    assert is_link(done)


def test_an_outcome_that_is_kept_is_still_a_link(pair):
    receipt = pair.publish(keep=True)
    assert pair.complete(pair.worker.claim(receipt.path))
    data = pair.store.outcomes.collect(receipt.invocation_id, keep=True)
    kept = pair.store.layout.kept(receipt.invocation_id)
    assert is_link(kept)
    assert pair.store.outcomes.collect(receipt.invocation_id, keep=True) == data
    os.unlink(kept)
    os.rmdir(os.path.dirname(kept))


# -- what a reply that is lost, or a filesystem without links, leaves ------------------------------


@pytest.mark.parametrize("where", ["tmp/", "done/"])
def test_a_lost_reply_to_a_link_counts_as_made(pair, where):
    pair.fs.inject(Fault.lost_reply(verb="symlink", path=where))
    receipt = pair.publish()
    assert is_link(receipt.path)
    assert pair.complete(pair.worker.claim(receipt.path))
    assert is_link(pair.store.layout.done(receipt.invocation_id))
    assert pair.store.outcomes.collect(receipt.invocation_id, keep=False)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_explained_as_for_a_file(pair, code):
    claim = pair.worker.claim(pair.publish().path)
    pair.worker.release(claim)
    pair.fs.inject(Fault.fail(code, at=None, verb="symlink"))
    with pytest.raises(StorageError, match="does not fit into"):
        pair.publish()
    with pytest.raises(StorageError, match="does not fit into"):
        pair.store.endings.complete(claim, pair.outcome(claim), [b"x"])
    pair.fs.inject()
    assert pair.store.endings.complete(claim, pair.outcome(claim), [b"x"])
    pair.worker.forget(claim)


def test_a_call_is_read_right_before_it_is_claimed(pair):
    receipt = pair.publish()
    pair.fs.inject()
    claim = pair.worker.claim(receipt.path)
    call, payload = pair.store.calls.read_claimed(claim)
    assert [operation.verb for operation in pair.fs.trace] == ["read", "rename"]
    assert (call.id, bytes(payload[0])) == (receipt.invocation_id, b"args")


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_a_call_that_cannot_be_read_yet_is_claimed_and_read_again(pair, code):
    receipt = pair.publish()
    pair.fs.inject(Fault.fail(code, verb="read"))
    claim = pair.worker.claim(receipt.path)
    call, _ = pair.store.calls.read_claimed(claim)
    assert call.id == receipt.invocation_id
    assert [operation.verb for operation in pair.fs.trace] == ["read", "rename", "read"]


def test_a_call_that_another_worker_has_taken_is_not_claimed(pair):
    receipt = pair.publish()
    other = Worker(pair.store, queues=(QUEUE,), runner="thread", concurrency=1)
    other.register()
    claim = other.claim(receipt.path)
    assert pair.worker.claim(receipt.path) is None
    assert pair.store.claims.give_back(claim)
    other.forget(claim)
    other.deregister()


def test_a_damaged_call_is_claimed_and_then_refused(pair):
    receipt = pair.publish()
    os.unlink(receipt.path)
    os.symlink("fsqueue-record:no base85 \x7f", receipt.path)
    claim = pair.worker.claim(receipt.path)
    with pytest.raises(EnvelopeError, match="damaged"):
        pair.store.calls.read_claimed(claim)


def test_the_first_outcome_stands(pair):
    receipt = pair.publish()
    claim = pair.worker.claim(receipt.path)
    first, second = pair.outcome(claim), pair.outcome(claim)
    assert pair.store.outcomes.publish(first, [b"first"])
    assert not pair.store.outcomes.publish(second, [b"second"])
    assert pair.complete(claim) is False
    data = pair.store.outcomes.collect(receipt.invocation_id, keep=False)
    assert bytes(pair.store.outcomes.read(receipt.invocation_id, data)[1].data) == b"first"


def test_the_first_outcome_stands_without_hard_links(pair):
    """Two workers between whose checks nothing lies: with files, the later one would win."""
    pair.fs.inject(Fault.fail(errno.EPERM, verb="link", at=None))
    receipt = pair.publish(keep=True)
    claim = pair.worker.claim(receipt.path)
    assert pair.store.outcomes.publish(pair.outcome(claim), [b"first"])
    assert not pair.store.outcomes.publish(pair.outcome(claim), [b"second"])
    assert pair.complete(claim) is False
    data = pair.store.outcomes.collect(receipt.invocation_id, keep=True)
    assert bytes(pair.store.outcomes.read(receipt.invocation_id, data)[1].data) == b"first"
    kept = pair.store.layout.kept(receipt.invocation_id)
    assert is_link(kept)
    os.unlink(kept)
    os.rmdir(os.path.dirname(kept))


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENAMETOOLONG, errno.EINVAL])
def test_a_host_that_cannot_make_links_writes_files(pair, code):
    pair.fs.inject(Fault.fail(code, verb="symlink"))
    receipt = pair.publish()
    assert not is_link(receipt.path)
    assert pair.complete(pair.worker.claim(receipt.path))
    assert not is_link(pair.store.layout.done(receipt.invocation_id))
    assert pair.fs.count("symlink") == 1, "it is not tried again"
    assert pair.store.outcomes.collect(receipt.invocation_id, keep=False)


# -- spools of one kind and of the other -----------------------------------------------------------


def test_an_older_version_refuses_a_spool_with_links(spool, tmp_path):
    """It accepts one format number only."""
    assert open_store(spool, records="links").files.info.format == LINKS_FORMAT
    assert open_store(tmp_path / "files", records="files").files.info.format == FORMAT


def test_links_are_chosen_on_a_network_filesystem_and_where_there_are_no_hard_links(tmp_path):
    def kind(name, fs):
        return open_store(tmp_path / name, fs, records="auto").files.info.longest_link

    assert kind("local", FaultyFilesystem()) == 0
    assert kind("remote", FaultyFilesystem(remote=True)) > 1000
    bare = FaultyFilesystem([Fault.fail(errno.EPERM, verb="link", at=None)])
    assert kind("without", bare) > 1000


def test_an_existing_spool_stays_as_it_was_made(spool):
    open_store(spool, records="files")
    assert open_store(spool, records="auto").files.info.longest_link == 0
    with pytest.raises(SpoolError, match="use a new folder"):
        open_store(spool, records="links")


def test_a_process_that_writes_files_reads_links(pair, spool):
    other = open_store(spool, records="files")
    receipt = pair.publish()
    assert other.calls.read(receipt.path, AttemptName(receipt.invocation_id, 1))[1].data == b"args"
    assert pair.complete(pair.worker.claim(receipt.path))
    assert other.outcomes.collect(receipt.invocation_id, keep=False)


def test_links_survive_a_power_cut_only_where_the_server_keeps_them(spool):
    """This machine's own filesystems do not promise to commit a link before they return."""
    with opened_pair(spool, FaultyFilesystem(durable=True), records="links") as pair:
        receipt = pair.publish()
        assert not is_link(receipt.path)
        assert pair.complete(pair.worker.claim(receipt.path))


# -- what others put there -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["/etc/passwd", "../x", "fsqueue-record:~~~~~", "fsqueue-record:\udcff"],
)
def test_a_foreign_link_is_refused_and_never_followed(tmp_path, text):
    path = str(tmp_path / "record")
    os.symlink(text, path)
    for link_first in (True, False):
        with pytest.raises(EnvelopeError):
            Filesystem().read_content(path, lambda *_: [], link_first=link_first)


def test_a_copy_with_links_is_the_same_spool(pair, spool, tmp_path):
    """As `cp -a` makes it."""
    receipt = pair.publish()
    shutil.copytree(spool, tmp_path / "copy", symlinks=True)
    copy = open_store(tmp_path / "copy", records="auto")
    path = receipt.path.replace(spool, str(tmp_path / "copy"))
    assert copy.calls.read(path, AttemptName(receipt.invocation_id, 1))[1].data == b"args"
    assert pair.complete(pair.worker.claim(receipt.path))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_a_second_user_reads_no_link(pair):
    """A link has no mode of its own, so the folders must keep others out."""
    receipt = pair.publish()
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                os.readlink(receipt.path)
            except PermissionError:
                status = 0
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pair.complete(pair.worker.claim(receipt.path))
