"""The whole examination, where the filesystem of the first process has one fault."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from click.exceptions import Exit
from doctor_harness import command

from fsqueue.cli.maintain.doctor import command as doctor
from fsqueue.doctor.examine import examine
from fsqueue.doctor.findings import Verdict
from fsqueue.doctor.workspace import LenientFilesystem
from fsqueue.spool.disk.syscalls import Handle
from fsqueue.testing import Fault, FaultyFilesystem


@pytest.fixture
def root(spool):
    os.mkdir(spool, mode=0o700)
    yield spool
    assert os.listdir(spool) == []


class BothWin(LenientFilesystem):
    """A rename succeeds whether or not the file is there, as a copy in an object store may."""

    def rename(self, source, target):
        try:
            super().rename(source, target)
        except FileNotFoundError:
            if os.path.isdir(os.path.dirname(target)):
                self.create(target, [b""])


class WritesInPlace(LenientFilesystem):
    """A rename is a copy, piece by piece, and a slow one."""

    _PAUSE = 0.0005

    def rename(self, source, target):
        with open(source, "rb") as read, open(target, "wb", buffering=0) as write:
            while piece := read.read(512):
                write.write(piece)
                time.sleep(self._PAUSE)
        os.unlink(source)


def test_a_name_with_two_winners_is_found(root):
    report = examine(root, fs=BothWin())
    (race,) = (finding for finding in report.findings if finding.name == "rename race")
    assert race.verdict is report.verdict is Verdict.BAD
    assert race.facts["doubles"] > 0


def test_files_that_appear_in_part_are_found(root):
    # The workspace's other side, whose messages are whole, reads them.
    report = examine(root, fs=WritesInPlace())
    (seen,) = (finding for finding in report.findings if finding.name == "publication")
    assert seen.verdict is report.verdict is Verdict.BAD
    assert seen.facts["partial"] > 0


def test_two_processes_that_cannot_meet_are_a_finding(root):
    fs = FaultyFilesystem([Fault.fail(errno.EIO, verb="rename", path="/talk/")], remote=True)
    report = examine(root, fs=fs)
    assert report.findings[-1].name == "partner"
    assert report.verdict is Verdict.BAD


def test_an_operation_that_fails_is_a_finding(root):
    fs = FaultyFilesystem([Fault.fail(errno.EIO, verb="mkdir", path="/links")], remote=True)
    report = examine(root, fs=fs)
    (links,) = (finding for finding in report.findings if finding.name == "links")
    assert links.verdict is Verdict.BAD
    assert "EIO" in links.measured


def test_a_directory_where_nothing_can_be_made(root):
    fs = FaultyFilesystem([Fault.fail(errno.EACCES, verb="mkdir", at=None)], remote=True)
    report = examine(root, fs=fs)
    assert report.findings[-1].name == "writable"
    assert report.verdict is Verdict.BAD
    assert report.settings == []


def test_a_peer_that_fails_reports_it_before_it_leaves(root):
    fault = Fault.fail(errno.ESTALE, verb="fstat", path="/together/clock-")
    fs = FaultyFilesystem([fault], remote=True)
    with subprocess.Popen(
        command(root, "--peer"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        with pytest.raises(OSError, match="Stale file handle"):
            examine(root, fs=fs, peer=30)
        _, err = other.communicate(timeout=60)
    assert other.returncode == 2
    assert "the other examiner has left: it failed: [Errno 116] Stale file handle" in err


# -- a stop in the middle of a system call ----------------------------------------------------


def interrupt(function, number):
    """Signal this process when a system call returns for the `number`th time.

    Of `os.open` nobody has the file yet. A signal from outside comes there whenever opening a file
    takes long, as it does on NFS. A `Handle` calls `os.open` from C code, which is not traced: what
    returns there is its `extend`.
    """
    left = number

    def is_meant(called):
        return called is function or (
            isinstance(called.__self__, Handle) and called.__name__ == function.__name__
        )

    def trace(_frame, event, called):
        nonlocal left
        if event == "c_return" and is_meant(called):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGINT)

    sys.setprofile(trace)


def open_files(folder):
    """Files there that this process has open, removed ones too."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return [path for path in found if path.startswith(folder)]


@pytest.mark.parametrize(
    ("function", "number"),
    [
        *[(os.open, number) for number in (1, 3, 8, 13, 40, 120)],
        *[(Handle.extend, number) for number in (1, 3, 8, 13, 40, 120)],
        (os.write, 2),
        (os.stat, 9),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_stop_within_a_system_call_leaves_no_file_open(root, function, number, capsys):
    """An NFS client keeps a removed file, and so its folder, for as long as it is open."""
    before = open_files(root)
    interrupt(function, number)
    try:
        with pytest.raises(Exit) as ended:
            doctor.callback(root, peer=False, wait=120.0, profile=None, app=None, as_json=False)
    finally:
        sys.setprofile(None)
    assert ended.value.exit_code == 2
    assert "stopped" in capsys.readouterr().err
    assert open_files(root) == before
