"""The clock of the file server, and the times of files."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time

import pytest

from fsqueue.errors import SpoolError
from fsqueue.spool.disk import reading
from fsqueue.spool.disk.clock import ServerClock
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.testing import FaultyFilesystem


@pytest.fixture
def fs() -> FaultyFilesystem:
    return FaultyFilesystem()


class AheadByAnHour(FaultyFilesystem):
    """Its server's clock is ahead of this host's."""

    def modified(self, path: str) -> float:
        return super().modified(path) + 3600.0


def test_the_clock_is_the_servers(tmp_path):
    fs = AheadByAnHour()
    clock = ServerClock(fs)
    assert clock.age == float("inf")
    with pytest.raises(SpoolError, match="not been read yet"):
        clock.now()
    clock.sync(str(tmp_path / "mine"))
    assert 3595.0 < clock.now() - os.stat(tmp_path / "mine").st_mtime < 3630.0
    before = clock.now()
    fs.clock_offset += 100.0
    assert 100.0 <= clock.now() - before < 130.0
    assert 100.0 <= clock.age < 130.0


def test_the_clock_asks_the_server_and_never_this_host(tmp_path, fs, monkeypatch):
    def refuse() -> float:
        raise AssertionError("this host's clock was read")

    monkeypatch.setattr(time, "time", refuse)
    monkeypatch.setattr(time, "time_ns", refuse)
    clock = ServerClock(fs)
    clock.sync(str(tmp_path / "mine"))
    clock.now()
    fs.inject()
    clock.sync(str(tmp_path / "mine"))
    assert [operation.verb for operation in fs.trace] == ["utime", "fstat"]


class WithStatx(Filesystem):
    """Asks the file server by a system call that the test makes, or that is not there."""

    def __init__(self, statx):
        super().__init__()
        self._statx = statx

    def modified(self, path):
        return self._call("fstat", reading.mtime, path, lambda: self._statx)


@pytest.mark.parametrize("asks", [True, False])
def test_a_files_time_is_that_of_a_stat_and_a_links_is_its_own(tmp_path, asks):
    """Whether or not the system has a call that makes it ask the file server."""
    fs = Filesystem() if asks else WithStatx(None)
    path = tmp_path / "beat"
    path.write_bytes(b"")
    for when in (path.stat().st_mtime, 0.0, -1.5, 1_800_000_000.123456789):
        os.utime(path, (when, when))
        assert fs.modified(str(path)) == path.stat().st_mtime
    assert fs.modified(str(tmp_path)) == tmp_path.stat().st_mtime
    os.mkfifo(tmp_path / "fifo")
    fs.modified(str(tmp_path / "fifo"))
    link = tmp_path / "link"
    link.symlink_to(path)
    os.utime(link, (7.5, 7.5), follow_symlinks=False)
    assert fs.modified(str(link)) == 7.5
    for missing in ("missing", "beat/below"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)) as error:
            fs.modified(str(tmp_path / missing))
        assert error.value.filename == str(tmp_path / missing)


@pytest.mark.parametrize("stale", [1, 2, 3])
def test_a_file_that_was_replaced_is_opened_to_see_its_time(tmp_path, monkeypatch, stale):
    """An NFS client whose name leads to a removed file says ESTALE, until it has looked it up.

    That takes another client that replaces it at the right moment: played by the system calls.
    """
    path = str(tmp_path / "beat")
    Filesystem().create(path, [])
    os.utime(path, (1.5, 1.5))
    answers = []

    def statx(*_arguments):
        answers.append("statx")
        ctypes.set_errno(errno.ESTALE)
        return -1

    opening = os.open

    def open_(name, *arguments):
        if name == path:
            answers.append("open")
            if len(answers) <= stale:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
        return opening(name, *arguments)

    fs = WithStatx(statx)
    monkeypatch.setattr(os, "open", open_)
    if stale < 3:
        assert fs.modified(path) == 1.5
    else:  # whatever is wrong there, it is not what this client remembers
        with pytest.raises(OSError, match="Stale") as caught:
            fs.modified(path)
        assert caught.value.filename == path
    assert answers == ["statx", "open", "open"][: 2 if stale == 1 else 3]


@pytest.mark.skipif(sys.platform != "linux", reason="statx(2) is Linux's")
def test_a_look_at_a_beat_opens_nothing(tmp_path):
    """An NFSv4 server lets who has opened a file keep it, dead or alive, and its owner waits."""
    path = tmp_path / "beat"
    path.write_bytes(b"")
    opened = []

    def trace(_frame, event, called):
        if event == "c_call" and called is os.open:
            opened.append(called)

    sys.setprofile(trace)
    try:
        reading.mtime(str(path))
    finally:
        sys.setprofile(None)
    assert opened == []
