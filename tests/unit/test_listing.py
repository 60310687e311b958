"""Folders that are listed again only if they have changed."""

from __future__ import annotations

import os

import pytest

from fsqueue.spool.disk.listing import Listing
from fsqueue.testing import FaultyFilesystem


class SetClock(FaultyFilesystem):
    """Its steady clock is set by the test."""

    def monotonic(self) -> float:
        return self.clock_offset


@pytest.fixture
def fs():
    return SetClock()


def listed(fs):
    return fs.count("listdir")


def test_a_folder_that_stays_as_it_is_is_listed_twice(fs, tmp_path):
    (tmp_path / "first").touch()
    listing = Listing(fs, str(tmp_path))
    fs.inject()
    for _ in range(10):
        assert listing.names() == ["first"]
        fs.clock_offset += 3.0
    assert listed(fs) == 2
    (tmp_path / "second").touch()
    assert sorted(listing.names()) == ["first", "second"]
    assert listed(fs) == 3


def test_changes_in_one_tick_of_the_clock_are_seen(fs, tmp_path):
    listing, kept = Listing(fs, str(tmp_path)), os.stat(tmp_path)
    fs.inject()
    for number in range(5):
        (tmp_path / str(number)).touch()
        os.utime(tmp_path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        assert len(listing.names()) == number + 1
    assert listed(fs) == 5


def test_a_folder_that_comes_and_goes(fs, tmp_path):
    listing = Listing(fs, str(tmp_path / "folder"))
    fs.inject()
    for _ in range(3):
        assert listing.names() == []
        fs.clock_offset += 3.0
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "name").touch()
        assert listing.names() == ["name"]
        fs.clock_offset += 3.0
        assert listing.names() == ["name"]
        (tmp_path / "folder" / "name").unlink()
        (tmp_path / "folder").rmdir()
        fs.clock_offset += 3.0


def test_on_a_network_filesystem_each_look_is_a_listing(tmp_path):
    fs = SetClock(remote=True)
    listing = Listing(fs, str(tmp_path))
    fs.inject()
    for _ in range(5):
        listing.names()
        fs.clock_offset += 3.0
    assert listed(fs) == 5
