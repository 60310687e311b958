"""The probes on filesystems with one fault."""

import contextlib
import errno
import os
import shutil

import pytest

from fsqueue.doctor import basics, timing
from fsqueue.doctor.findings import Verdict
from fsqueue.doctor.workspace import workspace
from fsqueue.testing import Fault, FaultyFilesystem


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "queue"
    folder.mkdir(mode=0o700)
    return str(folder)


@pytest.fixture
def place(root):
    with on(root, FaultyFilesystem) as place:
        yield place


@contextlib.contextmanager
def on(root, kind):
    """A workspace on a filesystem of this kind, of which nothing may be left."""
    with workspace(root, kind(remote=True)) as place:
        yield place
    assert os.listdir(root) == []


class ReplacesByLinks(FaultyFilesystem):
    def link(self, source, target):
        shutil.copyfile(source, target)


class RenamesFiles(FaultyFilesystem):
    def names(self, *_, **__):
        return ["OTHER"]


class RemovesFoldersInUse(FaultyFilesystem):
    def rmdir(self, _):
        return True


class MovesAnywhere(FaultyFilesystem):
    def rename(self, *_):
        return None


class HasOtherTimes(FaultyFilesystem):
    offset, grain = 0.0, 0.0

    def modified(self, path):
        time = super().modified(path) + self.offset
        return time // self.grain * self.grain if self.grain else time


def test_no_links(place):
    place.fs.inject(Fault.fail(errno.EPERM, verb="link", at=None))
    finding = basics.links(place)
    assert finding.verdict is Verdict.WEAK
    assert "two workers" in finding.meaning


def test_links_that_replace(root):
    with on(root, ReplacesByLinks) as place:
        assert basics.links(place).verdict is Verdict.BAD


def test_a_name_that_is_too_long(place):
    place.fs.inject(Fault.fail(errno.ENAMETOOLONG, verb="create", path="qqq"))
    assert basics.names(place).verdict is Verdict.BAD


def test_names_that_become_others(root):
    with on(root, RenamesFiles) as place:
        assert basics.names(place).verdict is Verdict.BAD


def test_a_removal_of_a_folder_in_use(root):
    with on(root, RemovesFoldersInUse) as place:
        assert basics.folders(place).verdict is Verdict.BAD


def test_moves_into_missing_folders(root):
    with on(root, MovesAnywhere) as place:
        finding = basics.folders(place)
        assert finding.verdict is Verdict.BAD
        assert "missing folder" in finding.measured


@pytest.mark.parametrize("offset", [0.0, 3600.0, -3600.0])
def test_the_server_s_clock(root, offset):
    with on(root, HasOtherTimes) as place:
        place.fs.offset = offset
        finding = timing.clock(place)
        assert finding.verdict is (Verdict.WEAK if offset else Verdict.OK)
        assert abs(finding.facts["offset"] - offset) < 60


def test_coarse_times(root):
    with on(root, HasOtherTimes) as place:
        place.fs.grain = 1.0
        finding = timing.clock(place)
        assert finding.verdict is Verdict.WEAK
        assert finding.facts["granularity"] >= 1
