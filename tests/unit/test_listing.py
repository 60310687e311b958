"""Folders that are listed again only if they have changed."""

from __future__ import annotations

import os

import pytest

from fsqueue.spool.disk.cached_folders import CachedFolders
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


# -- what an NFS client has cached --------------------------------------------------------------


class Opened:
    """A folder that a process opens again and again, and its clock."""

    def __init__(self, path):
        self.path, self.now = path, 100.0
        self.folders = CachedFolders(lambda: self.now)

    def drops(self, after=0.0):
        """Whether the listing in the cache may not be current, some seconds later."""
        self.now += after
        number = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return self.folders.refresh(str(self.path), number)
        finally:
            os.close(number)


@pytest.fixture
def opened(tmp_path):
    os.utime(tmp_path, ns=(0, 1_700_000_000_123_456_789))
    return Opened(tmp_path)


def test_a_cached_listing_counts_once_it_was_read_a_tick_after_the_change(opened):
    assert [opened.drops(0.005) for _ in range(4)] == [True] * 4
    # A tick of a Linux server is over. One of other servers may not be.
    assert [opened.drops(0.02) for _ in range(4)] == [False] * 4
    assert opened.drops(0.02)
    assert [opened.drops(0.05) for _ in range(10)] == [False] * 10


def test_whatever_the_ticks_the_last_change_is_seen_when_the_longest_is_over(opened):
    assert [opened.drops(0.02) for _ in range(3)] == [True, True, False]
    assert opened.drops(0.5)
    assert not opened.drops(0.5)


def test_a_change_makes_a_cached_listing_doubtful_again(opened):
    assert [opened.drops(1.0) for _ in range(3)] == [True, True, False]
    (opened.path / "new").touch()
    assert [opened.drops(1.0) for _ in range(3)] == [True, True, False]


def test_times_in_whole_seconds_have_longer_ticks(opened):
    os.utime(opened.path, ns=(0, 1_700_000_000_000_000_000))
    assert [opened.drops(1.0) for _ in range(5)] == [True, True, True, True, False]


def test_a_cached_listing_is_dropped_once_in_a_while(opened):
    drops = [opened.drops(1.0) for _ in range(100)]
    assert 3 <= sum(drops) <= 5


def test_folders_are_known_one_by_one(opened, tmp_path_factory):
    other = Opened(tmp_path_factory.mktemp("other"))
    other.folders = opened.folders
    assert [opened.drops(1.0) for _ in range(3)] == [True, True, False]
    other.now = opened.now
    assert other.drops()
    assert not opened.drops()
