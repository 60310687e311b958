"""The filesystem that injects faults, which other tests rely on."""

from __future__ import annotations

import errno
import os

import pytest

from fsqueue.testing import Fault, FaultyFilesystem


@pytest.fixture
def fs() -> FaultyFilesystem:
    return FaultyFilesystem()


def test_a_fault_strikes_the_call_it_is_meant_for(fs, tmp_path):
    fs.inject(Fault.fail(errno.ESTALE, at=2, verb="stat", path="b"))
    fs.exists(str(tmp_path / "b"))
    fs.exists(str(tmp_path / "a"))
    fs.names(str(tmp_path / "b"))
    with pytest.raises(OSError, match="Stale") as caught:
        fs.exists(str(tmp_path / "b"))
    assert caught.value.errno == errno.ESTALE
    fs.exists(str(tmp_path / "b"))
    assert fs.count() == 5
    assert fs.count("stat") == 4


@pytest.mark.parametrize(
    ("verb", "error"),
    [
        ("rename", FileNotFoundError),
        ("link", FileExistsError),
        ("mkdir", FileExistsError),
        ("unlink", FileNotFoundError),
        ("rmdir", FileNotFoundError),
    ],
)
def test_a_lost_reply_looks_like_the_answer_to_a_repetition(fs, tmp_path, verb, error):
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    if verb in {"rename", "link", "unlink"}:
        fs.create(old, [])
    paths = (old, new) if verb in {"rename", "link"} else (old,)
    if verb == "rmdir":
        os.mkdir(old)
    fs.inject(Fault.lost_reply())
    with pytest.raises(error):
        fs._call(verb, getattr(os, verb), *paths)
    expected = {"rename": ["new"], "link": ["new", "old"], "mkdir": ["old"]}.get(verb, [])
    assert sorted(os.listdir(tmp_path)) == expected
    assert fs.trace == [(verb, *paths, *[""] * (2 - len(paths)))]


def test_a_stale_listing_is_the_one_before(fs, tmp_path):
    fs.inject(Fault.stale(at=2))
    assert fs.names(str(tmp_path)) == []
    (tmp_path / "new").touch()
    assert fs.names(str(tmp_path)) == []
    assert fs.names(str(tmp_path)) == ["new"]


def test_the_trace_names_files_behind_handles(fs, tmp_path):
    path = str(tmp_path / "file")
    fs.create(path, [b"x"])
    assert fs.trace == [("create", path, ""), ("write", path, ""), ("close", path, "")]
    assert fs.count("write", "close") == 2
