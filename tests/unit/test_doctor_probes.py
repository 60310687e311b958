"""The probes on filesystems with one fault."""

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
    with workspace(root, FaultyFilesystem(remote=True)) as place:
        yield place
    assert os.listdir(root) == []


def test_no_links(place):
    place.fs.inject(Fault.fail(errno.EPERM, verb="link", at=None))
    finding = basics.links(place)
    assert finding.verdict is Verdict.WEAK
    assert "two workers" in finding.meaning


def test_links_that_replace(place, monkeypatch):
    monkeypatch.setattr(place.fs, "link", shutil.copyfile)
    assert basics.links(place).verdict is Verdict.BAD


def test_a_name_that_is_too_long(place):
    place.fs.inject(Fault.fail(errno.ENAMETOOLONG, verb="create", path="qqq"))
    assert basics.names(place).verdict is Verdict.BAD


def test_names_that_become_others(place, monkeypatch):
    monkeypatch.setattr(place.fs, "names", lambda *_, **__: ["OTHER"])
    assert basics.names(place).verdict is Verdict.BAD


def test_a_removal_of_a_folder_in_use(place, monkeypatch):
    monkeypatch.setattr(place.fs, "rmdir", lambda _: True)
    assert basics.folders(place).verdict is Verdict.BAD


def test_moves_into_missing_folders(place, monkeypatch):
    monkeypatch.setattr(place.fs, "rename", lambda *_: None)
    finding = basics.folders(place)
    assert finding.verdict is Verdict.BAD
    assert "missing folder" in finding.measured


@pytest.mark.parametrize("offset", [0.0, 3600.0, -3600.0])
def test_the_server_s_clock(place, monkeypatch, offset):
    modified = place.fs.modified
    monkeypatch.setattr(place.fs, "modified", lambda path: modified(path) + offset)
    finding = timing.clock(place)
    assert finding.verdict is (Verdict.WEAK if offset else Verdict.OK)
    assert abs(finding.facts["offset"] - offset) < 60


def test_coarse_times(place, monkeypatch):
    modified = place.fs.modified
    monkeypatch.setattr(place.fs, "modified", lambda path: modified(path) // 1)
    finding = timing.clock(place)
    assert finding.verdict is Verdict.WEAK
    assert finding.facts["granularity"] >= 1
