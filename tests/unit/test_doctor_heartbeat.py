"""Heartbeats between two examinations."""

import errno
import threading

import pytest
from support import wait_until

from fsqueue.doctor.heartbeat import QUIET, Heartbeat, PartnerLostError
from fsqueue.doctor.workspace import Workspace, workspace
from fsqueue.testing import Fault, FaultyFilesystem


@pytest.fixture
def fs():
    return FaultyFilesystem(remote=True)


@pytest.fixture
def pair(tmp_path, fs):
    """The heartbeats of two hosts, each with its own workspace."""
    other_fs = FaultyFilesystem(remote=True)
    with workspace(str(tmp_path), fs) as mine, workspace(str(tmp_path), other_fs) as theirs:
        yield (
            Heartbeat(mine, Workspace(fs, mine.root, theirs.token), mine.token, theirs.token),
            Heartbeat(theirs, Workspace(other_fs, mine.root, mine.token), theirs.token, mine.token),
        )


def check_for(heartbeat, fs, seconds):
    """Check once a second, for this many seconds."""
    for _ in range(seconds):
        fs.clock_offset += 1
        heartbeat.check()


def test_an_examination_that_beats_is_there_and_one_that_stops_is_lost(pair, fs):
    heartbeat, other = pair
    ended = threading.Event()
    beating = threading.Thread(target=other.beat, args=(ended,))
    beating.start()
    try:
        for _ in range(2):
            seen = wait_until(lambda: beats_in(heartbeat))
            check_for(heartbeat, fs, int(QUIET))
            wait_until(lambda seen=seen: beats_in(heartbeat) - seen)
    finally:
        ended.set()
        beating.join()
    check_for(heartbeat, fs, int(QUIET))
    with pytest.raises(PartnerLostError, match="was silent for 15 s"):
        check_for(heartbeat, fs, 2)


def beats_in(heartbeat):
    return {name for name in heartbeat.mine.fs.names(heartbeat.mine.folder) if ".beat." in name}


def test_an_examination_that_never_beats_is_lost(pair, fs):
    heartbeat, _ = pair
    with pytest.raises(PartnerLostError, match="was silent for 15 s"):
        check_for(heartbeat, fs, int(QUIET) + 2)


def test_a_directory_that_hangs_does_not_count_as_silence(pair, fs):
    heartbeat, _ = pair
    for _ in range(3):
        fs.clock_offset += 100
        heartbeat.check()


@pytest.mark.parametrize(
    ("reasons", "seen"),
    [
        (["it failed", "it was killed"], "the other examiner has left: it failed; start"),
        (["", "it was killed"], "the other examiner has left; start"),
        (["it was killed"], "the other examiner has left: it was killed; start"),
    ],
)
def test_the_first_reason_for_leaving_counts(pair, reasons, seen):
    heartbeat, other = pair
    heartbeat.check()
    for reason in reasons:
        other.leave(reason)
    with pytest.raises(PartnerLostError, match=seen):
        heartbeat.check(at_once=True)


def test_errors_of_a_heartbeat_do_no_harm(pair):
    heartbeat, other = pair
    other.theirs.fs.inject(Fault.fail(errno.EIO, at=None, path="beat"))
    one = threading.Thread(target=other.beat, args=(ended := threading.Event(),))
    one.start()
    ended.set()
    one.join()
    other.theirs.fs.inject(Fault.fail(errno.EIO, at=None, path="left"))
    other.leave("it failed")
    heartbeat.check(at_once=True)


def test_a_process_that_is_gone_is_seen_at_once(pair):
    heartbeat, _ = pair
    heartbeat.alive = lambda: False
    with pytest.raises(PartnerLostError, match="has left"):
        heartbeat.check()
