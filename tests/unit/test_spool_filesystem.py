from __future__ import annotations

import errno
import os
import stat
import sys
import tracemalloc

import pytest

from fsqueue.errors import EnvelopeError
from fsqueue.spool.disk.content import Piece
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.disk.mounts import Mount, filesystem_type, is_remote
from fsqueue.testing import Fault, FaultyFilesystem

MIB = 1 << 20


@pytest.fixture
def fs() -> FaultyFilesystem:
    return FaultyFilesystem()


# -- files and folders ------------------------------------------------------------------------


def test_a_file_is_written_whole_and_private(fs, tmp_path):
    path = str(tmp_path / "file")
    chunks = [b"%d," % number for number in range(200)] + [b"", memoryview(b"end")]
    fs.create(path, chunks)
    assert fs.read(path) == b"".join(chunks)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_file_is_never_written_over(fs, tmp_path):
    path = str(tmp_path / "file")
    fs.create(path, [b"first"])
    with pytest.raises(FileExistsError):
        fs.create(path, [b"second"])
    assert fs.read(path) == b"first"


@pytest.mark.parametrize("verb", ["create", "write", "close"])
@pytest.mark.parametrize("kind", [Fault.fail, Fault.lost_reply])
def test_a_file_that_could_not_be_written_is_removed(fs, tmp_path, verb, kind):
    opened = len(os.listdir("/proc/self/fd"))
    fs.inject(kind(code=errno.ENOSPC, verb=verb))
    with pytest.raises(OSError, match="No space left"):
        fs.create(str(tmp_path / "file"), [b"content"])
    happened = verb == "create" and kind == Fault.lost_reply  # nobody can know that
    assert len(os.listdir(tmp_path)) == happened
    if verb != "close":
        assert len(os.listdir("/proc/self/fd")) == opened


def test_what_is_no_regular_file_is_not_read(fs, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "target").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "link", "folder"):
        with pytest.raises(EnvelopeError, match="not a regular file"):
            fs.read(str(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        fs.read(str(tmp_path / "missing"))


def test_listing(fs, tmp_path):
    assert fs.names(str(tmp_path / "missing")) == []
    for number in range(5):
        (tmp_path / str(number)).touch()
    assert fs.names(str(tmp_path / "1")) == []
    assert sorted(fs.names(str(tmp_path))) == list("01234")
    assert len(fs.names(str(tmp_path), limit=3)) == 3


@pytest.mark.parametrize("remote", [False, True])
def test_a_fresh_listing_touches_a_remote_folder_only(tmp_path, remote):
    fs = FaultyFilesystem(remote=remote)
    fs.names(str(tmp_path), fresh=True)
    assert fs.count("utime") == remote


def test_a_name_that_an_nfs_client_takes_for_missing_is_asked_for_anew(tmp_path):
    """The listing may come from the client's cache, which does not correct that of names."""
    (tmp_path / "name").touch()
    fs = FaultyFilesystem(remote=True, asks_at_open=True)
    assert fs.names(str(tmp_path), fresh=True) == ["name"]
    fs.inject(Fault.fail(errno.ENOENT, verb="stat"))
    assert fs.is_there(str(tmp_path / "name"))
    touched = [operation.path for operation in fs.trace if operation.verb == "utime"]
    assert touched == [str(tmp_path)]


def test_folders(fs, tmp_path):
    deep = str(tmp_path / "a" / "b" / "c")
    fs.make_folders(deep)
    fs.make_folders(deep)
    assert stat.S_IMODE(os.stat(deep).st_mode) == 0o700
    assert not fs.rmdir(str(tmp_path / "a"))
    assert fs.rmdir(deep)
    assert fs.rmdir(deep)


def test_lost_replies_do_no_harm_to_folders_and_removals(fs, tmp_path):
    folder, file = str(tmp_path / "a" / "b"), str(tmp_path / "file")
    fs.inject(Fault.lost_reply(at=None))
    fs.make_folders(folder)
    assert os.path.isdir(folder)
    assert fs.rmdir(folder)
    assert not os.path.lexists(folder)
    fs.inject()
    fs.create(file, [])
    fs.inject(Fault.lost_reply(at=None))
    fs.discard(file)
    assert not os.path.lexists(file)


def test_rmdir_tells_errors_from_use(fs, tmp_path):
    fs.inject(Fault.fail(errno.EACCES))
    with pytest.raises(PermissionError):
        fs.rmdir(str(tmp_path))


def test_names_of_one_file(fs, tmp_path):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert fs.link_count(one) == 0
    assert not fs.exists(one)
    fs.create(one, [])
    fs.link(one, two)
    assert fs.link_count(one) == 2
    assert fs.exists(two)
    fs.rename(one, str(tmp_path / "three"))
    fs.discard(one)
    with pytest.raises(FileNotFoundError):
        fs.unlink(one)


def test_touch_makes_a_file_and_a_ring_does_not(fs, tmp_path):
    path = str(tmp_path / "bell")
    fs.ring(path)
    assert not os.path.lexists(path)
    fs.touch(path)
    os.utime(path, (1.0, 1.0))
    fs.ring(path)
    assert fs.modified(path) > 1.0


def test_locks(fs, tmp_path):
    path = str(tmp_path / "lock")
    held = fs.lock(path)
    assert held is not None
    assert Filesystem().lock(path) is None
    held.release()
    again = fs.lock(path)
    assert again is not None
    again.release()


def test_a_filesystem_without_locks_is_no_error(fs, tmp_path):
    fs.inject(Fault.fail(errno.ENOLCK, verb="lock", path="lock"))
    assert fs.lock(str(tmp_path / "lock")) is None
    fs.inject(Fault.fail(errno.EIO, verb="lock"))
    with pytest.raises(OSError, match="Input/output"):
        fs.lock(str(tmp_path / "lock"))


@pytest.mark.parametrize("remote", [False, True])
def test_a_fresh_look_touches_the_folder_on_a_network_filesystem_only(tmp_path, remote):
    fs = FaultyFilesystem(remote=remote)
    path = str(tmp_path / "name")
    assert not fs.exists(path, fresh=True)
    with pytest.raises(FileNotFoundError):
        fs.read(path, fresh=True)
    assert not fs.exists(str(tmp_path / "missing" / "name"), fresh=True)
    touched = [operation.path for operation in fs.trace if operation.verb == "utime"]
    assert touched == [str(tmp_path), str(tmp_path), str(tmp_path / "missing")][: 3 * remote]


@pytest.mark.parametrize("remote", [False, True])
def test_a_recall_opens_for_writing_on_a_network_filesystem_and_changes_nothing(tmp_path, remote):
    fs = FaultyFilesystem(remote=remote)
    (tmp_path / "call").write_bytes(b"content")
    before = (tmp_path / "call").stat().st_mtime_ns
    fs.recall(str(tmp_path / "call"))
    assert fs.count("open") == remote
    fs.recall(str(tmp_path / "missing"))
    os.mkfifo(tmp_path / "fifo")
    fs.recall(str(tmp_path / "fifo"))
    assert (tmp_path / "call").read_bytes() == b"content"
    assert (tmp_path / "call").stat().st_mtime_ns == before
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("remote", [False, True])
def test_letting_go_sets_the_mode_that_is_there_and_harms_nothing(tmp_path, remote):
    """A Linux NFS client gives back what it keeps of a file before it sets its mode."""
    fs = FaultyFilesystem(remote=remote)
    path = tmp_path / "call"
    path.write_bytes(b"content")
    path.chmod(0o640)
    before = path.stat()
    fs.let_go(str(path))
    assert fs.count("chmod") == remote
    fs.inject(Fault.fail(errno.EPERM, verb="chmod"))  # in a group it may be another one's
    fs.let_go(str(path))
    after = path.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    fs.let_go(str(tmp_path / "missing"))
    private = tmp_path / "private"
    private.write_bytes(b"")
    private.chmod(0o600)
    (tmp_path / "link").symlink_to(private)
    fs.inject()
    fs.let_go(str(tmp_path / "link"))
    fs.let_go(str(tmp_path))
    assert fs.count("chmod") == 0


@pytest.mark.parametrize("remote", [False, True])
def test_a_folder_that_the_server_does_not_know_is_gone(tmp_path, remote):
    fs = FaultyFilesystem(remote=remote)
    assert fs.has_folder(str(tmp_path))
    assert not fs.has_folder(str(tmp_path / "missing"))
    assert fs.count("utime") == 2 * remote


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no /dev/shm")
def test_types_of_filesystems():
    assert filesystem_type("/dev/shm/anything") == "tmpfs"
    assert not is_remote("/dev/shm")


@pytest.mark.skipif(sys.platform != "linux", reason="the clients of other systems were not tried")
@pytest.mark.parametrize(
    ("kind", "options", "asks"),
    [
        ("nfs", "rw,vers=3", True),
        ("nfs4", "rw,vers=4.2,actimeo=60", True),
        ("nfs4", "rw,nocto", False),
        ("lustre", "rw", False),
        ("fuse.sshfs", "rw", False),
        ("ext4", "rw", False),
    ],
)
def test_only_nfs_asks_the_server_when_a_folder_is_opened(kind, options, asks):
    line = f"36 35 0:42 / /mnt {options} shared:1 - {kind} server:/x {options}"
    assert Mount.parse(line).asks_at_open is asks


# -- content in pieces ------------------------------------------------------------------------


def in_pieces(*pieces):
    return lambda beginning, where: [Piece(*piece) for piece in pieces]


def test_a_large_file_is_read_in_the_pieces_that_its_beginning_tells(fs, tmp_path):
    path, seen = str(tmp_path / "file"), []
    chunks = [b"head", b"a" * MIB, bytearray(b"b" * MIB), b"", b"tail"]
    fs.create(path, chunks)

    def pieces(beginning, where):
        seen.append((beginning[:5], where))
        return in_pieces((4,), (MIB,), (MIB, True), (0,), (4, True))(beginning, where)

    content = fs.read_content(path, pieces)
    assert content == chunks
    assert [type(each) for each in content] == [bytes, bytes, bytearray, bytes, bytearray]
    assert seen == [(b"heada", path)]


def test_a_small_file_is_read_at_once(fs, tmp_path):
    fs.create(str(tmp_path / "file"), [b"content"])
    assert fs.read_content(str(tmp_path / "file"), in_pieces((1,), (6,))) == [b"content"]


@pytest.mark.parametrize("pieces", [[(MIB,)], [(MIB,), (MIB,)], [(MIB,), (10**14, True)]])
def test_a_large_file_of_another_length_is_refused_before_memory_is_taken(fs, tmp_path, pieces):
    fs.create(str(tmp_path / "file"), [b"a" * MIB, b"b"])
    tracemalloc.start()
    try:
        with pytest.raises(EnvelopeError, match="1048577 bytes instead of"):
            fs.read_content(str(tmp_path / "file"), in_pieces(*pieces))
        assert tracemalloc.get_traced_memory()[1] < MIB / 2
    finally:
        tracemalloc.stop()


def test_a_large_file_that_is_truncated_while_it_is_read(fs, tmp_path):
    path = str(tmp_path / "file")

    def pieces(beginning, where):
        os.truncate(path, MIB + 1)
        return in_pieces((MIB,), (MIB, True))(beginning, where)

    fs.create(path, [b"a" * 2 * MIB])
    with pytest.raises(EnvelopeError, match=f"{MIB + 1} bytes instead of {2 * MIB}"):
        fs.read_content(path, pieces)


def test_pieces_are_read_to_where_they_stay(fs, tmp_path):
    path = str(tmp_path / "file")
    fs.create(path, [b"a" * 8 * MIB])
    tracemalloc.start()
    try:
        fs.read_content(path, in_pieces((10,), (4 * MIB,), (4 * MIB - 10, True)))
        assert tracemalloc.get_traced_memory()[1] < 8.5 * MIB
    finally:
        tracemalloc.stop()


def test_a_record_is_never_large(fs, tmp_path):
    fs.create(str(tmp_path / "file"), [b"a" * (MIB + 1)])
    with pytest.raises(EnvelopeError, match="1048577 bytes instead of 1048576"):
        fs.read(str(tmp_path / "file"))


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_another_client_removes_during_a_listing(tmp_path, monkeypatch, there):
    """An NFS client says ESTALE then; it takes another client at the right moment."""
    folder = tmp_path / "slot"
    folder.mkdir()
    (folder / "name").touch()
    real = os.listdir

    def listdir(handle):
        monkeypatch.setattr(os, "listdir", real)
        if not there:
            (folder / "name").unlink()
            folder.rmdir()
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "listdir", listdir)
    assert Filesystem().names(str(folder)) == (["name"] if there else [])
