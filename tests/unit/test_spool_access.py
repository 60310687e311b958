from __future__ import annotations

import grp
import os
import stat
import subprocess
import sys

import pytest
from support import open_store

from fsqueue.errors import ConfigError, EnvelopeError, SpoolError
from fsqueue.spool.disk.access import check_private_folder, group_number, key_name, read_key
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.format import envelope
from fsqueue.spool.format.records import Outcome
from fsqueue.spool.format.states import State

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
KEY, OTHER_KEY = b"k" * 64, b"o" * 64


# -- the root -----------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir(mode=0o700)
    return folder


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o2700])
def test_a_root_that_only_its_owner_writes_to(root, mode):
    root.chmod(mode)
    open_store(root)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o720, 0o702])
def test_a_root_that_others_may_write_to_is_refused_and_left_empty(root, mode):
    root.chmod(mode)
    with pytest.raises(SpoolError, match=f"chmod go-w {root}"):
        open_store(root)
    assert list(root.iterdir()) == []


@as_root
def test_a_root_of_somebody_else_is_refused(root):
    os.chown(root, 12345, -1)
    with pytest.raises(SpoolError, match="belongs to user 12345"):
        open_store(root)


def test_a_link_to_a_root_counts_as_the_root(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    open_store(tmp_path / "link")
    root.chmod(0o777)
    with pytest.raises(SpoolError, match="chmod go-w"):
        open_store(tmp_path / "link")


def test_a_private_folder_is_nobody_elses(tmp_path):
    path = tmp_path / "private"
    path.mkdir(mode=0o700)
    check_private_folder(str(path))
    path.chmod(0o755)
    with pytest.raises(SpoolError, match="not a private folder"):
        check_private_folder(str(path))
    path.chmod(0o700)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(SpoolError, match="not a private folder"):
        check_private_folder(str(tmp_path / "link"))


# -- a group that shares --------------------------------------------------------------------------

GROUP = os.getgid()


def modes(root):
    found = {}
    for where, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = os.path.join(where, name)
            found[os.path.relpath(path, root)] = stat.S_IMODE(os.stat(path).st_mode)
    return found


def use(store):
    """Make a file, a folder, a lock and a touched file in a spool."""
    store.fs.create(f"{store.layout.tmp_folder}/file", [b"content"])
    store.fs.touch(f"{store.layout.bell_folder}/touched")
    store.fs.lock(f"{store.layout.clients_folder}/locked.lock").release()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277])
@pytest.mark.parametrize(
    ("group", "file_mode", "folder_mode"), [(None, 0o600, 0o700), (GROUP, 0o660, 0o2770)]
)
def test_modes_whatever_the_umask(root, umask, group, file_mode, folder_mode):
    os.chmod(root, folder_mode)
    code = (
        "import os, sys; sys.path[:0] = sys.argv[1].split(':'); os.umask(int(sys.argv[2]));"
        "import test_spool_access as here; from fsqueue.spool.store.open_spool import open_store;"
        "from fsqueue.spool.disk.filesystem import Filesystem;"
        "here.use(open_store(sys.argv[3], Filesystem(group=eval(sys.argv[4]))))"
    )
    here = os.path.dirname(__file__)
    folders = f"{here}:{os.path.dirname(here)}"
    command = [sys.executable, "-c", code, folders, str(umask), str(root)]
    subprocess.run([*command, str(group)], check=True, timeout=60)
    found = modes(root)
    assert {"tmp/file", "bell/touched", "clients/locked.lock", "spool.json"} <= found.keys()
    wanted = {
        name: folder_mode if os.path.isdir(os.path.join(root, name)) else file_mode
        for name in found
    }
    assert found == wanted


def test_a_group_shares_what_is_its_own(root):
    root.chmod(0o770)
    open_store(root, Filesystem(group=GROUP))


@pytest.mark.parametrize(("mode", "fix"), [(0o700, "2770"), (0o777, "2770"), (0o772, "2770")])
def test_a_shared_root_is_for_its_group_alone(root, mode, fix):
    root.chmod(mode)
    with pytest.raises(SpoolError, match=f"chmod {fix} {root}"):
        open_store(root, Filesystem(group=GROUP))


def test_a_shared_root_of_another_group_is_refused(root):
    root.chmod(0o770)
    with pytest.raises(SpoolError, match=f"chgrp {GROUP + 1} {root}"):
        open_store(root, Filesystem(group=GROUP + 1))


@as_root
def test_what_is_made_belongs_to_the_group(tmp_path):
    group = GROUP + 1
    root = tmp_path / "shared"
    store = open_store(root, Filesystem(group=group))  # made by fsqueue itself
    use(store)
    for name in modes(root):
        assert os.stat(root / name).st_gid == group, name


def test_a_group_by_name_and_by_number():
    name = grp.getgrgid(GROUP).gr_name
    assert group_number(name) == group_number(str(GROUP)) == GROUP
    for unknown in ("no-such-group", "987654"):
        with pytest.raises(ConfigError, match=unknown):
            group_number(unknown)


# -- the key ------------------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(b"sixteen bytes or more\n")
    return path


def test_a_key_is_all_that_stands_in_its_file(key_file, tmp_path):
    key = read_key(key_file)
    assert len(key) == 64
    assert key == read_key(key_file)
    key_file.write_bytes(b"sixteen bytes or more")  # an editor's last newline does not matter
    assert read_key(key_file) == key
    key_file.write_bytes(b"sixteen bytes or more.")
    assert read_key(key_file) != key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601])
def test_a_key_that_others_may_touch_is_refused(key_file, mode):
    key_file.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {key_file}"):
        read_key(key_file)


@as_root
def test_a_key_of_somebody_else_is_refused(key_file):
    os.chown(key_file, 12345, -1)
    with pytest.raises(ConfigError, match="owner 12345"):
        read_key(key_file)


@pytest.mark.parametrize("content", [b"", b"\n" * 20, b"fifteen bytes..", b"x" * 4097])
def test_a_key_that_is_no_secret_is_refused(key_file, content):
    key_file.write_bytes(content)
    with pytest.raises(ConfigError, match="expected 16 to 4096"):
        read_key(key_file)


def test_a_key_that_is_no_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_key(tmp_path / "missing")
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("fifo", ""):
        with pytest.raises(ConfigError, match=r"not a regular file|Is a directory"):
            read_key(tmp_path / name)


def test_the_command_in_the_message_makes_a_key(key_file):
    key_file.write_bytes(b"short")
    with pytest.raises(ConfigError) as caught:
        read_key(key_file)
    command = str(caught.value).split("`")[1]
    key_file.unlink()
    subprocess.run(["sh", "-c", command], check=True)
    assert len(read_key(key_file)) == 64


def test_a_key_is_told_from_another_without_giving_it_away():
    assert key_name(b"", "spool") == ""
    names = {key_name(key, spool) for key in (KEY, OTHER_KEY) for spool in ("a", "b")}
    assert len(names) == 4
    assert all(KEY.hex() not in name for name in names)


# -- a spool with a key -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (KEY, b"", "FSQUEUE__SIGNING_KEY_FILE"),
        (b"", KEY, "signed from its first file on"),
        (KEY, OTHER_KEY, "another key"),
    ],
)
def test_one_spool_has_one_key(root, first, second, message):
    assert open_store(root, key=first).files.info == open_store(root, key=first).files.info
    with pytest.raises(SpoolError, match=message):
        open_store(root, key=second)


def outcome_of(spool):
    return Outcome(
        id="abcd-1",
        spool=spool,
        attempt=1,
        state=State.SUCCEEDED,
        worker="w",
        started=0.0,
        ended=0.0,
        codec="cloudpickle",
    )


@pytest.mark.parametrize(
    ("written", "read", "message"),
    [
        (b"", KEY, "is not signed, and this spool has a signing key"),
        (OTHER_KEY, KEY, "signed with another key"),
        (KEY, b"", "does not match"),
    ],
)
def test_only_what_the_key_has_signed_is_believed(written, read, message):
    data = b"".join(envelope.encode(outcome_of("spool"), [b"payload"], written))
    assert envelope.decode([data], Outcome, "here", written)[1].data == b"payload"
    with pytest.raises(EnvelopeError, match=message):
        envelope.decode([data], Outcome, "here", read)


def test_the_kind_of_a_file_is_signed_too():
    data = b"".join(envelope.encode(outcome_of("spool"), [], KEY))
    with pytest.raises(EnvelopeError, match="damaged"):
        envelope.decode([data.replace(b" outcome ", b" call ", 1)], Outcome, "here", KEY)
